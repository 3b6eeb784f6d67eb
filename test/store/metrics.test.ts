import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Database, openDatabase } from '../../src/store/database.ts'
import { newId } from '../../src/store/id.ts'
import { type Ledger, openLedger } from '../../src/store/ledger.ts'
import { appendPoints, type Point, readCurves } from '../../src/store/metrics.ts'
import { testDatabase } from '../postgres.ts'

/** Nothing is archived here. */
const noObjects = { get: () => Promise.reject(new Error('there are no objects')) }
/** Of whatever is begun here: a worker may take over its own attempt. */
const worker = newId()
let scratch: Awaited<ReturnType<typeof testDatabase>>
let database: Database
let ledger: Ledger

beforeAll(async () => {
  scratch = await testDatabase()
  database = await openDatabase({ url: scratch.url, max: 6, name: 'metrics-test' })
  ledger = openLedger(database)
})
afterAll(async () => {
  await database.close()
  await scratch.drop()
})

async function running() {
  const accepted = await ledger.accept({ name: 'm', tags: [], notes: '', priority: 0, definition: {}, plan: {} })
  if (accepted.mismatch) throw new Error('mismatch')
  const runId = accepted.runIds[0]!
  const { attempt } = (await ledger.begin(runId, worker))!
  return { runId, attempt }
}

const at = new Date('2026-01-01T00:00:00Z')
const point = (name: string, step: number, value: number): Point => ({ name, step, value, time: new Date(+at + step) })
const rollups = async (runId: string) =>
  (
    await database.pool.query(
      `SELECT rollup.* FROM metric_rollups rollup JOIN metric_series series ON series.id = series_id
       WHERE run_id = $1 ORDER BY name, level, bucket`,
      [runId],
    )
  ).rows
const curves = async (runId: string, query: Parameters<typeof readCurves>[2]) =>
  (await readCurves(database.pool, [runId], query, noObjects)).get(runId)!

describe('points', () => {
  it('come back as they were written, non-finite ones too', async () => {
    const fence = await running()
    const values = [0.1 + 0.2, Number.NaN, Infinity, -Infinity, 5e-324, -0.5]
    await appendPoints(
      database.pool,
      fence,
      values.map((value, step) => point('loss', step, value)),
    )
    const [loss, ...others] = await curves(fence.runId, { maxPoints: 100 })
    expect(others).toEqual([])
    expect(loss).toMatchObject({ name: 'loss', sampled: false })
    expect(loss!.points.map(({ value }) => value)).toEqual(values)
    expect(loss!.points[3]).toEqual({ step: 3, value: -Infinity, time: new Date(+at + 3) })
  })

  it('sent again, whole or in part, change neither points nor rollups', async () => {
    const fence = await running()
    const batch = Array.from({ length: 300 }, (_, step) => point(step % 2 ? 'a' : 'b', step, Math.sin(step)))
    expect(await appendPoints(database.pool, fence, batch)).toBe(300)
    const before = await rollups(fence.runId)
    expect(await appendPoints(database.pool, fence, batch)).toBe(0)
    const changed = batch.slice(100).map((one) => ({ ...one, value: one.value + 100 }))
    expect(await appendPoints(database.pool, fence, changed)).toBe(0)
    expect(await rollups(fence.runId)).toEqual(before)
    expect(await appendPoints(database.pool, fence, [batch[5]!, point('a', 1001, 3), point('a', 1001, 4)])).toBe(1)
    const counts = (await rollups(fence.runId)).filter(({ level }) => level === 4).map(({ count }) => Number(count))
    expect(counts).toEqual([151, 150])
  })

  it('arriving in any order and at the same time make the same rollups', async () => {
    const points = Array.from({ length: 4000 }, (_, step) =>
      point('x', step, step % 700 === 0 ? Number.NaN : Math.cos(step * step)),
    )
    const [one, other] = [await running(), await running()]
    await appendPoints(database.pool, one, points)
    const parts = [3, 1, 0, 2].map((part) => points.filter(({ step }) => step % 4 === part))
    await Promise.all(parts.map((part) => appendPoints(database.pool, other, part)))
    const plain = async (runId: string) => (await rollups(runId)).map(({ series_id, ...rest }) => rest)
    expect(await plain(other.runId)).toEqual(await plain(one.runId))
    const top = (await plain(one.runId)).at(-1)
    expect(top).toMatchObject({ level: 4, count: '4000', bad: '6', bad_step: '0', first_step: '0', last_step: '3999' })
  })

  it('of an attempt that was taken over are refused', async () => {
    const fence = await running()
    await ledger.begin(fence.runId, worker)
    await expect(appendPoints(database.pool, fence, [point('loss', 1, 1)])).rejects.toMatchObject({
      code: 'superseded',
    })
    expect(await curves(fence.runId, { maxPoints: 100 })).toEqual([])
  })
})

describe('a long curve', () => {
  const length = 20_000
  const special = new Map([
    [3_333, 1e6],
    [3_334, -1e6],
    [12_345, Number.NaN],
    [17_000, Infinity],
  ])
  const value = (step: number) => special.get(step) ?? Math.sin(step / 1000)
  let runId: string
  beforeAll(async () => {
    const fence = await running()
    runId = fence.runId
    for (let from = 0; from < length; from += 5000)
      await appendPoints(
        database.pool,
        fence,
        Array.from({ length: 5000 }, (_, place) => point('loss', from + place, value(from + place))),
      )
    await appendPoints(
      database.pool,
      fence,
      Array.from({ length: 50 }, (_, place) => point('rare', place * 400, place)),
    )
  })

  it.each([5, 10, 100, 1000, 5000])(
    'is shown by at most %i real points, its extremes among them',
    async (maxPoints) => {
      const loss = (await curves(runId, { names: ['loss'], maxPoints }))[0]!
      expect(loss.sampled).toBe(true)
      expect(loss.points.length).toBeLessThanOrEqual(maxPoints)
      expect(loss.points.length).toBeGreaterThan(maxPoints / 4)
      for (const { step, value: shown } of loss.points) expect(shown).toBe(value(step))
      const steps = loss.points.map(({ step }) => step)
      expect(steps).toEqual([...new Set(steps)].sort((a, b) => a - b))
      for (const step of [0, length - 1, 3_333, 3_334, 12_345]) expect(steps).toContain(step)
      if (maxPoints >= 100) expect(steps).toContain(17_000)
    },
  )

  it('is whole where its points are few, however far apart', async () => {
    const all = await curves(runId, { maxPoints: 60 })
    expect(all.map(({ name, sampled }) => [name, sampled])).toEqual([
      ['loss', true],
      ['rare', false],
    ])
    expect(all[1]!.points).toHaveLength(50)
  })

  it('is cut to the steps that are asked for, exactly', async () => {
    const part = (await curves(runId, { names: ['loss'], from: 3_334, to: 3_400, maxPoints: 100 }))[0]!
    expect(part).toMatchObject({ sampled: false })
    expect(part.points).toHaveLength(67)
    const sampled = (await curves(runId, { names: ['loss'], from: 3_334, to: 12_344, maxPoints: 200 }))[0]!
    const steps = sampled.points.map(({ step }) => step)
    expect([steps[0], steps.at(-1)]).toEqual([3_334, 12_344])
    expect(Math.max(...sampled.points.map(({ value: shown }) => shown))).toBeLessThan(2)
    expect(steps.length).toBeLessThanOrEqual(200)
    expect(await curves(runId, { names: ['loss'], from: 30_000, maxPoints: 100 })).toEqual([])
  })

  it('is read with those of other runs in two statements', async () => {
    let statements = 0
    const counting = {
      query: (...args: Parameters<typeof database.pool.query>) => {
        statements++
        return database.pool.query(...args)
      },
    } as unknown as typeof database.pool
    const ids = [runId, (await running()).runId, newId(), 'nonsense']
    const found = await readCurves(counting, ids, { maxPoints: 100 }, noObjects)
    expect(statements).toBe(2)
    expect(ids.map((id) => found.get(id)!.length)).toEqual([2, 0, 0, 0])
  })
})
