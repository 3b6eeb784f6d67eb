import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import type { TestProject } from 'vitest/node'
import { startPostgres } from '../src/store/embedded-postgres.ts'
import { migrate } from '../src/store/migrate.ts'

declare module 'vitest' {
  interface ProvidedContext {
    postgresUrl: string
    redisUrl: string
  }
}

const template = 'gestalt_template'

async function embedded(): Promise<{ url: string; stop(): Promise<void> }> {
  const home = mkdtempSync(join(tmpdir(), 'gestalt-test-'))
  const server = await startPostgres({ home })
  const stop = async () => {
    await server.stop()
    for (const folder of [server.directory, home]) rmSync(folder, { recursive: true, force: true })
  }
  return { url: server.url, stop }
}

/**
 * One PostgreSQL for the whole run of tests, with a migrated template that each test database is cloned from: the
 * embedded one, or the one of POSTGRES_TEST_URL (an account that may create databases) to test another version.
 */
async function startTestPostgres() {
  const server = process.env.POSTGRES_TEST_URL
    ? { url: process.env.POSTGRES_TEST_URL, stop: async () => {} }
    : await embedded()
  const client = new pg.Client(server.url)
  await client.connect()
  await client.query(`DROP DATABASE IF EXISTS ${template}`)
  await client.query(`CREATE DATABASE ${template}`)
  await client.end()
  const url = new URL(server.url)
  url.pathname = `/${template}`
  await migrate(url.href)
  return server
}

function freePort(): Promise<number> {
  return new Promise((done) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number }
      server.close(() => done(port))
    })
  })
}

/** A Redis without files, where `redis-server` is installed and none is named by REDIS_TEST_URL. */
async function startTestRedis() {
  if (process.env.REDIS_TEST_URL || spawnSync('redis-server', ['--version']).status !== 0)
    return { url: '', stop: () => {} }
  const port = await freePort()
  const args = ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no']
  const child = spawn('redis-server', args, { stdio: ['ignore', 'pipe', 'ignore'] })
  await new Promise<void>((done, fail) => {
    child.once('exit', (code) => fail(new Error(`redis-server ended with ${code}`)))
    child.stdout.on('data', (bytes: Buffer) => /Ready to accept connections/.test(String(bytes)) && done())
  })
  return { url: `redis://127.0.0.1:${port}`, stop: () => void child.kill() }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const [postgres, redis] = await Promise.all([startTestPostgres(), startTestRedis()])
  project.provide('postgresUrl', postgres.url)
  project.provide('redisUrl', redis.url)
  return async () => {
    redis.stop()
    await postgres.stop()
  }
}
