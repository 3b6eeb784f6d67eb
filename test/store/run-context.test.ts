import { createHash } from 'node:crypto'
import { mkdtemp, readdir, rm, truncate, writeFile } from 'node:fs/promises'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { memoryBytes } from '../../src/experiments/memory-context.ts'
import type { Progress } from '../../src/experiments/run.ts'
import type { Checkpoint } from '../../src/models/checkpoint.ts'
import { type Database, openDatabase } from '../../src/store/database.ts'
import { openDirectory } from '../../src/store/directory.ts'
import { newId } from '../../src/store/id.ts'
import { type Ledger, openLedger } from '../../src/store/ledger.ts'
import { channels, listen } from '../../src/store/listen.ts'
import { readCurves } from '../../src/store/metrics.ts'
import { type ObjectStore, readAll } from '../../src/store/objects.ts'
import { openPool } from '../../src/store/pool.ts'
import { openRunContext, type RunContextOptions } from '../../src/store/run-context.ts'
import { decodeSafetensors } from '../../src/store/safetensors.ts'
import { eventually } from '../eventually.ts'
import { testDatabase } from '../postgres.ts'

/** Of whatever is begun here: a worker may take over its own attempt. */
const worker = newId()
let scratch: Awaited<ReturnType<typeof testDatabase>>
let database: Database
let ledger: Ledger
let root: string
let objects: ObjectStore
const pools: pg.Pool[] = []

beforeAll(async () => {
  scratch = await testDatabase()
  database = await openDatabase({ url: scratch.url, max: 4, name: 'context-test' })
  ledger = openLedger(database)
  root = await mkdtemp(join(tmpdir(), 'gestalt-context-'))
  objects = openDirectory({ root, secret: 's', publicUrl: 'http://localhost' })
})
afterAll(async () => {
  await Promise.all(pools.map((pool) => pool.end()))
  await database.close()
  await scratch.drop()
  await rm(root, { recursive: true, force: true })
})

async function accepted(): Promise<string> {
  const acceptance = await ledger.accept({ name: 'c', tags: [], notes: '', priority: 0, definition: {}, plan: {} })
  if (acceptance.mismatch) throw new Error('mismatch')
  return acceptance.runIds[0]!
}

async function open(runId: string, options: Partial<RunContextOptions> = {}) {
  const { attempt } = (await ledger.begin(runId, worker))!
  const pool = openPool({ url: scratch.url, max: 2, name: `context-${runId.slice(-8)}` })
  pools.push(pool)
  const context = await openRunContext({
    database: { pool },
    objects,
    bytes: memoryBytes(),
    fence: { runId, attempt },
    stop: new AbortController().signal,
    ...options,
  })
  return { context, fence: { runId, attempt } }
}

const progress: Progress = {
  stage: 'training',
  epoch: 1,
  epochs: 8,
  step: 10,
  steps: 80,
  loss: 1.5,
  imagesPerSecond: 100,
  secondsLeft: 60,
  share: 0.1,
}

function checkpoint(step: number): Checkpoint {
  const data = Float32Array.from({ length: 1000 }, (_, place) => Math.sin(place * step))
  return { step, tensors: { 'weights/w': { dtype: 'F32', shape: [10, 100], data } }, meta: { seed: '7' } }
}

const stepsOf = async (runId: string) => (await ledger.checkpoints([runId])).get(runId)!.map(({ step }) => step)

/** The files of the objects below a folder of the store. */
async function filesOf(runId: string): Promise<string[]> {
  const entries = await readdir(join(root, 'keys/runs', runId, 'checkpoints'), { recursive: true, withFileTypes: true })
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name))
}

/** A way to the database that can be shut: connections through it break and new ones are refused. */
async function openDoor(url: string) {
  const { hostname, port } = new URL(url)
  const through = new Set<Socket>()
  const server = createServer((from) => {
    const to = connect(Number(port), hostname)
    for (const [one, other] of [
      [from, to],
      [to, from],
    ] as const) {
      through.add(one)
      one.on('error', () => {}).on('close', () => other.destroy())
      one.pipe(other)
    }
  })
  const listenOn = (own: number) => new Promise<void>((done) => server.listen(own, '127.0.0.1', done))
  await listenOn(0)
  const own = (server.address() as AddressInfo).port
  const shut = async () => {
    const closed = new Promise((done) => server.close(done))
    for (const socket of through) socket.destroy()
    await closed
  }
  return { url: url.replace(`:${port}/`, `:${own}/`), shut, open: () => listenOn(own) }
}

describe('what a run says', () => {
  it('is kept after a flush: metrics, log, samples, progress, engine', async () => {
    const runId = await accepted()
    const { context } = await open(runId)
    await context.recordEngine({ name: 'cpu', version: '1', threads: 1, device: 'test' })
    for (let step = 0; step < 2500; step++) context.metrics.report(step, { loss: 1 / (step + 1), nan: Number.NaN })
    context.log.info('first')
    context.log.warn('with \0 and ä')
    context.sample({ time: new Date(), cpu: 1.5, rss: 2 ** 33 })
    context.progress(progress)
    await context.flush()
    const curves = (await readCurves(database.pool, [runId], { maxPoints: 5000 }, objects)).get(runId)!
    expect(curves.map(({ name, points }) => [name, points.length])).toEqual([
      ['loss', 2500],
      ['nan', 2500],
    ])
    const lines = (await ledger.log([runId], 10)).get(runId)!
    expect(lines.map(({ level, text }) => `${level} ${text}`)).toEqual(['info first', 'warn with \ufffd and ä'])
    expect((await ledger.log([runId], 1)).get(runId)).toMatchObject([{ number: 2 }])
    expect((await ledger.samples([runId], 5)).get(runId)).toMatchObject([{ cpu: 1.5, rss: 2 ** 33, systemLoad: null }])
    expect((await ledger.runs([runId])).get(runId)!.progress).toEqual(progress)
    expect((await ledger.attempts([runId])).get(runId)).toMatchObject([{ engine: { name: 'cpu' } }])
    await context.close()
  })

  it('shows how its GPU is as curves: at most a point a step, and none before the first', async () => {
    const runId = await accepted()
    const { context } = await open(runId)
    context.gpu({ utilisation: 0.1, usedBytes: 1 })
    context.progress({ ...progress, step: 10 })
    context.gpu({ utilisation: 0.2, usedBytes: 2 })
    context.gpu({ utilisation: 0.3, usedBytes: 3 })
    context.progress({ ...progress, step: 20 })
    context.gpu({ utilisation: 0.4 })
    context.progress({ ...progress, step: 30 })
    context.gpu({})
    await context.flush()
    const curves = (await readCurves(database.pool, [runId], { maxPoints: 10 }, objects)).get(runId)!
    expect(curves.map(({ name, points }) => [name, points.map(({ step, value }) => [step, value])])).toEqual([
      ['gpuMemoryBytes', [[10, 2]]],
      [
        'gpuUtilisation',
        [
          [10, 0.2],
          [20, 0.4],
        ],
      ],
    ])
    context.progress({ ...progress, step: 40 })
    await context.close()
    expect(() => context.gpu({ utilisation: 0.5 })).not.toThrow()
  })

  it('is told to listeners at most every 250 ms, and the last of it always', async () => {
    const runId = await accepted()
    const { context } = await open(runId)
    const heard: number[] = []
    const listener = await listen(scratch.url, [channels.runs], {
      onMessage: (_channel, payload) => {
        const { runId: id, seq } = JSON.parse(payload)
        if (id === runId) heard.push(seq)
      },
      onReconnect: () => {},
    })
    const began = performance.now()
    for (let step = 0; step < 60; step++) {
      for (let n = 0; n < 40; n++) context.metrics.report(step * 40 + n, { a: 1, b: 2 })
      await new Promise((done) => setTimeout(done, 10))
    }
    const written = async () => {
      const curves = (await readCurves(database.pool, [runId], { maxPoints: 5000 }, objects)).get(runId)!
      return curves.map(({ points }) => points.length)
    }
    await eventually(async () => expect(await written()).toEqual([2400, 2400]))
    const version = async () => (await ledger.runs([runId])).get(runId)!.version
    const last = async () => heard.at(-1) === (await version())
    await eventually(async () => expect(await last()).toBe(true))
    expect(heard.length).toBeGreaterThan(1)
    for (let step = 1; step <= 20; step++) {
      context.metrics.report(3000 + step, { a: 1 })
      await context.checkpoints.save(checkpoint(step))
      await context.artifacts.put(`${step}.txt`, 'text/plain', Buffer.from('x'))
      await context.findings.report(step, 'nearest-neighbours', { scores: { accuracy: 0.5 } })
    }
    await eventually(async () => expect(await last()).toBe(true))
    expect(heard.length).toBeLessThanOrEqual((performance.now() - began) / 250 + 2)
    await listener.close()
    await context.close()
  })

  it('is refused after another attempt has begun, and the run is asked to stop', async () => {
    const runId = await accepted()
    const { context } = await open(runId)
    await ledger.begin(runId, worker)
    context.metrics.report(1, { loss: 1 })
    await expect(context.flush()).rejects.toMatchObject({ code: 'superseded' })
    expect(context.stop.aborted).toBe(true)
    expect(context.stop.reason).toBe('superseded')
    expect(() => context.metrics.report(2, { loss: 1 })).toThrow(expect.objectContaining({ code: 'superseded' }))
    expect(() => context.progress(progress)).toThrow(expect.objectContaining({ code: 'superseded' }))
    await expect(context.checkpoints.save(checkpoint(1))).rejects.toMatchObject({ code: 'superseded' })
    await expect(context.artifacts.put('a', 'text/plain', Buffer.from('a'))).rejects.toMatchObject({
      code: 'superseded',
    })
    await expect(context.findings.report(0, 'e', { scores: {} })).rejects.toMatchObject({ code: 'superseded' })
    expect((await ledger.artifacts([runId])).get(runId)).toEqual([])
    expect((await readCurves(database.pool, [runId], { maxPoints: 10 }, objects)).get(runId)).toEqual([])
    const left = []
    for await (const { key } of objects.list(`runs/${runId}/`)) left.push(key)
    expect(left).toEqual([])
    await context.close()
  })

  it('is refused after the run has ended', async () => {
    const runId = await accepted()
    const { context, fence } = await open(runId)
    await ledger.end(fence, { state: 'cancelled' })
    context.progress(progress)
    await expect(context.flush()).rejects.toMatchObject({ code: 'superseded' })
    await context.close()
  })

  it('waits while the database is away, and arrives when it is back', async () => {
    const runId = await accepted()
    const { fence, context: unused } = await open(runId)
    await unused.close()
    const door = await openDoor(scratch.url)
    const pool = openPool({ url: door.url, max: 2, name: 'behind-the-door' })
    const warnings: string[] = []
    const warn = (text: string) => warnings.push(text)
    const context = await openRunContext({
      database: { pool },
      objects,
      bytes: memoryBytes(),
      fence,
      stop: new AbortController().signal,
      log: { info: () => {}, warn, error: warn },
    })
    context.metrics.report(0, { loss: 1 })
    await context.flush()
    await door.shut()
    for (let step = 1; step < 100; step++) context.metrics.report(step, { loss: 1 })
    const saved = context.checkpoints.save(checkpoint(100))
    await eventually(() => expect(warnings).toEqual([expect.stringContaining('the database is away')]))
    await door.open()
    await saved
    expect((await readCurves(database.pool, [runId], { maxPoints: 200 }, objects)).get(runId)![0]!.points).toHaveLength(
      100,
    )
    expect(await stepsOf(runId)).toEqual([100])
    await context.close()
    await pool.end()
    await door.shut()
  })

  it('fails with Unavailable when more waits for the database than there is room for', async () => {
    const runId = await accepted()
    const { fence, context: unused } = await open(runId)
    await unused.close()
    const door = await openDoor(scratch.url)
    const pool = openPool({ url: door.url, max: 2, name: 'behind-the-door' })
    const stop = new AbortController().signal
    const context = await openRunContext({ database: { pool }, objects, bytes: memoryBytes(), fence, stop })
    await door.shut()
    const values = Object.fromEntries(Array.from({ length: 1000 }, (_, place) => [`m${place}`, place]))
    for (let step = 0; step <= 200; step++) context.metrics.report(step, values)
    expect(() => context.metrics.report(201, values)).toThrow(
      expect.objectContaining({ code: 'unavailable', message: expect.stringContaining('too many points') }),
    )
    await context.close()
    await pool.end()
  })

  it('fails with Unavailable when the database stays away for longer than its patience', async () => {
    const runId = await accepted()
    const { context, fence } = await open(runId)
    await context.close()
    const away = openPool({ url: 'postgresql://nobody@127.0.0.1:1/none', max: 1, name: 'away' })
    pools.push(away)
    const options = { database: { pool: away }, objects, bytes: memoryBytes(), fence, patience: 0.3 }
    await expect(openRunContext({ ...options, stop: new AbortController().signal })).rejects.toMatchObject({
      code: 'unavailable',
      cure: expect.stringContaining('last checkpoint'),
    })
  })
})

describe('checkpoints', () => {
  it('come back as they were saved; the newest two and the final one are kept', async () => {
    const runId = await accepted()
    const first = await open(runId)
    expect(await first.context.checkpoints.latest()).toBeUndefined()
    for (const step of [10, 20, 30]) await first.context.checkpoints.save(checkpoint(step))
    expect(await stepsOf(runId)).toEqual([30, 20])
    expect(await filesOf(runId)).toHaveLength(2)
    const second = await open(runId)
    expect(await second.context.checkpoints.latest()).toEqual(checkpoint(30))
    expect((await ledger.attempts([runId])).get(runId)!.map(({ resumedFrom }) => resumedFrom)).toEqual([0, 30])
    await second.context.checkpoints.save(checkpoint(35), { final: true })
    for (const step of [40, 50]) await second.context.checkpoints.save(checkpoint(step))
    expect(await stepsOf(runId)).toEqual([50, 40, 35])
    expect(await filesOf(runId)).toHaveLength(3)
    await second.context.checkpoints.save(checkpoint(50), { final: true })
    expect(await stepsOf(runId)).toEqual([50, 40, 35])
    expect((await ledger.checkpoints([runId])).get(runId)![0]).toMatchObject({ final: true, attempt: 2 })
    expect(await filesOf(runId)).toHaveLength(3)
    for (const { context } of [first, second]) await context.close()
  })

  it.each([
    ['cut short', (file: string) => truncate(file, 1000)],
    ['changed', (file: string) => writeFile(file, 'x'.repeat(4000))],
    ['removed', (file: string) => rm(file)],
  ])('that were %s are passed over and named in the log', async (_how, damage) => {
    const runId = await accepted()
    const { context } = await open(runId)
    await context.checkpoints.save(checkpoint(10))
    await context.checkpoints.save(checkpoint(20))
    await damage((await filesOf(runId)).sort().at(-1)!)
    const next = await open(runId)
    expect(await next.context.checkpoints.latest()).toEqual(checkpoint(10))
    await next.context.flush()
    expect((await ledger.log([runId], 10)).get(runId)).toMatchObject([{ level: 'warn', attempt: 2 }])
    // Those that this attempt makes are the newest, also beside a damaged one of a later step.
    await next.context.checkpoints.save(checkpoint(15))
    expect(await next.context.checkpoints.latest()).toEqual(checkpoint(15))
    for (const one of [context, next.context]) await one.close()
  })

  it('are visible only after the metrics that led to them', async () => {
    const runId = await accepted()
    const { context } = await open(runId)
    for (let step = 0; step < 100; step++) context.metrics.report(step, { loss: step })
    await context.checkpoints.save(checkpoint(100))
    expect((await readCurves(database.pool, [runId], { maxPoints: 200 }, objects)).get(runId)![0]!.points).toHaveLength(
      100,
    )
    await context.close()
  })

  it('that never got their row are removed by the next attempt', async () => {
    const runId = await accepted()
    const first = await open(runId)
    await first.context.checkpoints.save(checkpoint(10))
    await objects.put(`runs/${runId}/checkpoints/000000020-1-${newId()}.safetensors`, Buffer.from('stray'))
    const second = await open(runId)
    expect((await second.context.checkpoints.latest())!.step).toBe(10)
    expect(await filesOf(runId)).toHaveLength(1)
    for (const { context } of [first, second]) await context.close()
  })
})

describe('artifacts', () => {
  it('are replaced under their name and keep their id', async () => {
    const runId = await accepted()
    const { context } = await open(runId)
    await context.artifacts.put('a/table.csv', 'text/csv', Buffer.from('one'))
    const [before] = (await ledger.artifacts([runId])).get(runId)!
    await context.artifacts.put('a/table.csv', 'text/plain', Buffer.from('second'))
    const [after, ...others] = (await ledger.artifacts([runId])).get(runId)!
    expect(others).toEqual([])
    expect(after).toMatchObject({ id: before!.id, name: 'a/table.csv', type: 'text/plain', size: 6 })
    expect(after!.sha256).toBe(createHash('sha256').update('second').digest('hex'))
    expect(String(await readAll(await objects.get(after!.key)))).toBe('second')
    expect(await objects.stat(before!.key)).toBeUndefined()
    expect(await ledger.artifact(after!.id)).toEqual(after)
    await context.close()
  })

  it('leave no row when their bytes break off', async () => {
    const runId = await accepted()
    const { context } = await open(runId)
    async function* broken() {
      yield Buffer.from('half')
      throw new Error('the source broke')
    }
    await expect(context.artifacts.put('a', 'text/plain', broken())).rejects.toThrow('the source broke')
    expect((await ledger.artifacts([runId])).get(runId)).toEqual([])
    await context.close()
  })
})

describe('findings', () => {
  it('keep numbers that are not finite, tables and pictures; a second report replaces the first', async () => {
    const runId = await accepted()
    const { context } = await open(runId)
    await context.findings.report(0, 'nearest-neighbours', { scores: { old: 1 } })
    await context.findings.report(0, 'nearest-neighbours', {
      scores: { accuracy: 0.8, ratio: Number.NaN, worst: -Infinity },
      tables: [{ name: 't', columns: ['k', 'v'], rows: [[1, Infinity]] }],
      pictures: [{ name: 'some picture!', type: 'image/png', bytes: new Uint8Array([1, 2]) }],
    })
    const [finding, ...others] = (await ledger.findings([runId])).get(runId)!
    expect(others).toEqual([])
    expect(finding).toMatchObject({
      evaluation: 'nearest-neighbours',
      scores: { accuracy: 0.8, ratio: Number.NaN, worst: -Infinity },
      tables: [{ name: 't', columns: ['k', 'v'], rows: [[1, 'Infinity']] }],
      pictures: [{ name: 'some picture!', type: 'image/png' }],
    })
    const artifact = await ledger.artifact(finding!.pictures[0]!.artifactId)
    expect(artifact).toMatchObject({ name: 'findings/0-nearest-neighbours-some-picture-.png', size: 2 })
    await context.close()
  })
})

describe('embeddings', () => {
  const ids = Int32Array.from([0, 1, 2])
  const labels = Int32Array.from([5, 6, 7])
  const meta = { rows: 3, dimension: 2, split: 'train' as const, tap: 'embedding', dataset: 'shapes', ids, labels }
  async function* blocks() {
    yield Float32Array.from([0.5, -0.5, 0.25])
    yield Float32Array.from([1, 0, 0.1])
  }

  it.each(['f32', 'f16'] as const)('are kept as safetensors and .npy in %s', async (dtype) => {
    const runId = await accepted()
    const { context } = await open(runId)
    await context.embeddings.put('train', { ...meta, dtype }, blocks())
    const [set, ...others] = (await ledger.embeddings([runId])).get(runId)!
    expect(others).toEqual([])
    expect(set).toMatchObject({ name: 'train', rows: 3, dimension: 2, dtype, split: 'train', tap: 'embedding' })
    const read = async (role: string) => {
      const artifact = await ledger.artifact(set!.files[role]!)
      return readAll(await objects.get(artifact!.key))
    }
    const { tensors, meta: header } = decodeSafetensors(await read('safetensors'), 'the set')
    expect(header).toEqual({ name: 'train', split: 'train', tap: 'embedding', dataset: 'shapes' })
    expect(tensors.ids).toEqual({ dtype: 'I32', shape: [3], data: ids })
    expect(tensors.labels!.data).toEqual(labels)
    const numbers =
      dtype === 'f32'
        ? Float32Array.from([0.5, -0.5, 0.25, 1, 0, 0.1])
        : Uint16Array.from([0x3800, 0xb800, 0x3400, 0x3c00, 0, 0x2e66])
    expect(tensors.embeddings).toEqual({ dtype: dtype.toUpperCase(), shape: [3, 2], data: numbers })
    const npy = await read('npy')
    expect(npy.toString('latin1')).toContain(`'descr': '<${dtype.replace('f32', 'f4').replace('f16', 'f2')}'`)
    expect(npy.subarray(npy.length - numbers.byteLength)).toEqual(Buffer.from(numbers.buffer))
    const labelFile = await read('labels')
    expect(labelFile.subarray(labelFile.length - 12)).toEqual(Buffer.from(labels.buffer))
    await context.close()
  })

  it('with another number of rows than was said are refused and leave nothing', async () => {
    const runId = await accepted()
    const { context } = await open(runId)
    const wrong = { ...meta, rows: 4, ids: new Int32Array(4), labels: undefined, dtype: 'f32' as const }
    await expect(context.embeddings.put('train', wrong, blocks())).rejects.toThrow('6 numbers were given for 4 rows')
    expect((await ledger.embeddings([runId])).get(runId)).toEqual([])
    expect((await ledger.artifacts([runId])).get(runId)).toEqual([])
    await context.close()
  })
})
