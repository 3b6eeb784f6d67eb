import { GestaltError } from '../errors.ts'
import { type Places, type PointRow, readFiles } from './archived-curves.ts'
import type { Shelf } from './archives.ts'
import { isId } from './id.ts'
import { bits, levels, type Queryable } from './rollups.ts'

/** Real points of one metric of a run in the order of their steps. */
export interface Curve {
  name: string
  /** Whether points were left out. */
  sampled: boolean
  points: { step: number; value: number; time: Date }[]
}

export interface CurveQuery {
  /** All where absent. */
  names?: readonly string[]
  /** First and last step, both included. */
  from?: number
  to?: number
  /** Of each curve, at least 5. */
  maxPoints: number
}

interface Series {
  id: string
  runId: string
  name: string
  /** First and last step, within what is asked for. */
  first: number
  last: number
  /** Points within what is asked for, or a few more: those of all blocks that it touches. */
  atMost: number
  /** Whether the curve ends there. */
  begins: boolean
  ends: boolean
  /** Whether its points have left the database but for those that rollups of higher levels name. */
  archived: boolean
}

/** Part of a series to be read: rollups of a level from bucket `lo` to bucket `hi`, or points where the level is 0. */
interface Stretch extends Places {
  series: string
  level: number
  lo: number
  hi: number
}

const block = (level: number) => 2 ** (bits * level)
const topLevel = levels.at(-1)!
/** Points a place of a sampled curve may give: its first, last, lowest, highest and first non-finite one. */
const pointsPerPlace = 5

/**
 * The steps from `first` to `last` as few blocks: whole ones of `level` in the middle, smaller ones towards the ends.
 * No more than 62 of each level below.
 */
function cover(first: number, last: number, level: number): { level: number; lo: number; hi: number }[] {
  if (first > last) return []
  const size = block(level)
  const lo = Math.ceil(first / size)
  const hi = Math.floor((last + 1) / size) - 1
  if (level === 0) return [{ level, lo, hi }]
  if (lo > hi) return cover(first, last, level - 1)
  return [...cover(first, lo * size - 1, level - 1), { level, lo, hi }, ...cover((hi + 1) * size, last, level - 1)]
}

/** The coarsest level whose blocks are no wider than a place, so that the rows read are some dozens a place at most. */
function stretches({ id, first, last, atMost, begins, ends }: Series, maxPoints: number): Stretch[] {
  if (atMost <= maxPoints || last - first < maxPoints)
    return [{ series: id, level: 0, lo: first, hi: last, origin: 0, width: 0 }]
  const places = Math.max(1, Math.floor(maxPoints / pointsPerPlace) - 1)
  const wanted = Math.ceil((last - first + 1) / places)
  let level = 0
  while (level < topLevel && block(level + 1) <= wanted) level++
  const size = block(level)
  const width = Math.ceil(wanted / size) * size
  const origin = Math.floor(first / size) * size
  // Where the curve itself ends its last block holds nothing else, so there is nothing to be cut off in smaller ones.
  const from = begins ? origin : first
  const to = ends ? Math.floor(last / size) * size + size - 1 : last
  return cover(from, to, level).map((part) => ({ series: id, ...part, origin, width }))
}

// The number of points is summed over blocks of a level of which no more than 1,025 fit into what is asked for.
const seriesOfRuns = `SELECT id, "runId", name, first::float8, last::float8, first = first_step AS begins,
    last = last_step AS ends, EXISTS (SELECT FROM archives WHERE run_id = "runId") AS archived, (
    SELECT coalesce(sum(count), 0) FROM metric_rollups AS rollup WHERE series_id = id AND rollup.level = series.level
      AND bucket BETWEEN first >> (${bits} * level) AND last >> (${bits} * level)
  )::float8 AS "atMost"
  FROM (
    SELECT *, CASE ${levels
      .slice(0, -1)
      .map((level) => `WHEN last - first < ${block(level) * 1024} THEN ${level}`)
      .join(' ')} ELSE ${levels.at(-1)} END AS level
    FROM (
      SELECT id, run_id AS "runId", name, first_step, last_step, greatest(first_step, $3) AS first,
        least(last_step, $4) AS last
      FROM metric_series
      WHERE run_id = ANY ($1::uuid[]) AND ($2::text[] IS NULL OR name = ANY ($2)) AND first_step <= $4 AND last_step >= $3
    ) AS asked
  ) AS series ORDER BY "runId", name`

// The LIMITs change nothing but keep each of these a walk along the primary key, whatever the planner guesses.
const pointsOfSeries = `WITH stretch AS MATERIALIZED (
    SELECT * FROM unnest($1::bigint[], $2::smallint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[])
      AS stretch (series_id, level, lo, hi, origin, width)
  ), part AS (
    SELECT stretch.series_id, (first_step - origin) / width AS place, count, first_step, last_step, min, min_step, max,
      max_step, bad_step
    FROM stretch CROSS JOIN LATERAL (
      SELECT * FROM metric_rollups AS rollup WHERE rollup.series_id = stretch.series_id
        AND rollup.level = stretch.level AND bucket BETWEEN lo AND hi LIMIT 1000000
    ) AS rollup WHERE stretch.level > 0
    UNION ALL
    SELECT series_id, (step - origin) / width, 1, step, step, CASE WHEN finite THEN value END,
      CASE WHEN finite THEN step END, CASE WHEN finite THEN value END, CASE WHEN finite THEN step END,
      CASE WHEN NOT finite THEN step END
    FROM (
      SELECT stretch.series_id, origin, width, step, value, value NOT IN ('NaN', 'Infinity', '-Infinity') AS finite
      FROM stretch CROSS JOIN LATERAL (
        SELECT step, value FROM metric_points AS point
        WHERE point.series_id = stretch.series_id AND step BETWEEN lo AND hi LIMIT 1000000
      ) AS point WHERE stretch.level = 0 AND width > 0
    ) AS point
  ), place AS (
    SELECT series_id, sum(count) AS count, min(first_step) AS first_step, max(last_step) AS last_step,
      (array_agg(min_step ORDER BY min, min_step) FILTER (WHERE min_step IS NOT NULL))[1] AS min_step,
      (array_agg(max_step ORDER BY max DESC, max_step) FILTER (WHERE max_step IS NOT NULL))[1] AS max_step,
      min(bad_step) AS bad_step
    FROM part GROUP BY series_id, place
  ), chosen AS (
    SELECT DISTINCT series_id, step
    FROM place CROSS JOIN LATERAL (VALUES (first_step), (last_step), (min_step), (max_step), (bad_step)) AS one (step)
    WHERE step IS NOT NULL
  ), total AS (
    SELECT series_id, sum(count)::float8 AS points FROM place GROUP BY series_id
  )
  SELECT chosen.series_id AS series, point.*, total.points AS total FROM chosen JOIN total USING (series_id)
  CROSS JOIN LATERAL (
    SELECT step::float8, value, date_part('epoch', time) * 1000 AS time FROM metric_points AS point
    WHERE point.series_id = chosen.series_id AND point.step = chosen.step LIMIT 1
  ) AS point
  UNION ALL
  SELECT stretch.series_id, point.*, NULL FROM stretch CROSS JOIN LATERAL (
    SELECT step::float8, value, date_part('epoch', time) * 1000 AS time FROM metric_points AS point
    WHERE point.series_id = stretch.series_id AND step BETWEEN lo AND hi LIMIT 1000000
  ) AS point WHERE width = 0
  ORDER BY 1, 2`

/** `step` bigint, as far as a double counts exactly. */
const farthest = Number.MAX_SAFE_INTEGER

async function readPoints(database: Queryable, parts: readonly Stretch[]): Promise<Map<string, PointRow[]>> {
  const found = new Map<string, PointRow[]>(parts.map(({ series }) => [series, []]))
  if (parts.length === 0) return found
  const { rows } = await database.query<PointRow>({
    name: 'points-of-series',
    text: pointsOfSeries,
    values: [
      parts.map((part) => part.series),
      parts.map((part) => part.level),
      parts.map((part) => part.lo),
      parts.map((part) => part.hi),
      parts.map((part) => part.origin),
      parts.map((part) => part.width),
    ],
  })
  for (const row of rows) found.get(row.series)?.push(row)
  return found
}

/** The level from which on the points that rollups name stay in the database when a run is archived. */
export const levelKept = 2

/** What becomes of each run: its curves, or the error that kept them from being read. */
export type CurvesOrError = Curve[] | GestaltError

/**
 * The curves of any number of runs, by run, in two statements and, where points have been archived, with reads of their
 * files. A curve with more points than may be returned is shown by real points of it: the first, last, lowest, highest
 * and first non-finite one of each of its stretches. The rows read are bounded by `maxPoints`, however long the curve is.
 * Where the archive of one run is lost, the others are there all the same.
 */
export async function readEachCurves(
  database: Queryable,
  runIds: readonly string[],
  query: CurveQuery,
  objects: Shelf,
): Promise<Map<string, CurvesOrError>> {
  const maxPoints = Math.max(pointsPerPlace, query.maxPoints)
  const names = query.names?.filter((name) => !name.includes('\0')) // Postgres knows no such text, and no such curve
  const { rows: series } = await database.query<Series>({
    name: 'series-of-runs',
    text: seriesOfRuns,
    values: [runIds.filter(isId), names ?? null, query.from ?? -farthest, query.to ?? farthest],
  })
  const parts: Stretch[] = []
  const inFiles = new Map<string, [Series, Places][]>()
  for (const one of series) {
    const own = stretches(one, maxPoints)
    const isKept = !one.archived || own.every(({ level }) => level >= levelKept)
    if (isKept) parts.push(...own)
    else inFiles.set(one.runId, [...(inFiles.get(one.runId) ?? []), [one, own[0]!]])
  }
  const [inRows, read] = await Promise.all([readPoints(database, parts), readFiles(database, objects, inFiles)])
  const curves = new Map<string, CurvesOrError>(runIds.map((id) => [id, []]))
  for (const { id, runId, name } of series) {
    const file = read.get(runId)
    const shown = curves.get(runId)
    if (file instanceof GestaltError) curves.set(runId, file)
    if (file instanceof GestaltError || !Array.isArray(shown)) continue
    const points = inRows.get(id) ?? file?.get(id) ?? []
    if (points.length === 0) continue // between two points there is nothing
    const sampled = (points[0]!.total ?? points.length) > points.length
    shown.push({
      name,
      sampled,
      points: points.map(({ step, value, time }) => ({ step, value, time: new Date(Math.round(time)) })),
    })
  }
  return curves
}

/** As readEachCurves, but throws where the curves of one of the runs cannot be read. */
export async function readCurves(
  database: Queryable,
  runIds: readonly string[],
  query: CurveQuery,
  objects: Shelf,
): Promise<Map<string, Curve[]>> {
  const each = await readEachCurves(database, runIds, query, objects)
  for (const curves of each.values()) if (curves instanceof GestaltError) throw curves
  return each as Map<string, Curve[]>
}
