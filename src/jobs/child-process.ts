import { type ChildProcess, fork } from 'node:child_process'
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'
import { fileURLToPath, pathToFileURL } from 'node:url'
import type { Logger } from '../experiments/context.ts'
import type { FromChild, Progress, ToChild } from './messages.ts'

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
const fromSource = import.meta.url.endsWith('.ts')
const entry = fileURLToPath(new URL(fromSource ? './child.ts' : './child.js', import.meta.url))

/** Sources need the loader, named by its full path so that any working directory does. */
function loader(): string[] {
  if (!fromSource) return []
  return ['--import', pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href]
}

function follow(child: ChildProcess, log: Logger, lastWords: string[]): void {
  createInterface({ input: child.stdout! }).on('line', (line) => log.info(line))
  createInterface({ input: child.stderr! }).on('line', (line) => {
    log.warn(line)
    if (trace.test(line)) return
    lastWords.push(line.trim())
    if (lastWords.length > wordsKept) lastWords.shift()
  })
}

/**
 * Starts the process that performs one run, outside the worker so that its long computations never hold up the
 * worker's locks and heartbeats. It gets `environment` and nothing of ours; what it writes goes to `log`.
 */
export function startChild(
  task: ToChild,
  environment: NodeJS.ProcessEnv,
  log: Logger,
  onProgress: (progress: Progress) => void = () => {},
): Child {
  const child = fork(entry, { execArgv: loader(), env: environment, stdio: ['ignore', 'pipe', 'pipe', 'ipc'] })
  const lastWords: string[] = []
  let said: FromChild | undefined
  follow(child, log, lastWords)
  child.on('message', (message: FromChild | Progress) => {
    if (message.type === 'trying' || message.type === 'rejected') onProgress(message)
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
  const tell = (message: ToChild) => {
    if (child.connected) child.send(message, () => {}) // a child that has just ended needs no telling
  }
  tell(task)
  return { pid: child.pid, tell, kill: () => child.kill('SIGKILL'), ended }
}
