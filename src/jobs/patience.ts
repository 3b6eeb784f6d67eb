import { setTimeout as sleep } from 'node:timers/promises'
import { NoRoom, Unavailable } from '../errors.ts'
import type { Logger } from '../experiments/context.ts'
import { isPostgresAway } from '../store/pool.ts'

/** Tries until Postgres is there again and has room, so that nothing is lost meanwhile; `signal` ends the patience. */
export async function patiently<T>(work: () => Promise<T>, log: Logger, signal: AbortSignal): Promise<T> {
  for (let pause = 250; ; pause = Math.min(pause * 2, 2000)) {
    try {
      return await work()
    } catch (error) {
      const passing = error instanceof Unavailable || error instanceof NoRoom || isPostgresAway(error)
      if (signal.aborted || !passing) throw error
      log.warn(`waiting for the database: ${(error as Error).message}`)
      await sleep(pause)
    }
  }
}
