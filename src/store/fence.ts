import { setTimeout as sleep } from 'node:timers/promises'
import type pg from 'pg'
import { Superseded, Unavailable } from '../errors.ts'
import type { Progress } from '../experiments/run.ts'
import { notifyRun } from './listen.ts'
import { isPostgresAway, transaction, translateDatabaseError } from './pool.ts'
import type { Fence } from './rows.ts'

export function superseded({ runId, attempt }: Fence): Superseded {
  return new Superseded(`attempt ${attempt} of run ${runId} is over`, 'stop: another attempt has it, or it has ended')
}

/**
 * Writes on behalf of an attempt in one transaction that holds its run, so that no other attempt can begin meanwhile.
 * Throws Superseded, with nothing written, where one has begun or the run has ended. Listeners hear of it where
 * `notify` is set.
 */
export function fenced<T>(
  pool: pg.Pool,
  { runId, attempt }: Fence,
  work: (client: pg.PoolClient) => Promise<T>,
  options: { progress?: Progress; notify?: boolean } = {},
): Promise<T> {
  return transaction(pool, async (client) => {
    const { rows } = await client.query<{ version: number }>(
      `UPDATE runs SET version = version + 1, progress = coalesce($3, progress)
       WHERE id = $1 AND attempt = $2 AND state = 'running' RETURNING version`,
      [runId, attempt, options.progress ? JSON.stringify(options.progress) : null],
    )
    if (!rows[0]) throw superseded({ runId, attempt })
    const result = await work(client)
    if (options.notify) await notifyRun(client, { id: runId, version: rows[0].version })
    return result
  })
}

/** How long a write waits for a database that is away. */
export interface Patience {
  seconds: number
  /** Ends the waiting early. */
  signal: AbortSignal
  onWait?: (error: unknown) => void
}

/** Does what may safely be done twice again until the database takes it; Unavailable when patience ends. */
export async function persistently<T>(patience: Patience, work: () => Promise<T>): Promise<T> {
  const until = Date.now() + patience.seconds * 1000
  for (let wait = 100; ; wait = Math.min(wait * 2, 2000)) {
    try {
      return await work()
    } catch (error) {
      const over = Date.now() + wait > until || patience.signal.aborted
      if (!isPostgresAway(error)) throw translateDatabaseError(error)
      if (over)
        throw new Unavailable(
          `the database has not answered for ${patience.seconds} seconds`,
          'see that PostgreSQL runs; the run goes on from its last checkpoint',
          { cause: error },
        )
      patience.onWait?.(error)
      await sleep(wait, undefined, { signal: patience.signal }).catch(() => {})
    }
  }
}
