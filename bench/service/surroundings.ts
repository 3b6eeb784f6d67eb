import { type ChildProcess, fork, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { startPostgres } from '../../src/store/embedded-postgres.ts'
import { hasS3, testS3 } from '../../test/s3.ts'

export const shapes = ['embedded', 'production'] as const
export type Shape = (typeof shapes)[number]

export interface Surroundings {
  /** Of the processes of the service. */
  environment: Record<string, string>
  databaseUrl: string
  redisUrl: string | undefined
  close(): Promise<void>
}

const entry = fileURLToPath(new URL('../../bin/gestalt.js', import.meta.url))

export function freePort(): Promise<number> {
  return new Promise((done) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number }
      server.close(() => done(port))
    })
  })
}

/** As docker-compose.yml runs it: with an append-only file. */
async function startRedis(folder: string): Promise<{ url: string; process: ChildProcess }> {
  const port = await freePort()
  const args = ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'yes', '--dir', folder]
  const child = spawn('redis-server', args, { stdio: ['ignore', 'pipe', 'ignore'] })
  await new Promise<void>((done, fail) => {
    child.once('exit', (code) => fail(new Error(`redis-server ended with ${code}`)))
    child.stdout.on('data', (bytes: Buffer) => /Ready to accept connections/.test(String(bytes)) && done())
  })
  return { url: `redis://127.0.0.1:${port}`, process: child }
}

/** What the shape lacks on this machine; undefined where it can be measured. */
export function lacks(shape: Shape): string | undefined {
  if (shape === 'embedded') return undefined
  if (spawnSync('redis-server', ['--version']).status !== 0) return 'redis-server is not installed'
  return hasS3 ? undefined : 'there is no S3 server (versitygw, or S3_TEST_ENDPOINT)'
}

/**
 * The services around the processes of the shape. Both have a PostgreSQL of the same make and settings; in production
 * shape the queue is in Redis and objects are in S3.
 */
export async function surround(shape: Shape): Promise<Surroundings> {
  const home = mkdtempSync(join(tmpdir(), 'gestalt-bench-'))
  const server = await startPostgres({ home })
  const redis = shape === 'production' ? await startRedis(home) : undefined
  const s3 = shape === 'production' ? await testS3() : undefined
  const store = s3 && {
    S3_ENDPOINT: `http://${s3.config.endPoint}:${s3.config.port}`,
    S3_BUCKET: s3.config.bucket,
    S3_ACCESS_KEY: s3.config.accessKey,
    S3_SECRET_KEY: s3.config.secretKey,
    S3_REGION: s3.config.region,
  }
  const environment = { DATABASE_URL: server.url, ...(redis && { REDIS_URL: redis.url }), ...store }
  return {
    environment: { GESTALT_HOME: join(home, 'gestalt'), GESTALT_PORT: '0', ...environment },
    databaseUrl: server.url,
    redisUrl: redis?.url,
    async close() {
      redis?.process.kill()
      s3?.stop()
      await server.stop()
      for (const folder of [server.directory, home]) rmSync(folder, { recursive: true, force: true })
    },
  }
}

const plain = { PATH: process.env.PATH, HOME: process.env.HOME }

/** An API process that answers. */
export async function startApi(
  environment: Record<string, string>,
): Promise<{ url: string; stop(): Promise<unknown> }> {
  const folder = mkdtempSync(join(tmpdir(), 'gestalt-bench-log-'))
  const log = openSync(join(folder, 'api.log'), 'a')
  const child = fork(entry, ['api'], { env: { ...plain, ...environment }, stdio: ['ignore', log, log, 'ipc'] })
  closeSync(log)
  const [message] = await Promise.race([once(child, 'message'), once(child, 'exit')])
  const { type, url } = (message ?? {}) as { type?: string; url?: string }
  if (type !== 'ready' || !url) throw new Error(`the API did not start: ${readFileSync(join(folder, 'api.log'))}`)
  const stop = async () => {
    child.kill('SIGTERM')
    await once(child, 'exit')
    rmSync(folder, { recursive: true, force: true })
  }
  return { url, stop }
}

/** Seconds from `gestalt up` in an empty folder, or with an empty database, until the API takes requests. */
export async function coldStart(environment: Record<string, string>): Promise<number> {
  const began = performance.now()
  const env = { ...plain, ...environment }
  const child = spawn(process.execPath, [entry, 'up'], { env, stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = once(child, 'exit')
  const seconds = await new Promise<number>((done, fail) => {
    let said = ''
    child.stdout.on('data', (bytes: Buffer) => {
      said += String(bytes)
      if (/serving at http/.test(said)) done((performance.now() - began) / 1000)
    })
    ended.then(() => fail(new Error(`'gestalt up' did not come up: ${said}`)))
  })
  child.kill('SIGTERM')
  await ended
  return seconds
}
