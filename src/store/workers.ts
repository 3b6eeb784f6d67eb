import type { RejectedEngine } from '../experiments/run.ts'
import type { Database } from './database.ts'
import { type GpuState, type Run, runColumns, type Worker } from './rows.ts'

type Machine = Pick<Worker, 'id' | 'host' | 'pid' | 'version' | 'engine' | 'cores' | 'memoryBytes' | 'concurrency'>
type Computing = Pick<
  Worker,
  'engineVersion' | 'threads' | 'device' | 'offer' | 'gpuName' | 'gpuSlots' | 'gpuMemoryBytes'
> & {
  rejectedEngines: readonly RejectedEngine[]
}

/** Seconds without a heartbeat; they come every two. */
export const silence = { unknown: 5, lost: 9 }

/** A queued run, as far as its place in the queue goes. */
export type Waiting = Pick<Run, 'id' | 'attempt' | 'priority' | 'needs'>

/** Who performs runs, and which runs nobody performs any more. */
export interface WorkerBook {
  workerStarted(worker: Machine & Partial<Computing>): Promise<void>
  /**
   * Says that the worker lives and performs these runs, and how its GPU is, where it has one; false where its row is
   * gone: it starts anew.
   */
  heartbeat(id: string, runIds: readonly string[], gpu?: GpuState): Promise<boolean>
  workerStopped(id: string): Promise<void>
  /** Those that have not stopped, and those that stopped within a day; the newest first. */
  workers(): Promise<Worker[]>
  /**
   * Running runs that nobody performs: their worker has stopped, has been silent for `staleSeconds`, or lives and has
   * not named them for that long.
   */
  abandoned(staleSeconds: number): Promise<Run[]>
  /** Runs that have been queued for longer: those that come first, by priority and age, at most a thousand. */
  waiting(olderThanSeconds: number, most?: number): Promise<Waiting[]>
  /** Attempts lost one after the other at the end, without a checkpoint newer than the one they started from. */
  losses(runId: string): Promise<number>
}

const prefixed = runColumns.replace(/(^|,\s*)(\w+)/g, '$1run.$2')

const abandonedRuns = `SELECT ${prefixed} FROM runs run
  LEFT JOIN attempts a ON a.run_id = run.id AND a.number = run.attempt
  LEFT JOIN workers w ON w.id = a.worker_id
  WHERE run.state = 'running' AND (
    w.stopped_at IS NOT NULL
    OR w.heartbeat_at < now() - make_interval(secs => $1)
    OR (a.started_at < now() - make_interval(secs => $1) AND (w.id IS NULL OR run.id <> ALL (w.run_ids)))
  ) ORDER BY run.created_at, run.id`

const lossesOfRun = `SELECT count(*)::int AS losses FROM attempts WHERE run_id = $1 AND outcome = 'lost' AND number >
  greatest((SELECT max(attempt) FROM checkpoints WHERE run_id = $1),
    (SELECT max(number) FROM attempts WHERE run_id = $1 AND outcome <> 'lost'), 0)`

function stateOf({ stoppedAt }: { stoppedAt: Date | null }, silentSeconds: number): Worker['state'] {
  if (stoppedAt) return 'stopped'
  if (silentSeconds > silence.lost) return 'lost'
  return silentSeconds > silence.unknown ? 'unknown' : 'online'
}

const beat = `UPDATE workers SET heartbeat_at = now(), run_ids = $2, stopped_at = NULL, gpu_free_bytes = $3,
  gpu_used_bytes = $4, gpu_utilisation = $5, gpu_fault = $6 WHERE id = $1`

const whole = (bytes: number | null | undefined) => (bytes == null ? null : Math.round(bytes))
const big = (bytes: number | null | undefined) => (bytes == null ? null : BigInt(Math.round(bytes)))
const small = (bytes: bigint | null) => (bytes === null ? null : Number(bytes))

/** What runs may count on now. */
function offerNow(offer: Worker['offer'], fault: string | null): Worker['offer'] {
  return fault === null ? offer : { ...offer, gpu: false, gpuFault: fault }
}

export function keepWorkers({ prisma, pool }: Database): WorkerBook {
  return {
    async workerStarted(worker) {
      const now = { heartbeatAt: new Date(), stoppedAt: null }
      const rejectedEngines = (worker.rejectedEngines ?? []).map((rejected) => ({ ...rejected }))
      const offer = { ...worker.offer, units: [...(worker.offer?.units ?? [])] }
      const sizes = { memoryBytes: big(worker.memoryBytes)!, gpuMemoryBytes: big(worker.gpuMemoryBytes) }
      const row = { ...worker, offer, rejectedEngines, ...sizes }
      const { id } = worker
      await prisma.worker.upsert({ where: { id }, create: row, update: { ...row, ...now } })
    },
    async heartbeat(id, runIds, gpu) {
      const sizes = [whole(gpu?.gpuFreeBytes), whole(gpu?.gpuUsedBytes)]
      const values = [id, runIds, ...sizes, gpu?.gpuUtilisation ?? null, gpu?.gpuFault ?? null]
      return (await pool.query(beat, values)).rowCount === 1
    },
    async workerStopped(id) {
      await pool.query("UPDATE workers SET stopped_at = now(), run_ids = '{}' WHERE id = $1", [id])
    },
    async workers() {
      // By the clock of the database, which stamps the heartbeats.
      const { rows: clock } = await pool.query<{ now: Date }>('SELECT now()')
      const now = clock[0]!.now.getTime()
      const since = new Date(now - 86_400_000)
      const rows = await prisma.worker.findMany({
        where: { OR: [{ stoppedAt: null, heartbeatAt: { gt: since } }, { stoppedAt: { gt: since } }] },
        orderBy: [{ startedAt: 'desc' }, { id: 'desc' }],
      })
      return rows.map((row) => ({
        ...row,
        rejectedEngines: row.rejectedEngines as unknown as RejectedEngine[],
        memoryBytes: Number(row.memoryBytes),
        gpuMemoryBytes: small(row.gpuMemoryBytes),
        gpuFreeBytes: small(row.gpuFreeBytes),
        gpuUsedBytes: small(row.gpuUsedBytes),
        offer: offerNow(row.offer as unknown as Worker['offer'], row.gpuFault),
        state: stateOf(row, (now - row.heartbeatAt.getTime()) / 1000),
      }))
    },
    async abandoned(staleSeconds) {
      return (await pool.query<Run>(abandonedRuns, [staleSeconds])).rows
    },
    async waiting(olderThanSeconds, most = 1000) {
      const { rows } = await pool.query<Waiting>(
        `SELECT id, attempt, priority, needs FROM runs
         WHERE state = 'queued' AND queued_at <= now() - make_interval(secs => $1)
         ORDER BY priority DESC, created_at, id LIMIT $2`,
        [olderThanSeconds, most],
      )
      return rows
    },
    async losses(runId) {
      return (await pool.query<{ losses: number }>(lossesOfRun, [runId])).rows[0]!.losses
    },
  }
}
