import { Superseded } from '../errors.ts'
import { failureOf } from './failures.ts'
import type { FromChild } from './messages.ts'

function outcomeOf(error: unknown): FromChild {
  if (error instanceof Superseded) return { type: 'superseded' }
  console.error(error instanceof Error ? error.stack : error)
  return { type: 'failed', ...failureOf(error) }
}

/** Tells the outcome and ends; a worker that no longer listens has been replaced. */
function end(outcome: FromChild): void {
  if (!process.connected) process.exit(1)
  process.send?.(outcome, () => process.exit(0))
}

/**
 * The life of a process that a worker forks: it is asked once, answers with an outcome and ends, whatever happens, and
 * never outlives its worker. `answer` gives undefined for a message that asks nothing.
 */
export function answerWorker<Message>(answer: (message: Message) => Promise<FromChild> | undefined): void {
  // Ctrl-C in a terminal reaches every process of the group, but it is for the worker to decide when a run stops.
  process.on('SIGINT', () => {})
  process.on('SIGTERM', () => {})
  // A child without its worker has no lock on its run any more; the worker may also have died while we were loading.
  process.on('disconnect', () => process.exit(1))
  if (!process.connected) process.exit(1)
  process.on('uncaughtException', (error) => end(outcomeOf(error)))
  process.on('unhandledRejection', (error) => end(outcomeOf(error)))
  process.on('message', (message: Message) => answer(message)?.then(end, (error) => end(outcomeOf(error))))
}
