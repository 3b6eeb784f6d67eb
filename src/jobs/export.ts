import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Damaged, InvalidDefinition, NoRoom, NotFound, TooLarge, Unavailable } from '../errors.ts'
import type { Failure } from '../experiments/run.ts'
import type { Ending } from './child-process.ts'
import { startExportChild } from './child-process.ts'
import { memoryFailure } from './failures.ts'
import type { ToExportChild } from './messages.ts'

export interface ExportOptions {
  /** All that the child process inherits. */
  environment: NodeJS.ProcessEnv
  log: Parameters<typeof startExportChild>[1]['log']
  /** Whoever asked has gone. */
  signal?: AbortSignal
}

/** A file made by an export, which is there until it is removed. */
export interface Exported {
  file: string
  size: number
  remove(): Promise<void>
}

const kinds = { damaged: Damaged, 'no-room': NoRoom, 'not-found': NotFound, 'too-large': TooLarge }

function errorOf({ code, message, cure }: Failure): Error {
  if (code === 'internal') return new Error(message)
  const Kind = kinds[code as keyof typeof kinds] ?? Unavailable
  return new Kind(message, cure)
}

function outcome(ending: Ending): number {
  const { said } = ending
  if (said?.type === 'exported') return said.size
  if (said?.type === 'refused') throw new InvalidDefinition(said.faults, 'the export')
  if (said?.type === 'failed') throw errorOf(said.failure)
  const memory = memoryFailure(ending)?.failure
  if (memory) throw new Unavailable(memory.message, 'give the server more memory, or export on another one')
  throw new Unavailable(
    `the process that exported ended without a word (${ending.signal ?? ending.code}): ${ending.lastWords.slice(-2).join(' | ')}`,
    'if nobody killed it, the system did for want of memory: give the server more, and ask again',
  )
}

/** Exports follow one another: each may take as much memory as training. */
let last: Promise<unknown> = Promise.resolve()

/**
 * Writes an export into a temporary file, in a process of its own. Throws InvalidDefinition where what was asked cannot
 * be, and what the process fails of.
 */
export function exportCheckpoint(task: Omit<ToExportChild, 'file'>, options: ExportOptions): Promise<Exported> {
  const turn = last.then(() => exportNow(task, options))
  last = turn.catch(() => {})
  return turn
}

async function exportNow(task: Omit<ToExportChild, 'file'>, options: ExportOptions): Promise<Exported> {
  const { environment, log, signal } = options
  if (signal?.aborted) throw new Unavailable('whoever asked for the export has gone', 'ask again')
  const folder = await mkdtemp(join(tmpdir(), 'gestalt-export-'))
  const remove = () => rm(folder, { recursive: true, force: true })
  try {
    const file = join(folder, `export.${task.as}`)
    const child = startExportChild({ ...task, file }, { environment, log })
    signal?.addEventListener('abort', child.kill, { once: true })
    const ending = await child.ended
    signal?.removeEventListener('abort', child.kill)
    return { file, size: outcome(ending), remove }
  } catch (error) {
    await remove()
    throw error
  }
}
