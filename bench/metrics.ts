// Writing and reading one curve of a million points on the embedded PostgreSQL, through the functions a run uses.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openDatabase } from '../src/store/database.ts'
import { startPostgres } from '../src/store/embedded-postgres.ts'
import { newId } from '../src/store/id.ts'
import { openLedger } from '../src/store/ledger.ts'
import { appendPoints, readCurves } from '../src/store/metrics.ts'
import { migrate } from '../src/store/migrate.ts'

/** Nothing is archived here. */
const noObjects = { get: () => Promise.reject(new Error('there are no objects')) }
const total = Number(process.argv[3] ?? 1_000_000)
const batchSize = 1000

const home = mkdtempSync(join(tmpdir(), 'gestalt-bench-'))
const server = await startPostgres({ home })
try {
  await migrate(server.url)
  const database = await openDatabase({ url: server.url, max: 2, name: 'bench' })
  const ledger = openLedger(database)
  const submission = { name: 'bench', tags: [], notes: '', priority: 0, definition: {}, plan: {} }
  const accepted = await ledger.accept(submission)
  if (accepted.mismatch) throw new Error('the submission was refused')
  const runId = accepted.runIds[0]!
  const fence = { runId, attempt: (await ledger.begin(runId, newId()))!.attempt }

  const time = new Date()
  const batch = (from: number) =>
    Array.from({ length: batchSize }, (_, n) => ({ name: 'loss', step: from + n, value: Math.sin(from + n), time }))
  const milliseconds = async (work: () => Promise<unknown>) => {
    const began = performance.now()
    await work()
    return performance.now() - began
  }
  const median = (times: number[]) => [...times].sort((a, b) => a - b)[times.length >> 1]!
  const round = (value: number) => Math.round(value * 10) / 10

  const writes: number[] = []
  for (let from = 0; from < total; from += batchSize)
    writes.push(await milliseconds(() => appendPoints(database.pool, fence, batch(from))))
  const resent = await milliseconds(() => appendPoints(database.pool, fence, batch(0)))
  const read = async (query: { from?: number; to?: number; maxPoints: number }) => {
    let points = 0
    const times = []
    for (let round = 0; round < 9; round++)
      times.push(
        await milliseconds(async () => {
          points = (await readCurves(database.pool, [runId], query, noObjects)).get(runId)![0]!.points.length
        }),
      )
    return { milliseconds: round(median(times)), points }
  }
  const { rows } = await database.pool.query(
    `SELECT pg_total_relation_size('metric_points') AS points, pg_total_relation_size('metric_rollups') AS rollups`,
  )
  const result = {
    rows: total,
    batchSize,
    rowsPerSecond: Math.round(total / (writes.reduce((sum, one) => sum + one, 0) / 1000)),
    batchMilliseconds: { median: round(median(writes)), first: round(writes[0]!), resent: round(resent) },
    readWhole: await read({ maxPoints: 1000 }),
    readMiddle: await read({ from: Math.floor(total / 3), to: Math.floor(total / 2), maxPoints: 1000 }),
    readEvery: await read({ from: 1000, to: 1999, maxPoints: 1000 }),
    megabytes: { points: round(rows[0].points / 1e6), rollups: round(rows[0].rollups / 1e6) },
  }
  await database.close()
  console.log(JSON.stringify(result))
} finally {
  await server.stop()
  for (const folder of [server.directory, home]) rmSync(folder, { recursive: true, force: true })
}
