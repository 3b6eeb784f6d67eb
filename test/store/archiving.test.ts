import { fork } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { archivePoints, pointsAtOnce } from '../../src/store/archiving.ts'
import { newId } from '../../src/store/id.ts'
import { appendPoints, type Point, readCurves } from '../../src/store/metrics.ts'
import { readAll } from '../../src/store/objects.ts'
import { openWorld, type World } from '../api/world.ts'
import { eventually } from '../eventually.ts'
import { hasS3, testS3 } from '../s3.ts'
import { silent } from '../silent.ts'

const at = Date.parse('2026-01-01T00:00:00Z')
/** Longer than two row groups, so that its overview is read from rollups that name points which stay. */
const long = 2 * pointsAtOnce + 4321
const special = new Map([
  [77, Number.NaN],
  [1500, Infinity],
  [40_000, -Infinity],
  [41_111, 5e-324],
  [50_000, 1e300],
  [50_001, -1e300],
])
const numberAt = (step: number) => special.get(step) ?? Math.sin(step / 900) + ((step * 7919) % 13) / 50

let world: World
beforeEach(async () => {
  world = await openWorld()
})
afterEach(() => world.close())

async function append(fence: { runId: string; attempt: number }, points: readonly Point[]) {
  for (let from = 0; from < points.length; from += 20_000)
    await appendPoints(world.parts.database.pool, fence, points.slice(from, from + 20_000))
}

function curve(name: string, count: number, stepOf = (n: number) => n): Point[] {
  return Array.from({ length: count }, (_, n) => {
    const step = stepOf(n)
    return { name, step, value: numberAt(step), time: new Date(at + step * 3 + (step % 2)) }
  })
}

async function startRun() {
  const { ledger } = world.parts
  const accepted = await ledger.accept({ name: 'kept', tags: [], notes: '', priority: 0, definition: {}, plan: {} })
  if (accepted.mismatch) throw new Error('no key was given')
  const runId = accepted.runIds[0]!
  return { runId, attempt: (await ledger.begin(runId, newId()))!.attempt }
}

/** A run that has ended, with these points. */
async function finishedRun(points: readonly Point[]) {
  const fence = await startRun()
  await append(fence, points)
  await world.parts.ledger.end(fence, { state: 'succeeded' })
  return fence
}

function archive(changes: { days?: number; restSeconds?: number } = {}) {
  const { database, objects } = world.parts
  return archivePoints({ pool: database.pool, objects, days: 0, restSeconds: 0, log: silent, ...changes })
}

/** One turn writes the files, the next removes the points. */
async function archiveAll() {
  const stored = await archive()
  return { stored: stored.stored, emptied: (await archive()).emptied }
}

const rawPoints = async (runId: string) =>
  Number(
    (
      await world.parts.database.pool.query(
        'SELECT count(*) FROM metric_points WHERE series_id IN (SELECT id FROM metric_series WHERE run_id = $1)',
        [runId],
      )
    ).rows[0].count,
  )

const objectsOf = async (runId: string) => {
  const keys: string[] = []
  for await (const { key } of world.parts.objects.list(`runs/${runId}/archive/`)) keys.push(key)
  return keys
}

/** Every kind of question about a curve: whole, cut, of all sizes. */
const questions = [
  ...[5, 37, 100, 500, 1000, 10_000].map((maxPoints) => ({ maxPoints })),
  ...[5, 100, 1000].flatMap((maxPoints) =>
    [
      { from: 0, to: 3 },
      { from: 41_000, to: 41_999 },
      { from: 1, to: long - 2 },
      { from: 30_000, to: 60_123 },
      { to: 32_768 },
      { from: 65_000 },
      { from: 1_000_000 },
    ].map((range) => ({ ...range, maxPoints })),
  ),
  { names: ['sparse'], maxPoints: 50 },
  { names: ['absent'], maxPoints: 50 },
]

async function answers(runIds: readonly string[]) {
  const { database, objects } = world.parts
  const found: unknown[] = []
  for (const question of questions) found.push(await readCurves(database.pool, runIds, question, objects))
  for (const runId of runIds) {
    found.push((await world.send(`/v1/runs/${runId}/metrics?maxPoints=300`)).body)
    const csv = await world.send(`/v1/runs/${runId}/metrics?maxPoints=10000`, undefined, {
      headers: { accept: 'text/csv' },
    })
    found.push([csv.body, csv.headers['x-sampled']])
  }
  const asked = '{ runs { nodes { id metrics(maxPoints: 40) { name sampled points { step text time } } } } }'
  found.push(await world.query(asked))
  return found
}

const manyCurves = () => [
  ...curve('loss', long),
  ...curve('learningRate', 700),
  ...curve('sparse', 300, (n) => n * n * 1000 + 5),
  ...curve('Größe, "µ"', 1),
]

describe('archived points', () => {
  it('are answered as before, whatever is asked and by whichever door', async () => {
    const runIds = [
      (await finishedRun(manyCurves())).runId,
      (await finishedRun(curve('loss', 3000))).runId,
      (await finishedRun([])).runId,
    ]
    // The driver does not send -0, but another may have.
    await world.parts.database.pool.query("UPDATE metric_points SET value = '-0' WHERE value = 0")
    const before = await answers(runIds)
    expect(await archive()).toEqual({ stored: 2, emptied: 0 })
    expect(await answers(runIds)).toEqual(before)
    expect(await archive()).toEqual({ stored: 0, emptied: 2 })
    expect(await answers(runIds)).toEqual(before)
    expect(await archive()).toEqual({ stored: 0, emptied: 0 })
  })

  it.skipIf(!hasS3)('are read from S3 by ranges alike, and a file that is lost there is told as such', async () => {
    const s3 = await testS3()
    try {
      await world.close()
      world = await openWorld({ s3: s3.config })
      const { runId } = await finishedRun(curve('loss', 3000))
      const before = await answers([runId])
      expect(await archiveAll()).toEqual({ stored: 1, emptied: 1 })
      expect(await answers([runId])).toEqual(before)
      const [key] = await objectsOf(runId)
      await world.parts.objects.remove(key!)
      const lost = (await world.send(`/v1/runs/${runId}/metrics`)).json()
      expect(lost).toMatchObject({ code: 'damaged', detail: expect.stringContaining(`${key}, which is not there`) })
    } finally {
      s3.stop()
    }
  })

  it('leave the database, but for those that overviews of long curves show', async () => {
    const { runId } = await finishedRun(curve('loss', long))
    const { database, objects } = world.parts
    const overview = async () => (await readCurves(database.pool, [runId], { maxPoints: 300 }, objects)).get(runId)!
    const before = await overview()
    expect(await rawPoints(runId)).toBe(long)
    await archiveAll()
    const kept = await rawPoints(runId)
    expect(kept).toBeGreaterThan(before[0]!.points.length)
    expect(kept).toBeLessThanOrEqual(Math.ceil(long / 1024) * 5)
    for (const key of await objectsOf(runId)) await objects.remove(key)
    expect(await overview()).toEqual(before)
  })

  it('are only those of runs that finished long enough ago', async () => {
    const { database } = world.parts
    const [fresh, old] = [await finishedRun(curve('loss', 50)), await finishedRun(curve('loss', 50))]
    const running = await startRun()
    await append(running, curve('loss', 50))
    await database.pool.query("UPDATE runs SET finished_at = now() - interval '31 days' WHERE id = $1", [old.runId])
    expect(await archive({ days: 30 })).toEqual({ stored: 1, emptied: 0 })
    expect(await archive({ days: 30, restSeconds: 600 })).toEqual({ stored: 0, emptied: 0 })
    expect(await archive({ days: 30 })).toEqual({ stored: 0, emptied: 1 })
    const left = await Promise.all([fresh, old, running].map(({ runId }) => rawPoints(runId)))
    expect(left).toEqual([50, 3, 50])
  })

  it('are not added to: a batch that comes late is refused like that of any attempt that is over', async () => {
    const fence = await finishedRun(curve('loss', 50))
    await archiveAll()
    await expect(append(fence, curve('loss', 60))).rejects.toMatchObject({ code: 'superseded' })
    expect(await rawPoints(fence.runId)).toBe(3)
  })

  it('whose file is lost or changed are told as such, and the curves of other runs are there', async () => {
    const [lost, other] = [await finishedRun(curve('loss', 500)), await finishedRun(curve('loss', 500))]
    await archiveAll()
    const { objects, config } = world.parts
    const [key] = await objectsOf(lost.runId)
    const folder = join(config.home, 'objects/keys', key!)
    const file = join(folder, readdirSync(folder)[0]!)
    const bytes = await readAll(await objects.get(key!))
    const ask = () => world.send(`/v1/runs/${lost.runId}/metrics`)
    bytes[2000]! ^= 1
    writeFileSync(file, bytes)
    expect((await ask()).json()).toMatchObject({ status: 500, code: 'damaged' })
    expect((await ask()).json().detail).toMatch(new RegExp(`run ${lost.runId} .*${key}.*bytes 4 to`))
    writeFileSync(file, bytes.subarray(0, 1000))
    expect((await ask()).json().detail).toMatch(new RegExp(`run ${lost.runId} .*${key}.*1000 bytes instead of`))
    rmSync(folder, { recursive: true })
    expect((await ask()).json().detail).toMatch(new RegExp(`run ${lost.runId} .*${key}, which is not there`))
    const asked = '{ runs { nodes { id metrics(maxPoints: 40) { name points { step } } } } }'
    const listed = await world.query(
      `query { ${[lost, other].map(({ runId }, n) => `r${n}: run(id: "${runId}") { id metrics(maxPoints: 40) { name points { step } } }`).join(' ')} }`,
    )
    expect(listed.data.r0).toBeNull()
    expect(listed.data.r1.metrics[0].points.length).toBeGreaterThan(20)
    expect(listed.errors).toMatchObject([{ path: ['r0', 'metrics'], extensions: { code: 'damaged' } }])
    expect((await world.query(asked)).errors).toHaveLength(1)
  })

  it('whose file is found changed before the first of them has left are archived again', async () => {
    const { runId } = await finishedRun(curve('loss', 500))
    await archive()
    const { objects } = world.parts
    const [key] = await objectsOf(runId)
    await objects.remove(key!)
    expect(await archive()).toEqual({ stored: 1, emptied: 0 })
    expect(await archive()).toEqual({ stored: 0, emptied: 1 })
    expect(await objectsOf(runId)).not.toEqual([key])
  })

  const startArchiver = () => {
    const entry = fileURLToPath(new URL('../fixtures/archiver.ts', import.meta.url))
    const { database, config } = world.parts
    return fork(entry, [database.url, join(config.home, 'objects')], { execArgv: ['--import', 'tsx'] })
  }

  it('are answered as before when the process is killed halfway through their removal', async () => {
    const { runId } = await finishedRun(curve('loss', long))
    const before = await answers([runId])
    await archive()
    const holder = await world.parts.database.pool.connect()
    await holder.query('BEGIN')
    await holder.query('SELECT FROM metric_points WHERE step = 40001 FOR UPDATE') // the second stretch must wait for it
    const child = startArchiver()
    await eventually(async () => expect(await rawPoints(runId)).toBeLessThan(long - pointsAtOnce / 2))
    child.kill('SIGKILL')
    await once(child, 'exit')
    expect(await answers([runId])).toEqual(before)
    await holder.query('ROLLBACK')
    holder.release()
    await eventually(async () => expect(await archive()).toEqual({ stored: 0, emptied: 1 }))
    expect(await answers([runId])).toEqual(before)
  })

  it('are neither lost nor changed when the process that archives is killed, wherever it is', async () => {
    const runIds: string[] = []
    for (let n = 0; n < 2; n++) runIds.push((await finishedRun(curve('loss', long, (step) => step + n))).runId)
    const before = await answers(runIds)
    const { database } = world.parts
    let killed = 0
    for (let round = 0, done = false; !done; round++) {
      const child = startArchiver()
      const ended = once(child, 'exit')
      await once(child, 'message')
      const [how] = await Promise.race([once(child, 'message'), sleep(40 + 120 * round).then(() => ['late'])])
      if (how === 'late') killed += child.kill('SIGKILL') ? 1 : 0
      await ended
      expect(await answers(runIds)).toEqual(before)
      const { rows } = await database.pool.query('SELECT count(*)::int AS n FROM archives WHERE emptied_at IS NOT NULL')
      done = rows[0].n === runIds.length
    }
    expect(killed).toBeGreaterThan(2)
    for (const runId of runIds) {
      expect(await objectsOf(runId)).toHaveLength(1)
      expect(await rawPoints(runId)).toBeLessThan(long / 50)
    }
  }, 120_000)
})
