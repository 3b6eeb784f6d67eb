import { superseded } from './fence.ts'
import { bits, levels, type Queryable } from './rollups.ts'
import type { Fence } from './rows.ts'

/** One number of a run; NaN and the infinities are kept. */
export interface Point {
  name: string
  step: number
  value: number
  time: Date
}

const notFinite = "value IN ('NaN', 'Infinity', '-Infinity')"

/** Blocks of the first level from points, or of a level from the one below it. */
function rollUp(level: number): string {
  const bucket = `SELECT series_id, ${level}::smallint AS level`
  if (level === 1)
    return `${bucket}, step >> ${bits} AS bucket, count(*) AS count, min(step) AS first_step, max(step) AS last_step,
      min(value) FILTER (WHERE NOT bad) AS min,
      (array_agg(step ORDER BY value, step) FILTER (WHERE NOT bad))[1] AS min_step,
      max(value) FILTER (WHERE NOT bad) AS max,
      (array_agg(step ORDER BY value DESC, step) FILTER (WHERE NOT bad))[1] AS max_step,
      count(*) FILTER (WHERE bad) AS bad, min(step) FILTER (WHERE bad) AS bad_step
    FROM (SELECT *, ${notFinite} AS bad FROM inserted) AS points GROUP BY series_id, step >> ${bits}`
  return `${bucket}, bucket >> ${bits} AS bucket, sum(count)::bigint AS count, min(first_step) AS first_step,
      max(last_step) AS last_step, min(min) AS min,
      (array_agg(min_step ORDER BY min, min_step) FILTER (WHERE min IS NOT NULL))[1] AS min_step, max(max) AS max,
      (array_agg(max_step ORDER BY max DESC, max_step) FILTER (WHERE max IS NOT NULL))[1] AS max_step,
      sum(bad)::bigint AS bad, min(bad_step) AS bad_step
    FROM level_${level - 1} GROUP BY series_id, bucket >> ${bits}`
}

const rolledColumns = `series_id, level, bucket, count, first_step, last_step, min, min_step, max, max_step, bad, bad_step`
const everyLevel = {
  blocks: levels.map((level) => `level_${level} AS (${rollUp(level)})`).join(', '),
  rows: levels.map((level) => `SELECT * FROM level_${level}`).join(' UNION ALL '),
}

/** A statement that writes the rollups of series which have none yet, from all their points. */
export function rollUps(points: string): string {
  return `WITH inserted AS (${points}), ${everyLevel.blocks}
  INSERT INTO metric_rollups (${rolledColumns}) ${everyLevel.rows}`
}

/**
 * One statement: holds the run for its attempt, finds or makes the series, inserts the points that are not there yet,
 * adds what was really inserted to the rollups of every level, and counts it.
 */
const append = `WITH fence AS (
    SELECT id FROM runs WHERE id = $1 AND attempt = $2 AND state = 'running' FOR UPDATE
  ), given AS (
    SELECT name, step, value, to_timestamp(milliseconds / 1000) AS time
    FROM unnest($3::text[], $4::bigint[], $5::float8[], $6::float8[]) AS point (name, step, value, milliseconds)
  ), series AS (
    INSERT INTO metric_series AS known (run_id, name, first_step, last_step)
    SELECT fence.id, name, min(step), max(step) FROM given, fence GROUP BY fence.id, name ORDER BY name
    ON CONFLICT (run_id, name) DO UPDATE SET first_step = least(known.first_step, excluded.first_step),
      last_step = greatest(known.last_step, excluded.last_step)
    RETURNING id, name
  ), inserted AS (
    INSERT INTO metric_points (series_id, step, value, time)
    SELECT series.id, step, value, time FROM given JOIN series USING (name)
    ON CONFLICT DO NOTHING RETURNING series_id, step, value
  ), ${everyLevel.blocks}, rolled AS (
    INSERT INTO metric_rollups AS old (${rolledColumns}) ${everyLevel.rows}
    ON CONFLICT (series_id, level, bucket) DO UPDATE SET count = old.count + excluded.count,
      first_step = least(old.first_step, excluded.first_step), last_step = greatest(old.last_step, excluded.last_step),
      min = least(old.min, excluded.min), max = greatest(old.max, excluded.max),
      min_step = CASE WHEN old.min IS NULL OR (excluded.min, excluded.min_step) < (old.min, old.min_step)
        THEN excluded.min_step ELSE old.min_step END,
      max_step = CASE WHEN old.max IS NULL OR (-excluded.max, excluded.max_step) < (-old.max, old.max_step)
        THEN excluded.max_step ELSE old.max_step END,
      bad = old.bad + excluded.bad, bad_step = least(old.bad_step, excluded.bad_step)
  ), counted AS (
    INSERT INTO tally_log (name, count)
    SELECT tally.name, tally.points FROM fence, (SELECT count(*) AS points FROM inserted) AS new, (SELECT count(*) AS points FROM given)
      AS sent, LATERAL (VALUES ('metric-points', new.points), ('metric-points-again', sent.points - new.points))
      AS tally (name, points) WHERE tally.points > 0
  )
  SELECT (SELECT count(*) FROM fence)::int AS held, (SELECT count(*) FROM inserted)::int AS inserted`

/**
 * Adds points to the curves of a run and returns how many were new: a point that is already there is left as it is, so
 * that a batch may be sent again. Throws Superseded where the attempt is no longer the run's.
 */
export async function appendPoints(database: Queryable, fence: Fence, points: readonly Point[]): Promise<number> {
  const { rows } = await database.query<{ held: number; inserted: number }>({
    name: 'append-points',
    text: append,
    values: [
      fence.runId,
      fence.attempt,
      points.map(({ name }) => name),
      points.map(({ step }) => step),
      points.map(({ value }) => value),
      points.map(({ time }) => time.getTime()),
    ],
  })
  if (rows[0]!.held === 0) throw superseded(fence)
  return rows[0]!.inserted
}

export { type Curve, type CurveQuery, type CurvesOrError, readCurves, readEachCurves } from './curves.ts'
