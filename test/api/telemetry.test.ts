import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { listenForScrapes, openTelemetry } from '../../src/api/telemetry.ts'
import { newId } from '../../src/store/id.ts'
import { appendPoints } from '../../src/store/metrics.ts'
import { openPool } from '../../src/store/pool.ts'
import { openRunContext } from '../../src/store/run-context.ts'
import { hasPrometheus, promtool, readSamples } from '../promtool.ts'
import { acceptRun, openWorld, type World } from './world.ts'

const worker = { host: 'box', pid: 1, version: '0.0.0', engine: 'wasm', cores: 2, memoryBytes: 1e9, concurrency: 3 }

const moment = { epoch: 0, epochs: 2, steps: 16, loss: 1, imagesPerSecond: 10, secondsLeft: 1, share: 0.5 }

/** What a child does to the metrics of the lab, without one. */
async function train(world: World, runId: string, attempt: number, steps: { from: number; to: number }) {
  const { database, objects, bytes } = world.parts
  const fence = { runId, attempt }
  const context = await openRunContext({ database, objects, bytes, fence, stop: new AbortController().signal })
  const start = await context.checkpoints.latest()
  expect(start?.step ?? 0).toBe(steps.from)
  for (let step = steps.from + 1; step <= steps.to; step++) {
    context.metrics.report(step, { loss: 1 / step, learningRate: 0.1 })
    context.progress({ ...moment, stage: 'training', step })
  }
  const tensors = { weights: { dtype: 'F32' as const, shape: [4], data: new Float32Array(4) } }
  await context.checkpoints.save({ step: steps.to, tensors, meta: {} })
  await context.flush()
  await context.close()
}

describe('GET /metrics', () => {
  let world: World
  beforeAll(async () => {
    world = await openWorld()
  })
  afterAll(() => world.close())

  /** As a new process of the API would answer: nothing is remembered from the scrape before. */
  async function scrape(): Promise<Map<string, number>> {
    return readSamples(await openTelemetry(world.parts).text())
  }

  it('tells of an empty lab with zeros, and every outcome from the start', async () => {
    const answer = await world.send('/metrics')
    expect(answer.statusCode).toBe(200)
    expect(answer.headers['content-type']).toMatch(/^text\/plain; version=0\.0\.4/)
    const samples = readSamples(answer.body)
    expect(samples.get('gestalt_jobs{state="queued"}')).toBe(0)
    expect(samples.get('gestalt_jobs_completed_total{outcome="lost"}')).toBe(0)
    expect(samples.get('gestalt_job_duration_seconds_bucket{le="+Inf"}')).toBe(0)
    expect(samples.get('gestalt_build_info{version="0.0.0"}')).toBe(1)
    expect(samples.get('gestalt_database_up')).toBe(1)
    expect(samples.get('process_resident_memory_bytes')).toBeGreaterThan(1e6)
  })

  it('follows runs through queue, attempts, checkpoints and curves', async () => {
    const { ledger, queue, database } = world.parts
    const id = newId()
    await ledger.workerStarted({ ...worker, id })
    const [first, second] = [await acceptRun(world.parts), await acceptRun(world.parts)]
    await queue.enqueue({ runId: second!, attempt: 0, priority: 0 })
    await database.pool.query("UPDATE runs SET queued_at = now() - interval '100 s'")
    expect((await ledger.begin(first!, id))?.attempt).toBe(1)
    await ledger.heartbeat(id, [first!])
    await train(world, first!, 1, { from: 0, to: 8 })
    await ledger.end({ runId: first!, attempt: 1 }, { state: 'queued', outcome: 'lost' })
    expect((await ledger.begin(first!, id))?.attempt).toBe(2)
    await train(world, first!, 2, { from: 8, to: 16 })
    await ledger.end({ runId: first!, attempt: 2 }, { state: 'succeeded' })
    const samples = await scrape()
    expect(
      Object.fromEntries([...samples].filter(([name]) => /^gestalt_(job|queue_jobs|metric|images)/.test(name))),
    ).toMatchObject({
      'gestalt_jobs{state="queued"}': 1,
      'gestalt_jobs{state="running"}': 0,
      'gestalt_queue_jobs{state="waiting"}': 1,
      gestalt_jobs_enqueued_total: 3,
      'gestalt_jobs_completed_total{outcome="lost"}': 1,
      'gestalt_jobs_completed_total{outcome="succeeded"}': 1,
      'gestalt_job_retries_total{reason="lost"}': 1,
      'gestalt_job_queue_wait_seconds_bucket{le="0.5"}': 1,
      'gestalt_job_queue_wait_seconds_bucket{le="60"}': 1,
      'gestalt_job_queue_wait_seconds_bucket{le="300"}': 2,
      gestalt_job_queue_wait_seconds_count: 2,
      gestalt_job_duration_seconds_count: 2,
      gestalt_metric_points_ingested_total: 32,
      gestalt_metric_points_duplicate_total: 0,
      gestalt_images_processed_total: 16 * 32,
    })
    expect(samples.get('gestalt_oldest_waiting_job_age_seconds')).toBeGreaterThanOrEqual(100)
    expect(samples.get('gestalt_job_queue_wait_seconds_sum')).toBeGreaterThanOrEqual(100)
    expect(samples.get('gestalt_checkpoint_bytes_count')).toBe(2)
    expect(samples.get('gestalt_checkpoint_bytes_bucket{le="65536"}')).toBe(2)
    expect(samples.get('gestalt_checkpoint_duration_seconds_count')).toBe(2)
    expect(samples.get('gestalt_workers{state="online",engine="wasm",version="0.0.0"}')).toBe(1)
    expect(samples.get('gestalt_worker_slots{state="busy"}')).toBe(1)
    expect(samples.get('gestalt_worker_slots{state="free"}')).toBe(2)
    const beat = samples.get(`gestalt_worker_last_heartbeat_timestamp_seconds{worker="${id}",host="box"}`)
    expect(beat! * 1000).toBeGreaterThan(Date.now() - 60_000)
  })

  it('shows the GPUs of the workers online, as far as they are measured', async () => {
    const { ledger, database } = world.parts
    const [measured, silent, plain] = [newId(), newId(), newId()]
    const card = { gpuName: 'NVIDIA T4', gpuSlots: 2, gpuMemoryBytes: 2 ** 34 }
    await ledger.workerStarted({ ...worker, ...card, id: measured, host: 'measured', concurrency: 2 })
    await ledger.workerStarted({ ...worker, gpuName: 'AMD', gpuSlots: 1, id: silent, host: 'silent', concurrency: 1 })
    await ledger.workerStarted({ ...worker, id: plain, host: 'plain' })
    const use = { gpuFreeBytes: 2 ** 33, gpuUsedBytes: 2 ** 32, gpuUtilisation: 0.25, gpuFault: null }
    await ledger.heartbeat(measured, [newId()], use)
    const unknown = { gpuFreeBytes: null, gpuUsedBytes: null, gpuUtilisation: null }
    await ledger.heartbeat(silent, [], { ...unknown, gpuFault: 'no driver' })
    const samples = await scrape()
    const labels = `{worker="${measured}",host="measured",gpu="NVIDIA T4"}`
    expect(Object.fromEntries([...samples].filter(([name]) => name.startsWith('gestalt_gpu')))).toEqual({
      [`gestalt_gpu_up${labels}`]: 1,
      [`gestalt_gpu_up{worker="${silent}",host="silent",gpu="AMD"}`]: 0,
      [`gestalt_gpu_utilisation_ratio${labels}`]: 0.25,
      [`gestalt_gpu_memory_bytes${labels}`]: 2 ** 34,
      [`gestalt_gpu_memory_used_bytes${labels}`]: 2 ** 32,
      'gestalt_gpu_slots{state="busy"}': 1,
      'gestalt_gpu_slots{state="free"}': 2,
    })
    await database.pool.query('DELETE FROM workers WHERE id = ANY ($1)', [[measured, silent, plain]])
  })

  it('counts points that come again apart from new ones', async () => {
    const { ledger, database } = world.parts
    const runId = await acceptRun(world.parts)
    const { attempt } = (await ledger.begin(runId, newId()))!
    const before = await scrape()
    const points = [1, 2, 3].map((step) => ({ name: 'loss', step, value: step, time: new Date() }))
    for (let sent = 0; sent < 2; sent++) await appendPoints(database.pool, { runId, attempt }, points)
    const after = await scrape()
    const grown = (name: string) => after.get(name)! - before.get(name)!
    expect(grown('gestalt_metric_points_ingested_total')).toBe(3)
    expect(grown('gestalt_metric_points_duplicate_total')).toBe(3)
  })

  it('loses no count when counts are folded, by several at once, or runs are deleted', async () => {
    const { ledger, database } = world.parts
    const totals = async () =>
      [...(await scrape())].filter(([name]) => /^gestalt_.*(_total|_bucket|_sum|_count)/.test(name))
    const before = await totals()
    await Promise.all([1, 2, 3].map(() => ledger.foldTallies()))
    const { rows } = await database.pool.query('SELECT count(*)::int AS left FROM tally_log')
    expect(rows[0].left).toBe(0)
    await database.pool.query("DELETE FROM runs WHERE state = 'succeeded'")
    expect(await totals()).toEqual(before)
  })

  it('names the silent worker, and not the one that signed off', async () => {
    const { ledger, database } = world.parts
    const [silent, gone] = [newId(), newId()]
    for (const id of [silent, gone]) await ledger.workerStarted({ ...worker, id, engine: 'cpu' })
    await ledger.workerStopped(gone)
    await database.pool.query("UPDATE workers SET heartbeat_at = now() - interval '1 h' WHERE id = $1", [silent])
    const samples = await scrape()
    const of = (state: string) => samples.get(`gestalt_workers{state="${state}",engine="cpu",version="0.0.0"}`)
    expect([of('lost'), of('stopped'), of('online')]).toEqual([1, 1, undefined])
    const heard = [...samples.keys()].filter((name) => name.includes('last_heartbeat'))
    expect(heard.some((name) => name.includes(silent))).toBe(true)
    expect(heard.some((name) => name.includes(gone))).toBe(false)
  })

  it('measures requests by the pattern of their route, never by an id', async () => {
    const id = newId()
    for (const path of [`/v1/runs/${id}`, '/nowhere/at/all', '/livez']) await world.send(path)
    const { body } = await world.send('/metrics')
    const samples = readSamples(body)
    const count = (labels: string) => samples.get(`gestalt_http_request_duration_seconds_count{${labels}}`)
    expect(count('method="GET",route="/v1/runs/:id",status_code="404"')).toBe(1)
    expect(count('method="GET",route="none",status_code="404"')).toBe(1)
    expect(count('method="GET",route="/livez",status_code="200"')).toBe(1)
    expect(body).not.toContain(id)
    expect(body).not.toMatch(/run_?id|experiment_?id/i)
  })

  it('asks the database once for scrapes at the same time', async () => {
    const { pool } = world.parts.database
    let asked = 0
    const counting = new Proxy(pool, {
      get: (target, key) => {
        if (key === 'query') asked++
        return Reflect.get(target, key)
      },
    })
    const telemetry = openTelemetry({ ...world.parts, database: { ...world.parts.database, pool: counting } })
    const texts = await Promise.all([1, 2, 3, 4, 5].map(() => telemetry.text()))
    expect(readSamples(texts[4]!).get('gestalt_database_up')).toBe(1)
    expect(asked).toBe(1)
  })

  it('says that Postgres is away, and leaves out what it would have to guess', async () => {
    const away = openPool({ url: 'postgresql://nobody@127.0.0.1:1/none', max: 1, name: 'gestalt-test' })
    const telemetry = openTelemetry({ ...world.parts, database: { ...world.parts.database, pool: away } })
    const text = await telemetry.text()
    const samples = readSamples(text)
    expect(samples.get('gestalt_database_up')).toBe(0)
    expect(samples.get('gestalt_queue_up{backend="postgres"}')).toBe(1)
    expect([...samples.keys()].filter((name) => /^gestalt_jobs/.test(name))).toEqual([])
    expect(samples.get('process_resident_memory_bytes')).toBeGreaterThan(0)
    await away.end()
  })

  it.skipIf(!hasPrometheus && !process.env.CI)('is found right by promtool', async () => {
    const { body } = await world.send('/metrics')
    expect(promtool(['check', 'metrics'], body)).toBe('')
  })

  it('is behind the token, and open on the port that is opened for it alone', async () => {
    const token = 'a-token-of-some-length'
    const closed = await openWorld({ token, databaseUrl: world.parts.config.databaseUrl })
    expect((await closed.send('/metrics')).statusCode).toBe(401)
    const headers = { authorization: `Bearer ${token}` }
    expect((await closed.send('/metrics', undefined, { headers })).statusCode).toBe(200)
    const scrapes = await listenForScrapes(openTelemetry(closed.parts), { host: '127.0.0.1', port: 0 })
    const answer = await fetch(`http://127.0.0.1:${scrapes.port}/metrics`)
    expect(answer.status).toBe(200)
    expect(await answer.text()).toContain('gestalt_jobs{state="queued"}')
    expect((await fetch(`http://127.0.0.1:${scrapes.port}/v1/runs`)).status).toBe(404)
    await scrapes.close()
    await closed.close()
  })
})
