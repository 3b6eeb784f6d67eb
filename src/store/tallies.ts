import type pg from 'pg'
import type { Queryable } from './rollups.ts'

/** What is counted for ever. Those with bounds are histograms: their label is the upper end of a bucket. */
export const tallyNames = [
  'jobs-enqueued',
  'jobs-completed',
  'job-retries',
  'job-queue-wait-seconds',
  'job-duration-seconds',
  'checkpoint-bytes',
  'checkpoint-duration-seconds',
  'metric-points',
  'metric-points-again',
  'images',
] as const
export type TallyName = (typeof tallyNames)[number]

/** Upper ends of the buckets: seconds from half of one to a week, bytes from 64 KiB to 16 GiB. */
export const bounds = {
  'job-queue-wait-seconds': [0.5, 1, 5, 15, 60, 300, 900, 3600, 14_400, 86_400],
  'job-duration-seconds': [5, 15, 60, 300, 900, 3600, 14_400, 43_200, 86_400, 259_200, 604_800],
  'checkpoint-bytes': [16, 18, 20, 22, 24, 26, 28, 30, 32, 34].map((power) => 2 ** power),
  'checkpoint-duration-seconds': [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300],
} as const
export type Measured = keyof typeof bounds

/** So many of a name more; 1 where `count` is absent. */
export interface Tally {
  name: TallyName
  label?: string
  count?: number
  sum?: number
}

/** A measured value, in the bucket that it falls into. */
export function measured(name: Measured, value: number): Tally {
  const bound = bounds[name].find((end) => value <= end)
  return { name, label: bound === undefined ? '+Inf' : String(bound), sum: value }
}

/**
 * Counts in the transaction of what is counted. Rows are only ever added here: two writers of one total would wait for
 * each other.
 */
export async function count(client: Queryable, tallies: readonly Tally[]): Promise<void> {
  if (tallies.length === 0) return
  await client.query(
    `INSERT INTO tally_log (name, label, count, sum)
     SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::float8[])`,
    [
      tallies.map(({ name }) => name),
      tallies.map(({ label }) => label ?? ''),
      tallies.map(({ count }) => count ?? 1),
      tallies.map(({ sum }) => sum ?? 0),
    ],
  )
}

/** Adds what was counted lately to the totals; several at once each take what the others left. */
export async function foldTallies(pool: pg.Pool): Promise<void> {
  await pool.query(
    `WITH lately AS (DELETE FROM tally_log RETURNING name, label, count, sum)
     INSERT INTO tallies AS old (name, label, count, sum)
     SELECT name, label, sum(count)::bigint, sum(sum) FROM lately GROUP BY name, label ORDER BY name, label
     ON CONFLICT (name, label) DO UPDATE SET count = old.count + excluded.count, sum = old.sum + excluded.sum`,
  )
}

/** All totals, those not folded yet included. */
export const tallyTotals = `SELECT name, label, sum(count)::float8 AS count, sum(sum) AS sum FROM (
    SELECT name, label, count, sum FROM tallies UNION ALL SELECT name, label, count, sum FROM tally_log
  ) AS parts GROUP BY name, label`
