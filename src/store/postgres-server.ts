import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import {
  chownSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { Damaged, GestaltError, NoRoom, Unavailable } from '../errors.ts'
import { commandOf, isAlive } from './home-lock.ts'
import type { Place } from './postgres-place.ts'

/** Only what Postgres needs: no PG* variables of the person who starts it, which would change where it listens. */
const environment = { LC_ALL: 'C', TZ: 'UTC', PATH: '/usr/bin:/bin' }

function freePort(): Promise<number> {
  return new Promise((done, fail) => {
    const server = createServer()
    server.once('error', fail)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number }
      server.close(() => done(port))
    })
  })
}

/** What a failed start means, from the words of the server. */
function translate(what: string, words: string, cause?: unknown): GestaltError {
  const last = words.trim().split('\n').slice(-5).join(' | ')
  if (/No space left on device|Disk quota exceeded/.test(words))
    return new NoRoom(`${what}: no space left on the device`, 'free some disk space and start again', { cause })
  return new Unavailable(`${what}: ${last}`, 'read the log named here, or set DATABASE_URL to a server of your own', {
    cause,
  })
}

function start(place: Place, program: string, args: string[], log: number): ChildProcess {
  return spawn(join(place.binaries, program), args, {
    uid: place.account?.uid,
    gid: place.account?.gid,
    cwd: '/',
    env: environment,
    stdio: ['ignore', log, log],
    detached: true, // its own group: Ctrl-C must not end it before everything else has drained
  })
}

function ended(child: ChildProcess): Promise<void> {
  return new Promise((done) => {
    child.once('exit', () => done())
    child.once('error', () => done()) // never an uncaught event
  })
}

function logTail(file: string, from = 0): string {
  return existsSync(file) ? readFileSync(file, 'utf8').slice(from).slice(-4000) : ''
}

const locale = ['--encoding=UTF8', '--locale=C', '--locale-provider=builtin', '--builtin-locale=C.UTF-8']

/** Makes the database files beside their final place first, so that an interrupted start leaves none that look whole. */
export async function initialise(place: Place, passwordFile: string, logFile: string): Promise<void> {
  const data = join(place.folder, 'data')
  if (existsSync(data)) return
  const half = join(place.folder, 'data.new')
  rmSync(half, { recursive: true, force: true })
  mkdirSync(half, { mode: 0o700 })
  writeFileSync(passwordFile, `${randomBytes(24).toString('base64url')}\n`, { mode: 0o600 })
  if (place.account) for (const path of [half, passwordFile]) chownSync(path, place.account.uid, place.account.gid)
  const args = ['-D', half, '-U', 'gestalt', '-A', 'scram-sha-256', `--pwfile=${passwordFile}`, '--no-instructions']
  const log = openSync(logFile, 'a')
  const child = start(place, 'initdb', [...args, ...locale, '--no-sync'], log)
  closeSync(log)
  await ended(child)
  if (child.exitCode !== 0) throw translate(`the database could not be made in ${half}`, logTail(logFile))
  renameSync(half, data)
}

/** Ends the server that a killed parent left behind; a pid file of a process that is no server of this folder goes. */
async function stopLeftover(data: string): Promise<void> {
  const file = join(data, 'postmaster.pid')
  if (!existsSync(file)) return
  const pid = Number(readFileSync(file, 'utf8').split('\n')[0])
  if (Number.isInteger(pid) && pid > 1 && commandOf(pid).includes(data)) await stopServer(pid)
  else rmSync(file, { force: true })
}

export async function stopServer(pid: number): Promise<void> {
  for (const [signal, seconds] of [
    ['SIGINT', 10],
    ['SIGQUIT', 10],
    ['SIGKILL', 10],
  ] as const) {
    try {
      process.kill(pid, signal)
    } catch {
      return
    }
    for (let waited = 0; waited < seconds * 100; waited++) {
      if (!isAlive(pid)) return
      await sleep(10)
    }
  }
}

const settings = {
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '',
  max_connections: '120',
  shared_buffers: '128MB',
  jit: 'off',
  log_min_messages: 'warning',
  log_checkpoints: 'off',
  timezone: 'UTC',
}

/** Connects until the server takes connections, then makes the database on the first start. */
async function prepare(child: ChildProcess, url: (database: string) => string): Promise<void> {
  const until = Date.now() + 120_000 // recovery after a crash may take long; a dead server is noticed at once
  for (;;) {
    if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) throw new Error('it has ended')
    const client = new pg.Client({ connectionString: url('postgres'), connectionTimeoutMillis: 10_000 })
    client.on('error', () => {})
    try {
      await client.connect()
      const { rowCount } = await client.query("SELECT 1 FROM pg_database WHERE datname = 'gestalt'")
      if (!rowCount) await client.query('CREATE DATABASE gestalt')
      return
    } catch (error) {
      const { code } = error as { code?: string }
      if (code === '28P01')
        throw new Damaged('the password file does not fit the database', 'restore it, or remove both to start afresh')
      const starting = code === 'ECONNREFUSED' || code === '57P03' || code === 'ECONNRESET'
      if (!starting || Date.now() > until) throw error
    } finally {
      await client.end().catch(() => {})
    }
    await sleep(15)
  }
}

/** Reasons that pass by themselves: somebody took the port, or the processes of a killed server are still ending. */
const passing = /Address already in use|could not create any TCP\/IP sockets|shared memory block .* still in use/

/** A server that takes connections; its database is `gestalt`. */
export async function startServer(place: Place, password: string, logFile: string) {
  const data = join(place.folder, 'data')
  for (let attempt = 1; ; attempt++) {
    await stopLeftover(data)
    const port = await freePort()
    // sslmode: no PGSSLMODE of the person who starts it applies to a server of our own.
    const url = (database: string) => `postgresql://gestalt:${password}@127.0.0.1:${port}/${database}?sslmode=disable`
    const options = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])
    const from = logTail(logFile).length === 0 ? 0 : readFileSync(logFile).length
    const log = openSync(logFile, 'a')
    const child = start(place, 'postgres', ['-D', data, '-p', String(port), ...options], log)
    closeSync(log)
    const exited = ended(child)
    try {
      await prepare(child, url)
      return { child, exited, url: url('gestalt') }
    } catch (error) {
      if (child.pid !== undefined) await stopServer(child.pid)
      if (error instanceof GestaltError) throw error
      const words = logTail(logFile, from)
      if (attempt >= 5 || !passing.test(words)) throw translate(`PostgreSQL did not start (${logFile})`, words, error)
      await sleep(200 * attempt)
    }
  }
}

/**
 * Ends the server when this process dies, however it dies: a shell waits for the end of its input, which closes with us.
 * The answer sends it away.
 */
export function guard(server: number): () => void {
  const script = 'read -r word || kill -INT "$1"'
  const shell = spawn('/bin/sh', ['-c', script, 'sh', String(server)], {
    cwd: '/',
    env: environment,
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  })
  shell.on('error', () => {}) // without it the next start stops the server
  shell.stdin.on('error', () => {})
  shell.unref()
  return () => void shell.stdin.end('done\n')
}
