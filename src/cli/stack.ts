import { type ChildProcess, fork } from 'node:child_process'
import { closeSync, existsSync, mkdirSync, openSync, renameSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { Config } from '../config.ts'
import { Unavailable } from '../errors.ts'
import { installation } from '../installation.ts'
import { type EmbeddedPostgres, startPostgres } from '../store/embedded-postgres.ts'
import { migrate } from '../store/migrate.ts'

/** The whole service on one machine: Postgres, one API process, one worker process. */
export interface Stack {
  url: string
  /** Resolves with a reason when a part ends without being asked to. */
  broken: Promise<string>
  stop(): Promise<void>
}

interface Part {
  name: string
  process: ChildProcess
  ready: Promise<{ url?: string }>
  ended: Promise<number | string>
}

const entry = join(installation, 'bin/gestalt.js')

/** How long a part may take to stop before it is killed: a training step and a checkpoint fit in. */
const graceSeconds = 30

/** A log that has grown beyond this is put aside at the next start, in place of the one before. Bytes. */
const longestLog = 16 * 2 ** 20

function openLog(file: string): number {
  if (existsSync(file) && statSync(file).size > longestLog) renameSync(file, `${file}.old`)
  return openSync(file, 'a')
}

/** Starts a part, which loads its code and then waits for the database's address. */
function startPart(name: 'api' | 'worker', home: string): Part {
  const log = join(home, 'logs', `${name}.log`)
  mkdirSync(join(home, 'logs'), { recursive: true })
  const file = openLog(log)
  const child = fork(entry, [name, '--await-database'], {
    cwd: installation,
    env: { ...process.env, GESTALT_HOME: home },
    stdio: ['ignore', file, file, 'ipc'],
  })
  closeSync(file)
  const ended = new Promise<number | string>((resolve) =>
    child.once('exit', (code, signal) => resolve(code ?? signal!)),
  )
  const ready = new Promise<{ url?: string }>((resolve, reject) => {
    child.on('message', (message: { type?: string; url?: string; message?: string; cure?: string }) => {
      if (message.type === 'ready') resolve(message)
      if (message.type === 'failed')
        reject(new Unavailable(message.message ?? `the ${name} failed`, message.cure ?? `see ${log}`))
    })
    ended.then((code) =>
      reject(
        new Unavailable(`the ${name} process ended at its start (${code})`, `the reason stands at the end of ${log}`),
      ),
    )
  })
  ready.catch(() => {})
  return { name, process: child, ready, ended }
}

/** A part that has just ended needs no telling: why it ended is told by `ready` and `ended`. */
function tellDatabase(part: Part, url: string): void {
  if (part.process.connected) part.process.send({ type: 'database', url }, () => {})
}

async function stopPart(part: Part): Promise<void> {
  part.process.kill('SIGTERM')
  const timer = setTimeout(() => part.process.kill('SIGKILL'), graceSeconds * 1000)
  await part.ended
  clearTimeout(timer)
}

/** Resolves when a part ends that was not asked to, or does not come up. */
function breakage(parts: readonly Part[], database: EmbeddedPostgres | undefined): Promise<string> {
  return Promise.race([
    ...parts.map((part) => part.ended.then((code) => `the ${part.name} process ended (${code})`)),
    ...parts.map((part) =>
      part.ready.then(never, ({ message, cure }: Unavailable) => `${message}\n  what to do: ${cure}`),
    ),
    ...(database ? [database.exited.then(() => 'the database ended')] : []),
  ])
}

function never(): Promise<string> {
  return new Promise(() => {})
}

/**
 * Starts what the configuration does not already name elsewhere, and returns when the API takes requests. Throws
 * Conflict where another process uses the same home, Unavailable where a part does not come up; what had started is
 * stopped again. The parts load their code while the database starts.
 */
export async function startStack(config: Config, say: (line: string) => void): Promise<Stack> {
  const parts: Part[] = []
  let starting: Promise<EmbeddedPostgres> | undefined
  let database: EmbeddedPostgres | undefined
  let stopping = false
  const stop = async () => {
    stopping = true
    await Promise.all(parts.map(stopPart))
    await database?.stop()
  }
  try {
    starting = config.databaseUrl ? undefined : startPostgres({ home: config.home })
    const api = startPart('api', config.home)
    parts.push(api)
    database = await starting
    if (database?.notice) say(database.notice)
    const databaseUrl = config.databaseUrl ?? database!.url
    await migrate(databaseUrl)
    tellDatabase(api, databaseUrl)
    const worker = startPart('worker', config.home)
    parts.push(worker)
    tellDatabase(worker, databaseUrl)
    const { url } = await api.ready
    const broken = breakage(parts, database).then((reason) => (stopping ? never() : reason))
    return { url: url ?? config.publicUrl, broken, stop }
  } catch (error) {
    database ??= await starting?.catch(() => undefined)
    await stop()
    throw error
  }
}
