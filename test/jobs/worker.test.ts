import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { channels } from '../../src/store/listen.ts'
import { type Cluster, openCluster, type WorkerProcess } from '../chaos/cluster.ts'
import { eventually } from '../eventually.ts'
import { computing, packageFolder } from '../fixtures/native-package.ts'
import { noTensorFlow, withoutTensorFlow } from '../fixtures/no-tensorflow.ts'
import { nvidiaSmiPrinting, oneCard } from '../fixtures/nvidia-smi.ts'
import { testDatabase } from '../postgres.ts'
import { redisUrl } from '../redis.ts'

// Several processes at work; on a busy machine each takes its time.
vi.setConfig({ testTimeout: 180_000, hookTimeout: 120_000 })

describe('a worker process', () => {
  let place: Awaited<ReturnType<typeof testDatabase>>
  let cluster: Cluster
  let worker: WorkerProcess

  beforeAll(async () => {
    place = await testDatabase()
    cluster = await openCluster(place.url)
    worker = await cluster.startWorker({ GESTALT_CONCURRENCY: '2', GESTALT_ENGINE_THREADS: '1' })
  })
  afterAll(async () => {
    await cluster.close()
    await place.drop()
  })

  const self = async () => (await cluster.ledger.workers()).find(({ id }) => id === worker.id)!

  it('registers itself, its machine and the engine its children will use', async () => {
    const { engine, engineVersion, device, rejectedEngines, ...rest } = await self()
    expect(rest).toMatchObject({ pid: worker.process.pid, concurrency: 2, stoppedAt: null, threads: 1 })
    expect(engine).toMatch(/^(machine|onnx|wasm)$/)
    expect(engineVersion).toMatch(/\d+\.\d+\.\d+$/)
    expect(device).not.toBe('')
    expect(rejectedEngines).toContainEqual({
      ...{ engine: 'tensorflow-gpu', reason: '@tensorflow/tfjs-node-gpu is not installed' },
      cure: expect.stringContaining('gestalt engine build-tensorflow --cuda'),
    })
    expect(worker.log.join('\n')).toMatch(
      /the engine tensorflow-gpu does not serve: .*not installed[\s\S]*runs compute on/,
    )
  })

  it('keeps to 10 connections, and each child to 2, with runs at work', async () => {
    const runs = await Promise.all([cluster.submit(), cluster.submit()])
    for (const runId of runs) await cluster.reaches(runId, 7)
    const { rows } = await cluster.database.pool.query<{ name: string; count: number }>(
      `SELECT application_name AS name, count(*)::int FROM pg_stat_activity
       WHERE datname = current_database() AND application_name <> 'gestalt-test' GROUP BY 1`,
    )
    const count = (name: string) => rows.find((row) => row.name === name)?.count ?? 0
    expect(count('gestalt-child')).toBeGreaterThanOrEqual(2)
    expect(count('gestalt-child')).toBeLessThanOrEqual(2 * 2)
    const all = rows.reduce((sum, row) => sum + row.count, 0)
    const own = 2 // this test has the queue open as well
    expect(all - count('gestalt-child') - own).toBeLessThanOrEqual(10)
    expect((await self()).runIds.sort()).toEqual(runs.sort())
    for (const runId of runs) await cluster.becomes(runId, 'succeeded')
  })

  it('samples processor and memory of its children', async () => {
    const runId = await cluster.submit({ training: { epochs: 1000, batchSize: 32, checkpointEverySteps: 10_000 } })
    const samples = await eventually(async () => {
      const found = (await cluster.ledger.samples([runId], 100)).get(runId)!
      expect(found.length).toBeGreaterThan(0)
      return found
    }, 30_000)
    expect(samples[0]!.cpu).toBeGreaterThan(0)
    expect(samples[0]!.rss).toBeGreaterThan(50e6)
    await cluster.ledger.requestCancel(runId)
    await cluster.becomes(runId, 'cancelled')
  })

  it('is not disturbed by a notification that is no notice of ours', async () => {
    for (const payload of ['', 'null', '{"runId":', '{"runId":7,"action":"cancel"}'])
      await cluster.database.pool.query('SELECT pg_notify($1, $2)', [channels.control, payload])
    const runId = await cluster.submit({ training: { epochs: 1, batchSize: 32 } })
    await cluster.becomes(runId, 'succeeded')
    expect(worker.process.exitCode).toBeNull()
  })

  it('leaves a run that asks for a GPU to others, and goes on with the next', async () => {
    const runId = await cluster.submit({ resources: { gpuMemory: 2 ** 33 }, priority: 50 })
    const next = await cluster.submit({ training: { epochs: 1, batchSize: 32 } })
    await cluster.becomes(next, 'succeeded')
    expect(await cluster.run(runId)).toMatchObject({ state: 'queued', attempt: 0, needs: { gpu: true } })
    expect(worker.log.join('\n')).toContain(`run ${runId} is left to another worker: it has no GPU`)
    await cluster.ledger.requestCancel(runId)
  })

  it('signs off and ends with 0 when it is told to', async () => {
    expect(await worker.end('SIGTERM')).toBe(0)
    expect((await self()).stoppedAt).not.toBeNull()
  })

  it('says what is wrong when it cannot start', async () => {
    const empty = await testDatabase({ empty: true })
    await expect(cluster.startWorker({ DATABASE_URL: empty.url })).rejects.toThrow(/gestalt migrate/)
    await empty.drop()
    await expect(cluster.startWorker({ DATABASE_URL: '' })).rejects.toThrow(/DATABASE_URL/)
    const away = { DATABASE_URL: 'postgresql://nobody:nothing@127.0.0.1:1/none' }
    await expect(cluster.startWorker(away)).rejects.toThrow(/PostgreSQL runs/)
    const engine = { GESTALT_ENGINE: 'tensorflow', ...withoutTensorFlow }
    await expect(cluster.startWorker(engine)).rejects.toThrow(
      new RegExp(`asks for 'tensorflow', which does not work.*(${noTensorFlow.source})`),
    )
    await expect(cluster.startWorker({ GESTALT_ENGINE_THREADS: '1000' })).rejects.toThrow(/more than this machine's/)
  })
})

it('offers the GPU that its engine computes on, as nvidia-smi shows it', async () => {
  const place = await testDatabase()
  const cluster = await openCluster(place.url)
  // Node looks for packages in ~/.node_modules as well.
  const home = packageFolder({ '@tensorflow/tfjs-node-gpu': computing({ gpu: true }) }, '.node_modules')
  const path = nvidiaSmiPrinting(oneCard).environment.PATH!
  const slots = { GESTALT_CONCURRENCY: '1', GESTALT_GPU_SLOTS: '3' }
  const worker = await cluster.startWorker({ HOME: home, PATH: path, ...slots, GESTALT_GPU_MEMORY: String(2 ** 36) })
  const mebibyte = 2 ** 20
  await eventually(async () =>
    expect(await cluster.ledger.workers()).toMatchObject([
      {
        ...{ id: worker.id, engine: 'tensorflow', concurrency: 3, gpuName: 'NVIDIA H200', gpuSlots: 3 },
        ...{ gpuMemoryBytes: 2 ** 36, gpuFreeBytes: 2 ** 36, gpuUsedBytes: 2048 * mebibyte, gpuUtilisation: 0.37 },
        offer: { gpu: true, gpuSlots: 3, gpuMemory: 2 ** 36 },
      },
    ]),
  )
  // What it says comes by another way than that it is ready.
  const said = /its GPU is NVIDIA H200, 64\.0 GiB[\s\S]*takes up to 3 runs at once/
  await eventually(() => expect(worker.log.join('\n')).toMatch(said))
  expect(await worker.end('SIGTERM')).toBe(0)
  await cluster.close()
  await place.drop()
})

it('takes its runs from Redis where one is named', async (context) => {
  const redis = redisUrl()
  if (!redis) return context.skip('there is no Redis here: install redis-server')
  const place = await testDatabase()
  const cluster = await openCluster(place.url, { REDIS_URL: redis })
  const worker = await cluster.startWorker()
  expect(cluster.queue.backend).toBe('redis')
  const runId = await cluster.submit()
  await cluster.reaches(runId, 7)
  expect(await worker.end('SIGTERM')).toBe(0)
  expect(await cluster.queue.has({ runId, attempt: 1 })).toBe(true)
  await cluster.startWorker()
  await cluster.becomes(runId, 'succeeded')
  await cluster.close()
  await place.drop()
})
