import type pg from 'pg'
import type { Worker } from './rows.ts'
import { type TallyName, tallyTotals } from './tallies.ts'
import { silence } from './workers.ts'

/** A worker as the lab's metrics name it. */
export interface CountedWorker {
  id: string
  host: string
  engine: string
  version: string
  state: Worker['state']
  /** Seconds since 1970. */
  heartbeat: number
  slots: number
  busy: number
  /** Null where it computes on the processor; the rest is null where it is not known. */
  gpu: string | null
  gpuMemoryBytes: number | null
  gpuUsedBytes: number | null
  gpuUtilisation: number | null
  gpuFault: string | null
}

/** The state of the whole lab at one moment. */
export interface Census {
  /** Runs that have not ended, by state. */
  runs: Partial<Record<'queued' | 'running' | 'paused', number>>
  /** Seconds that the oldest queued run has waited; null where none waits. */
  oldestWait: number | null
  /** Those that are online, and those that stopped or fell silent within a day. */
  workers: CountedWorker[]
  totals: { name: TallyName; label: string; count: number; sum: number }[]
}

// Of the runs only those that have not ended are visited, by the index on their state; the totals are a few dozen rows
// and those of the last minute.
const census = `SELECT
  (SELECT json_object_agg(state, runs) FROM (
    SELECT state, count(*) AS runs FROM runs WHERE state IN ('queued', 'running', 'paused') GROUP BY state
  ) AS states) AS runs,
  (SELECT extract(epoch FROM now() - min(queued_at))::float8 FROM runs WHERE state = 'queued') AS "oldestWait",
  (SELECT json_agg(worker) FROM (
    SELECT id, host, engine, version, extract(epoch FROM heartbeat_at)::float8 AS heartbeat, concurrency AS slots,
      cardinality(run_ids) AS busy, gpu_name AS gpu, gpu_memory_bytes AS "gpuMemoryBytes",
      gpu_used_bytes AS "gpuUsedBytes", gpu_utilisation AS "gpuUtilisation", gpu_fault AS "gpuFault", CASE WHEN stopped_at IS NOT NULL THEN 'stopped'
        WHEN heartbeat_at < now() - make_interval(secs => ${silence.lost}) THEN 'lost'
        WHEN heartbeat_at < now() - make_interval(secs => ${silence.unknown}) THEN 'unknown' ELSE 'online' END AS state
    FROM workers WHERE heartbeat_at > now() - interval '1 day' ORDER BY heartbeat_at DESC LIMIT 1000
  ) AS worker) AS workers,
  (SELECT json_agg(total) FROM (${tallyTotals}) AS total) AS totals`

/** One statement, so that all of it is of one moment. */
export async function takeCensus(pool: pg.Pool): Promise<Census> {
  type Row = { [K in keyof Census]: Census[K] | null }
  const { rows } = await pool.query<Row>({ name: 'census', text: census })
  const { runs, oldestWait, workers, totals } = rows[0]!
  return { runs: runs ?? {}, oldestWait, workers: workers ?? [], totals: totals ?? [] }
}
