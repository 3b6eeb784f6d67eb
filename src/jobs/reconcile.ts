import type pg from 'pg'
import type { Logger } from '../experiments/context.ts'
import { archivePoints } from '../store/archiving.ts'
import type { ImageSets } from '../store/image-sets.ts'
import type { Ledger, Run } from '../store/ledger.ts'
import type { ObjectStore } from '../store/objects.ts'
import { transaction } from '../store/pool.ts'
import { silence } from '../store/workers.ts'
import type { Queue } from './queue.ts'
import { repeat } from './repeat.ts'

export interface ReconcilerOptions {
  ledger: Ledger
  queue: Queue
  /** Needs a connection of its own for the turn, beside the one the ledger uses. */
  database: { pool: pg.Pool }
  log: Logger
  /** Where points of runs that finished so many days ago go; they stay in the database where it is absent. */
  archive?: { objects: ObjectStore; days: number }
  /** What was left half-way of them is removed. */
  sets?: ImageSets
  /** Between two looks. */
  seconds?: number
  /** Without a heartbeat for this long a worker counts as gone; several times its interval. */
  staleSeconds?: number
  /** Between two removals of what says nothing any more, and before the first. */
  tidySeconds?: number
}

// 'gestalt' has no meaning as a number; this one only has to differ from the locks of Prisma and BullMQ.
const advisoryLock = 7_239_114

/** Between two additions to the totals of the lab, beyond which reading them takes longer than it need. */
const foldMilliseconds = 60_000

/** A run accepted a moment ago is being enqueued by whoever accepted it. */
const waitingSeconds = 2

async function mendQueue({ ledger, queue, log }: ReconcilerOptions): Promise<void> {
  const waiting = await ledger.waiting(waitingSeconds)
  const places = waiting.map((run) => ({ runId: run.id, attempt: run.attempt, priority: run.priority }))
  for (const place of await queue.missing(places)) {
    log.warn(`run ${place.runId} waits and the queue does not hold it: enqueued again`)
    await queue.enqueue(place)
  }
}

async function takeBack(run: Run, { ledger, queue, log }: ReconcilerOptions): Promise<void> {
  const fence = { runId: run.id, attempt: run.attempt }
  if (!(await ledger.end(fence, { state: 'queued', outcome: 'lost' }))) return
  if (run.cancelRequested) return log.warn(`run ${run.id} lost its worker: cancelled, as asked`)
  log.warn(`run ${run.id} lost its worker in attempt ${run.attempt}: enqueued again`)
  await queue.enqueue({ ...fence, priority: run.priority })
}

/**
 * Heartbeats stand still while Postgres is down, so they say nothing before the workers had time to send new ones.
 */
async function heartbeatsCount(client: pg.PoolClient, staleSeconds: number): Promise<boolean> {
  const { rows } = await client.query<{ settled: boolean }>(
    'SELECT now() - pg_postmaster_start_time() > make_interval(secs => $1) AS settled',
    [staleSeconds],
  )
  return rows[0]?.settled === true
}

/** The lock is the transaction's: Postgres ends that of a process that falls asleep in it. */
function look(options: ReconcilerOptions, staleSeconds: number): Promise<void> {
  return transaction(options.database.pool, async (client) => {
    const { rows } = await client.query<{ mine: boolean }>('SELECT pg_try_advisory_xact_lock($1) AS mine', [
      advisoryLock,
    ])
    if (!rows[0]?.mine) return
    if (await heartbeatsCount(client, staleSeconds))
      for (const run of await options.ledger.abandoned(staleSeconds)) await takeBack(run, options)
    await mendQueue(options)
  })
}

async function tidy({ ledger, database, archive, sets, log }: ReconcilerOptions, signal: AbortSignal): Promise<void> {
  await ledger.removeLeftovers()
  await sets?.sweep(log)
  if (!archive) return
  const { stored, emptied } = await archivePoints({ pool: database.pool, log, signal, ...archive })
  if (stored > 0) log.info(`the points of ${stored} runs are in the object store now`)
  if (emptied > 0) log.info(`the points of ${emptied} archived runs left the database`)
}

/** Removes leftovers in a loop of its own, so that a long turn keeps no run waiting. */
function startTidying(options: ReconcilerOptions): { close(): Promise<void> } {
  const { log, tidySeconds = 3600 } = options
  const halt = new AbortController()
  let tidiedAt = Date.now()
  const loop = repeat(
    Math.min(60, tidySeconds),
    async () => {
      if (Date.now() - tidiedAt < tidySeconds * 1000) return
      tidiedAt = Date.now()
      await tidy(options, halt.signal)
    },
    (error) => log.warn(`leftovers: ${(error as Error).message}`),
  )
  return {
    close() {
      halt.abort()
      return loop.close()
    },
  }
}

/**
 * Holds queue and Postgres together, every few seconds and in one process at a time: enqueues waiting runs that the
 * queue lost, and takes back running runs that nobody works on (or ends them where they were to be cancelled). Every
 * minute the lab's tallies are added up; every hour leftovers of the ledger are removed, and points of runs that
 * finished long ago go to the object store.
 */
export function startReconciler(options: ReconcilerOptions): { close(): Promise<void> } {
  const { ledger, log, seconds = 2, staleSeconds = silence.lost } = options
  let foldedAt = Date.now()
  const looking = repeat(
    seconds,
    async () => {
      await look(options, staleSeconds)
      if (Date.now() - foldedAt < foldMilliseconds) return
      foldedAt = Date.now()
      await ledger.foldTallies()
    },
    (error) => log.warn(`reconciler: ${(error as Error).message}`),
  )
  const tidying = startTidying(options)
  return {
    async close() {
      await Promise.all([looking.close(), tidying.close()])
    },
  }
}
