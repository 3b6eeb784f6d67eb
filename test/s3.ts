import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { S3Config } from '../src/config.ts'

const standard = { accessKey: 'test-access', secretKey: 'test-secret-key', bucket: 'gestalt-test' }
const region = 'us-east-1'

/** The real S3 server that the tests start: `go install github.com/versity/versitygw/cmd/versitygw@v1.8.0`. */
function program(): string | undefined {
  const candidates = ['versitygw', join(homedir(), 'go/bin/versitygw')]
  return candidates.find((name) => spawnSync(name, ['--version']).status === 0)
}

/** Whether one can be started here, to be killed or to be without room. */
export const hasOwnS3 = program() !== undefined

/** Whether there is an S3 server to test with; without one those tests are skipped. */
export const hasS3 = Boolean(process.env.S3_TEST_ENDPOINT) || hasOwnS3

function freePort(): Promise<number> {
  return new Promise((done) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number }
      server.close(() => done(port))
    })
  })
}

async function answers(port: number): Promise<void> {
  for (let waited = 0; waited < 200; waited++) {
    if (await fetch(`http://127.0.0.1:${port}/`).then(Boolean, () => false)) return
    await sleep(50)
  }
  throw new Error('versitygw does not answer')
}

/** A server of our own, which may die and come back with what it holds. */
export interface OwnS3 {
  config: S3Config
  kill(): Promise<void>
  start(): Promise<void>
  stop(): void
}

/** `root`: where it keeps what it is given. `readOnly`: it takes nothing. The bucket is made. */
export async function startServer(
  options: { root?: string; readOnly?: boolean; keys?: typeof standard } = {},
): Promise<OwnS3> {
  const { accessKey, secretKey, bucket } = options.keys ?? standard
  const root = options.root ?? mkdtempSync(join(tmpdir(), 'gestalt-s3-'))
  for (const name of [`data/${bucket}`, 'sidecar']) mkdirSync(join(root, name), { recursive: true })
  const port = await freePort()
  const args = ['--port', `127.0.0.1:${port}`, '--quiet', '--access', accessKey, '--secret', secretKey]
  if (options.readOnly) args.push('--readonly')
  const backend = ['posix', '--sidecar', join(root, 'sidecar'), join(root, 'data')]
  let child: ChildProcess | undefined
  const server: OwnS3 = {
    config: { endPoint: '127.0.0.1', port, useSSL: false, region, bucket, accessKey, secretKey, pathStyle: true },
    async start() {
      child = spawn(program()!, [...args, ...backend], { stdio: 'ignore' })
      await answers(port)
    },
    async kill() {
      const dead = child && once(child, 'exit')
      child?.kill('SIGKILL')
      await dead
    },
    stop() {
      child?.kill('SIGKILL')
      if (!options.root) rmSync(root, { recursive: true, force: true })
    },
  }
  try {
    await server.start()
  } catch (error) {
    server.stop()
    throw error
  }
  return server
}

/** The server of S3_TEST_ENDPOINT (with a bucket named gestalt-test), or one of our own. */
export async function testS3(): Promise<{ config: S3Config; stop(): void }> {
  const endpoint = process.env.S3_TEST_ENDPOINT
  if (!endpoint) return startServer()
  const { hostname, port, protocol } = new URL(endpoint)
  const useSSL = protocol === 'https:'
  const config: S3Config = {
    endPoint: hostname,
    port: Number(port) || (useSSL ? 443 : 80),
    useSSL,
    region: process.env.S3_TEST_REGION ?? region,
    bucket: process.env.S3_TEST_BUCKET ?? standard.bucket,
    accessKey: process.env.S3_TEST_ACCESS_KEY ?? '',
    secretKey: process.env.S3_TEST_SECRET_KEY ?? '',
    pathStyle: true,
  }
  return { config, stop: () => {} }
}
