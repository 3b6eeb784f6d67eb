import { type ChildProcess, fork } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Logger } from '../experiments/context.ts'
import { launcher } from '../installation.ts'
import type { FromChild, Progress, ToChild, ToEngineChild, ToExportChild } from './messages.ts'

/** How a child ended. */
export interface Ending {
  /** Its outcome; undefined where it ended without one. */
  said: FromChild | undefined
  code: number | null
  signal: NodeJS.Signals | null
  /** The end of what it wrote to standard error. */
  lastWords: readonly string[]
}

export interface Child {
  pid: number | undefined
  tell(message: ToChild): void
  kill(): void
  ended: Promise<Ending>
}

const wordsKept = 20
/** Lines of a stack trace, of JavaScript or of the engine below, and its frame: for the log, not for the failure. */
const trace = /^\s*(at |\d+: (0x|node:|.+:\d+:\d+\)?$)|-{3,}|<---|node:internal|Node\.js v|\^+$|$)/
/** What a forked process runs. */
const entries = { performs: 'child', exports: 'export-child', 'tries engines': 'engine-child' }

function follow(child: ChildProcess, log: Logger, lastWords: string[]): void {
  createInterface({ input: child.stdout! }).on('line', (line) => log.info(line))
  createInterface({ input: child.stderr! }).on('line', (line) => {
    log.warn(line)
    if (trace.test(line)) return
    lastWords.push(line.trim())
    if (lastWords.length > wordsKept) lastWords.shift()
  })
}

interface Surroundings {
  /** All that it inherits. */
  environment: NodeJS.ProcessEnv
  /** Takes what it writes. */
  log: Logger
}

/**
 * Starts the process that performs one run, outside the worker so that its long computations never hold up the
 * worker's locks and heartbeats. `onProgress` hears what it tells before its outcome.
 */
export function startChild(
  task: ToChild,
  surroundings: Surroundings,
  onProgress?: (progress: Progress) => void,
): Child {
  return start('performs', task, surroundings, onProgress)
}

/** Starts the process that tries engines; `onProgress` hears what it tells before its outcome. */
export function startEngineChild(
  task: ToEngineChild,
  surroundings: Surroundings,
  onProgress: (progress: Progress) => void,
): Child {
  return start('tries engines', task, surroundings, onProgress)
}

/** Starts the process that exports a checkpoint: a net takes memory that a server has not to spare. */
export function startExportChild(task: ToExportChild, surroundings: Surroundings): Child {
  return start('exports', task, surroundings)
}

function start(
  what: keyof typeof entries,
  task: ToChild | ToEngineChild | ToExportChild,
  { environment, log }: Surroundings,
  onProgress: (progress: Progress) => void = () => {},
): Child {
  const child = fork(launcher, [`jobs/${entries[what]}`], {
    env: environment,
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  })
  const lastWords: string[] = []
  let said: FromChild | undefined
  follow(child, log, lastWords)
  child.on('message', (message: FromChild | Progress) => {
    if (message.type === 'trying' || message.type === 'rejected' || message.type === 'on-gpu') onProgress(message)
    else said = message
  })
  const ended = new Promise<Ending>((resolve) => {
    child.once('error', (error) => {
      lastWords.push(error.message)
      if (child.pid === undefined) resolve({ said, code: -1, signal: null, lastWords })
    })
    // 'close' comes after 'exit', when everything it wrote has been read.
    child.once('close', (code, signal) => resolve({ said, code, signal, lastWords }))
  })
  const tell = (message: ToChild | ToEngineChild | ToExportChild) => {
    if (child.connected) child.send(message, () => {}) // a child that has just ended needs no telling
  }
  tell(task)
  return { pid: child.pid, tell, kill: () => child.kill('SIGKILL'), ended }
}
