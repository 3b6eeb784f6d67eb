import { type ChildProcess, spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
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
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { Damaged, GestaltError, NoRoom, Unavailable } from '../errors.ts'
import { commandOf, isAlive, lockHome } from './home-lock.ts'
import { type Account, canEnter, databaseAccount, findBinaries, sharedFolder } from './postgres-binaries.ts'

/** A running server of our own. */
export interface EmbeddedPostgres {
  /** The database `gestalt` on 127.0.0.1, password included. */
  url: string
  /** Folder of the database files. */
  directory: string
  /** Something the person at the terminal should know, in one sentence. */
  notice?: string
  /** Resolves when the server has ended, wanted or not. */
  exited: Promise<void>
  /** Ends it after the running statements, within seconds, and gives the folder free. */
  stop(): Promise<void>
}

interface Place {
  folder: string
  account: Account | undefined
  binaries: string
  notice?: string
}

/** Only what Postgres needs: no PG* variables of the person who starts it, which would change where it listens. */
const environment = { LC_ALL: 'C', TZ: 'UTC', PATH: '/usr/bin:/bin' }

/** A text that ties a folder outside of `home` to it, so that a new clone at an old path does not find old files. */
function homeMark(home: string): string {
  const file = join(home, 'database-mark')
  if (!existsSync(file)) writeFileSync(file, `${randomBytes(16).toString('hex')}\n`, { mode: 0o600 })
  return readFileSync(file, 'utf8')
}

function choosePlace(home: string): Place {
  const account = databaseAccount()
  const binaries = findBinaries(home, account)
  const inside = join(home, 'postgres')
  if (!account) {
    mkdirSync(inside, { recursive: true, mode: 0o700 })
    return { folder: inside, account, binaries }
  }
  if (existsSync(inside) || canEnter(home, account)) {
    mkdirSync(inside, { recursive: true, mode: 0o711 })
    if (canEnter(inside, account)) return { folder: inside, account, binaries }
  }
  const folder = join(sharedFolder, createHash('sha256').update(resolve(home)).digest('hex').slice(0, 16))
  const mark = homeMark(home)
  const markFile = join(folder, 'mark')
  let notice = `The account ${account.name}, which runs the database, cannot enter ${home}: its files are in ${folder}.`
  if (existsSync(folder) && (!existsSync(markFile) || readFileSync(markFile, 'utf8') !== mark)) {
    const aside = `${folder}.${Date.now()}.old`
    renameSync(folder, aside)
    notice += ` Those of an earlier folder of this name are kept in ${aside}.`
  }
  mkdirSync(folder, { recursive: true, mode: 0o711 })
  writeFileSync(markFile, mark, { mode: 0o600 })
  return { folder, account, binaries, notice }
}

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

/** Makes the database files beside their final place first, so that an interrupted start leaves none that look whole. */
async function initialise(place: Place, passwordFile: string, logFile: string): Promise<void> {
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

const locale = ['--encoding=UTF8', '--locale=C', '--locale-provider=builtin', '--builtin-locale=C.UTF-8']

/** Ends the server that a killed parent left behind; a pid file of a process that is no server of this folder goes. */
async function stopLeftover(data: string): Promise<void> {
  const file = join(data, 'postmaster.pid')
  if (!existsSync(file)) return
  const pid = Number(readFileSync(file, 'utf8').split('\n')[0])
  if (Number.isInteger(pid) && pid > 1 && commandOf(pid).includes(data)) await stopServer(pid)
  else rmSync(file, { force: true })
}

async function stopServer(pid: number): Promise<void> {
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

async function startServer(place: Place, password: string, logFile: string) {
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
 * Starts PostgreSQL below `home` and waits until it takes connections. One process may use a home at a time (Conflict).
 * A server that an earlier, killed process left running is stopped first.
 */
export async function startPostgres(options: {
  home: string
  log?: (line: string) => void
}): Promise<EmbeddedPostgres> {
  const home = resolve(options.home)
  const release = lockHome(home)
  try {
    const place = choosePlace(home)
    const passwordFile = join(place.folder, 'password')
    const logFile = join(place.folder, 'postgres.log')
    if (existsSync(logFile) && readFileSync(logFile).length > 2 ** 20) rmSync(logFile)
    if (!existsSync(join(place.folder, 'data'))) options.log?.('making a new database')
    await initialise(place, passwordFile, logFile)
    const { child, exited, url } = await startServer(place, readFileSync(passwordFile, 'utf8').trim(), logFile)
    const last = () => void child.kill('SIGINT') // process.exit without stop(): the server must not outlive us
    process.once('exit', last)
    const stop = async () => {
      if (child.pid !== undefined && child.exitCode === null && child.signalCode === null) await stopServer(child.pid)
      await exited
      process.off('exit', last)
      release()
    }
    return { url, directory: place.folder, notice: place.notice, exited, stop }
  } catch (error) {
    release()
    throw error
  }
}
