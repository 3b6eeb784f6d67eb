import { createHash } from 'node:crypto'
import type pg from 'pg'
import { Damaged, NotFound } from '../errors.ts'
import type { Logger } from '../experiments/context.ts'
import { levelKept } from './curves.ts'
import { newId } from './id.ts'
import type { ObjectStore, StoredObject } from './objects.ts'
import { type Columns, encodeParquet, type Layout } from './parquet.ts'
import { transaction } from './pool.ts'
import { bits } from './rollups.ts'

export interface ArchivingOptions {
  pool: pg.Pool
  objects: ObjectStore
  /** Runs that finished so many days ago or earlier. */
  days: number
  log: Logger
  /** Ends the turn after the run at hand. */
  signal?: AbortSignal
  /** Between the moment from which on the file is read and the removal of the first row: longer than any read takes. */
  restSeconds?: number
}

/** Runs whose file was written, and runs whose points left the database. */
export interface Archived {
  stored: number
  emptied: number
}

/** Points that are read, written as one row group, and removed in one transaction. */
export const pointsAtOnce = 32_768

// 'gestalt' has no meaning as a number; this one only has to differ from the locks of Prisma, BullMQ and the reconciler.
const advisoryLock = 7_239_115

const folderOf = (runId: string) => `runs/${runId}/archive`

interface PointRow {
  step: string
  value: number
  time: string
}

/** The ids of its curves by their names. */
async function seriesOf(pool: pg.Pool, runId: string): Promise<Map<string, string>> {
  const { rows } = await pool.query<{ id: string; name: string }>(
    'SELECT id, name FROM metric_series WHERE run_id = $1 ORDER BY name',
    [runId],
  )
  return new Map(rows.map(({ id, name }) => [name, id]))
}

/** All points of a run, curve by curve, some at a time. It has finished: nothing is added meanwhile. */
async function* readPoints(pool: pg.Pool, runId: string): AsyncGenerator<Columns & { name: string }> {
  for (const [name, id] of await seriesOf(pool, runId))
    for (let after: string | null = null; ; ) {
      const { rows }: pg.QueryResult<PointRow> = await pool.query<PointRow>(
        `SELECT step, value, round(extract(epoch FROM time) * 1000)::bigint AS time FROM metric_points
         WHERE series_id = $1 AND ($2::bigint IS NULL OR step > $2) ORDER BY step LIMIT ${pointsAtOnce}`,
        [id, after],
      )
      if (rows.length === 0) break
      yield {
        name,
        steps: BigInt64Array.from(rows, (row) => BigInt(row.step)),
        values: Float64Array.from(rows, (row) => row.value),
        times: BigInt64Array.from(rows, (row) => BigInt(row.time)),
      }
      after = rows.at(-1)!.step
    }
}

/** Reads the whole object again and compares it with what was put. */
async function verify(objects: ObjectStore, { key, size, sha256 }: StoredObject): Promise<void> {
  const hash = createHash('sha256')
  let seen = 0
  for await (const chunk of await objects.get(key)) {
    hash.update(chunk as Buffer)
    seen += (chunk as Buffer).length
  }
  if (seen !== size || hash.digest('hex') !== sha256)
    throw new Damaged(`the object ${key} is not what was stored`, 'it is made again from the points in the database')
}

/** How many points the rollups of a run have counted: as many as its file must hold. */
async function countPoints(pool: pg.Pool, runId: string): Promise<number> {
  const { rows } = await pool.query<{ count: string }>(
    `SELECT coalesce(sum(count), 0) AS count FROM metric_rollups
     WHERE level = 4 AND series_id IN (SELECT id FROM metric_series WHERE run_id = $1)`,
    [runId],
  )
  return Number(rows[0]!.count)
}

/** The row that makes the file what is read; false where the run may still write, or has its row already. */
function makeVisible(pool: pg.Pool, runId: string, { key, size, sha256 }: StoredObject, layout: Layout) {
  return transaction(pool, async (client) => {
    const { rowCount: finished } = await client.query(
      'SELECT id FROM runs WHERE id = $1 AND finished_at IS NOT NULL FOR UPDATE',
      [runId],
    )
    if (!finished) return false
    const points = layout.parts.reduce((sum, part) => sum + part.points, 0)
    const { rowCount } = await client.query(
      `INSERT INTO archives (run_id, key, size, sha256, points, parts) VALUES ($1, $2, $3, $4, $5, $6)
       ON CONFLICT DO NOTHING`,
      [runId, key, size, sha256, points, JSON.stringify(layout)],
    )
    return rowCount === 1
  })
}

/** Writes the file of a run, verifies it, and only then the row. */
async function store({ pool, objects }: ArchivingOptions, runId: string): Promise<boolean> {
  // Files of turns that were killed before their row.
  for await (const { key } of objects.list(`${folderOf(runId)}/`)) await objects.remove(key)
  const layout: Layout = { parts: [], footer: { start: 0, end: 0, sha256: '' } }
  const key = `${folderOf(runId)}/${newId()}.parquet`
  const type = 'application/vnd.apache.parquet'
  const stored = await objects.put(key, encodeParquet(readPoints(pool, runId), layout), { type })
  try {
    await verify(objects, stored)
    const [points, counted] = [layout.parts.reduce((sum, part) => sum + part.points, 0), await countPoints(pool, runId)]
    if (points !== counted)
      throw new Damaged(`run ${runId} has ${points} points, and its rollups count ${counted}`, 'its points stay')
    if (await makeVisible(pool, runId, stored, layout)) return true
  } catch (error) {
    await objects.remove(key).catch(() => {})
    throw error
  }
  await objects.remove(key)
  return false
}

/**
 * Removes the points of one stretch from the database, but for those that rollups of higher levels name: some hundred,
 * gathered first. As a condition on each point the planner may look them up in all rollups instead, which took seconds.
 */
const removal = `DELETE FROM metric_points WHERE series_id = $1 AND step BETWEEN $2 AND $3 AND step <> ALL (ARRAY(
    SELECT named FROM metric_rollups
    CROSS JOIN LATERAL unnest(ARRAY[first_step, last_step, min_step, max_step, bad_step]) AS named
    WHERE series_id = $1 AND level = ${levelKept} AND named IS NOT NULL
      AND bucket BETWEEN $2::bigint >> ${bits * levelKept} AND $3::bigint >> ${bits * levelKept}
  ))`

interface Waiting {
  runId: string
  key: string
  size: string
  sha256: string
  layout: Layout
  begun: boolean
}

/** Removes the points of an archived run, some in each statement: one that is broken off is gone on with. */
async function empty({ pool, objects, log }: ArchivingOptions, row: Waiting): Promise<boolean> {
  const { runId } = row
  if (!row.begun) {
    try {
      await verify(objects, { ...row, size: Number(row.size) })
    } catch (error) {
      if (!(error instanceof Damaged || error instanceof NotFound)) throw error
      log.warn(`the archive of run ${runId} is made again, since no point has left the database: ${error.message}`)
      await pool.query('DELETE FROM archives WHERE run_id = $1 AND begun_at IS NULL', [runId])
      return false
    }
    await pool.query('UPDATE archives SET begun_at = now() WHERE run_id = $1', [runId])
  }
  const series = await seriesOf(pool, runId)
  for (const { name, first, last } of row.layout.parts) await pool.query(removal, [series.get(name), first, last])
  await pool.query('UPDATE archives SET emptied_at = now() WHERE run_id = $1', [runId])
  return true
}

const finishedRuns = `SELECT id, finished_at::text AS "finishedAt" FROM runs AS run
  WHERE finished_at < now() - make_interval(days => $1) AND ($2::timestamptz IS NULL OR (finished_at, id) > ($2, $3::uuid))
    AND EXISTS (SELECT FROM metric_series WHERE run_id = run.id)
    AND NOT EXISTS (SELECT FROM archives WHERE run_id = run.id)
  ORDER BY finished_at, id LIMIT 100`

const storedRuns = `SELECT run_id AS "runId", key, size, sha256, parts AS layout, begun_at IS NOT NULL AS begun
  FROM archives WHERE emptied_at IS NULL AND created_at <= now() - make_interval(secs => $1) ORDER BY created_at LIMIT 100`

/** What goes wrong with one run is told and does not hold up the others. */
async function each(options: ArchivingOptions, runId: string, work: () => Promise<boolean>): Promise<number> {
  try {
    return (await work()) ? 1 : 0
  } catch (error) {
    if (!(error instanceof Damaged || error instanceof NotFound)) throw error
    options.log.error(`the points of run ${runId} are not archived: ${error.message}`)
    return 0
  }
}

async function emptyAll(options: ArchivingOptions): Promise<number> {
  let emptied = 0
  for (;;) {
    const { rows } = await options.pool.query<Waiting>(storedRuns, [options.restSeconds ?? 600])
    let moved = 0
    for (const row of rows) {
      if (options.signal?.aborted) return emptied
      moved += await each(options, row.runId, () => empty(options, row))
    }
    emptied += moved
    if (moved === 0) return emptied
  }
}

async function storeAll(options: ArchivingOptions): Promise<number> {
  let stored = 0
  let after: { finishedAt: string | null; id: string | null } = { finishedAt: null, id: null }
  for (;;) {
    const { rows } = await options.pool.query<{ finishedAt: string; id: string }>(finishedRuns, [
      options.days,
      after.finishedAt,
      after.id,
    ])
    for (const { id } of rows) {
      if (options.signal?.aborted) return stored
      stored += await each(options, id, () => store(options, id))
    }
    if (rows.length === 0) return stored
    after = rows.at(-1)!
  }
}

/**
 * Moves the points of runs that finished long ago from the database to the object store, as one Parquet file a run. The
 * file comes first, its row second, and the points leave the database a while later, in small transactions; rollups and
 * the points that those of level 2 and above name stay. It may be killed anywhere: the next turn goes on. Only one
 * process does it at a time; the others return at once.
 */
export async function archivePoints(options: ArchivingOptions): Promise<Archived> {
  const client = await options.pool.connect()
  try {
    const { rows } = await client.query<{ mine: boolean }>('SELECT pg_try_advisory_lock($1) AS mine', [advisoryLock])
    if (!rows[0]?.mine) return { stored: 0, emptied: 0 }
    try {
      const emptied = await emptyAll(options)
      return { stored: await storeAll(options), emptied }
    } finally {
      await client.query('SELECT pg_advisory_unlock($1)', [advisoryLock])
    }
  } finally {
    client.release()
  }
}
