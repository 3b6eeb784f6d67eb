import type pg from 'pg'
import { rollUps } from '../../src/store/metrics.ts'

export interface Size {
  runs: number
  points: number
  /** Points of the one long curve. */
  long: number
}

/** Names of the curves of every run but the one with the long curve. */
const names = ['loss', 'learningRate']

const runs = `WITH one AS (
    SELECT n, gen_random_uuid() AS experiment, gen_random_uuid() AS run, now() - n * interval '7 minutes' AS at,
      CASE WHEN n % 20 = 0 THEN 'failed' WHEN n % 13 = 0 THEN 'cancelled' ELSE 'succeeded' END::run_state AS state
    FROM generate_series(1, $1::int) AS n
  ), experiment AS (
    INSERT INTO experiments (id, name, tags, notes, priority, method, dataset, definition, plan, created_at)
    SELECT experiment, 'filled-' || n % 500, ARRAY['filled', 'tag-' || n % 50], '', n % 5, 'npid',
      CASE WHEN n % 3 = 0 THEN 'shapes' ELSE 'fashion-mnist-12k' END, $2::jsonb, '{}', at FROM one
  ), run AS (
    INSERT INTO runs (id, experiment_id, name, state, priority, method, dataset, definition, progress, failure, attempt,
      version, created_at, queued_at, started_at, finished_at)
    SELECT run, experiment, 'filled-' || n % 500, state, n % 5, 'npid',
      CASE WHEN n % 3 = 0 THEN 'shapes' ELSE 'fashion-mnist-12k' END, $2::jsonb, $3::jsonb,
      CASE WHEN state = 'failed' THEN '{"code":"diverged","message":"it did","cure":"change it"}'::jsonb END, 1, 100,
      at, at, at + interval '1 second', at + interval '5 minutes' FROM one
  ), attempt AS (
    INSERT INTO attempts (run_id, number, started_at, ended_at, outcome)
    SELECT run, 1, at, at + interval '5 minutes', state::text::attempt_outcome FROM one
  ), event AS (
    INSERT INTO events (time, kind, experiment_id, run_id, data)
    SELECT at, kind, experiment, run, '{}' FROM one CROSS JOIN unnest(ARRAY['experiment-accepted', 'run-queued',
      'run-started', 'run-ended']) AS kind
  )
  INSERT INTO metric_series (run_id, name, first_step, last_step)
  SELECT run, name, 0, CASE WHEN n = 1 THEN $4::bigint ELSE $5::bigint END - 1
  FROM one CROSS JOIN unnest($6::text[]) AS name WHERE n > 1 OR name = 'loss' ORDER BY n, name`

const points = `INSERT INTO metric_points (series_id, step, value, time)
  SELECT series.id, step, sin(step / 1000.0 + series.id) + random() / 10, run.created_at + step * interval '1 ms'
  FROM metric_series AS series JOIN runs AS run ON run.id = run_id
  CROSS JOIN LATERAL generate_series(first_step, last_step) AS step WHERE series.id BETWEEN $1 AND $2`

const rolled = rollUps('SELECT series_id, step, value FROM metric_points WHERE series_id BETWEEN $1 AND $2')

/** Series that are rolled up in one statement, so that its sorts stay in memory. */
const seriesAtOnce = 1000

/**
 * Runs with their curves as ingest would have left them, by the SQL of ingest; the primary key of the points is made
 * after them. The run with the long curve is the newest.
 */
export async function fill(pool: pg.Pool, size: Size, definition: unknown): Promise<{ longRunId: string }> {
  const each = Math.floor((size.points - size.long) / (size.runs - 1) / names.length)
  const progress = { stage: 'training', epoch: 2, epochs: 2, step: each, steps: each, share: 1 }
  const given = [size.runs, JSON.stringify(definition), JSON.stringify(progress), size.long, each, names]
  await pool.query(runs, given)
  await pool.query('ALTER TABLE metric_points DROP CONSTRAINT metric_points_pkey')
  const { rows } = await pool.query<{ id: string }>('SELECT id FROM metric_series ORDER BY id')
  for (let at = 0; at < rows.length; at += seriesAtOnce)
    await pool.query(points, [rows[at]!.id, rows[Math.min(at + seriesAtOnce, rows.length) - 1]!.id])
  await pool.query('ALTER TABLE metric_points ADD CONSTRAINT metric_points_pkey PRIMARY KEY (series_id, step)')
  for (let at = 0; at < rows.length; at += seriesAtOnce)
    await pool.query(rolled, [rows[at]!.id, rows[Math.min(at + seriesAtOnce, rows.length) - 1]!.id])
  await pool.query('VACUUM ANALYZE')
  await pool.query('CHECKPOINT')
  const longest = await pool.query<{ id: string }>(
    'SELECT run_id AS id FROM metric_series ORDER BY last_step DESC LIMIT 1',
  )
  return { longRunId: longest.rows[0]!.id }
}
