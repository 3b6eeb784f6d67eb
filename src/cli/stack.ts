import { type ChildProcess, fork } from 'node:child_process'
import { closeSync, mkdirSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Config, installation } from '../config.ts'
import { Unavailable } from '../errors.ts'
import { startPostgres } from '../store/embedded-postgres.ts'
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

const entry = fileURLToPath(new URL('../../bin/gestalt.js', import.meta.url))

/** How long a part may take to stop before it is killed: a training step and a checkpoint fit in. */
const graceSeconds = 30

function startPart(name: 'api' | 'worker', home: string, environment: Record<string, string>): Part {
  const log = join(home, 'logs', `${name}.log`)
  mkdirSync(join(home, 'logs'), { recursive: true })
  const file = openSync(log, 'a')
  const child = fork(entry, [name], {
    cwd: installation,
    env: { ...process.env, ...environment },
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
        reject(new Unavailable(message.message ?? `the ${name} failed`, message.cure ?? ''))
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

async function stopPart(part: Part): Promise<void> {
  part.process.kill('SIGTERM')
  const timer = setTimeout(() => part.process.kill('SIGKILL'), graceSeconds * 1000)
  await part.ended
  clearTimeout(timer)
}

/**
 * Starts what the configuration does not already name elsewhere. Throws Conflict where another process uses the same
 * home, Unavailable where a part does not come up; what had started is stopped again.
 */
export async function startStack(config: Config, say: (line: string) => void): Promise<Stack> {
  const database = config.databaseUrl ? undefined : await startPostgres({ home: config.home })
  if (database?.notice) say(database.notice)
  const databaseUrl = config.databaseUrl ?? database!.url
  const parts: Part[] = []
  let stopping = false
  const stop = async () => {
    stopping = true
    await Promise.all(parts.map(stopPart))
    await database?.stop()
  }
  try {
    await migrate(databaseUrl)
    const environment = { DATABASE_URL: databaseUrl, GESTALT_HOME: config.home }
    parts.push(startPart('api', config.home, environment), startPart('worker', config.home, environment))
    const [api] = await Promise.all(parts.map((part) => part.ready))
    const broken = Promise.race([
      ...parts.map((part) => part.ended.then((code) => `the ${part.name} process ended (${code})`)),
      ...(database ? [database.exited.then(() => 'the database ended')] : []),
    ]).then((reason) => (stopping ? new Promise<string>(() => {}) : reason))
    return { url: api?.url ?? config.publicUrl, broken, stop }
  } catch (error) {
    await stop()
    throw error
  }
}
