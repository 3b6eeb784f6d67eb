import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { childEnvironment, readConfig } from '../../src/config.ts'
import type { EngineChoice } from '../../src/engine/choice.ts'
import { parseDefinition } from '../../src/experiments/definition.ts'
import { needsOf, offerOf } from '../../src/experiments/placement.ts'
import { openQueue, type Queue } from '../../src/jobs/queue.ts'
import { Supervisor } from '../../src/jobs/supervisor.ts'
import { type Database, openDatabase } from '../../src/store/database.ts'
import { newId } from '../../src/store/id.ts'
import { type Ledger, openLedger } from '../../src/store/ledger.ts'
import { readCurves } from '../../src/store/metrics.ts'
import { openObjects } from '../../src/store/open-objects.ts'
import { eventually } from '../eventually.ts'
import { computing, packageFolder } from '../fixtures/native-package.ts'
import { testDatabase } from '../postgres.ts'

// Several processes at work; on a busy machine each takes its time.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 })

const gib = 2 ** 30
const gpuPackage = '@tensorflow/tfjs-node-gpu'

/** Small enough for plain JavaScript, which stands in for a GPU. */
const small = {
  ...{ version: 1, name: 'gpu', seed: 3 },
  dataset: { name: 'shapes', images: 32, testImages: 8, height: 16, width: 16 },
  net: { name: 'small', widths: [2, 2] },
  method: { name: 'npid', dimension: 4 },
  training: { epochs: 10_000, batchSize: 8, checkpointEverySteps: 100_000 },
}

describe('a run that asks for a GPU', () => {
  let home: string
  let place: Awaited<ReturnType<typeof testDatabase>>
  let database: Database
  let ledger: Ledger
  let queue: Queue

  beforeAll(async () => {
    home = mkdtempSync(join(tmpdir(), 'gestalt-gpu-'))
    place = await testDatabase()
    database = await openDatabase({ url: place.url, max: 4, name: 'gestalt-test' })
    ledger = openLedger(database)
    queue = await openQueue({ databaseUrl: place.url })
  })
  afterAll(async () => {
    await queue.close()
    await database.close()
    await place.drop()
    rmSync(home, { recursive: true, force: true })
  })

  /**
   * A worker that found TensorFlow on a GPU of 8 GiB for two runs; its children find what `source` brings. Without it,
   * one that found ONNX Runtime on CUDA, whose libraries are gone.
   */
  async function start(source?: string): Promise<{ supervisor: Supervisor; log: string[] }> {
    const workerId = newId()
    const machine = { host: 'here', pid: 1, version: '0', cores: 8, memoryBytes: 64 * gib, concurrency: 2 }
    const name = source === undefined ? 'onnx-cuda' : 'tensorflow'
    await ledger.workerStarted({ id: workerId, engine: name, ...machine })
    const engine = { name, version: '4.99.0', threads: 1, device: 'GPU', gpu: true } as const
    const choice: EngineChoice = { candidate: name, engine, selfTestMilliseconds: 1, rejected: [] }
    const gpu = { gpu: true, gpuMemory: 8 * gib, gpuSlots: 2 }
    const offer = offerOf({ memoryBytes: 64 * gib, cores: 8, engine: name, ...gpu })
    const settings = { GESTALT_HOME: home, GESTALT_ENGINE_THREADS: '1', GESTALT_ONNXRUNTIME: home }
    const config = readConfig({ DATABASE_URL: place.url, ...settings })
    const packages = join(packageFolder(source === undefined ? {} : { [gpuPackage]: source }), 'node_modules')
    const environment = { ...childEnvironment(1), NODE_PATH: packages }
    const log: string[] = []
    const say = (text: string) => void log.push(text)
    const parts = { workerId, ledger, queue, config, choice, offer, environment }
    return { supervisor: new Supervisor({ ...parts, log: { info: say, warn: say, error: say } }), log }
  }

  async function submit(resources: Record<string, unknown>): Promise<string> {
    const definition = parseDefinition({ ...small, resources })
    const needs = needsOf(definition, gib)
    const accepted = await ledger.accept({ name: 'x', tags: [], notes: '', priority: 0, definition, plan: {}, needs })
    if (accepted.mismatch) throw new Error('no key was given')
    return accepted.runIds[0]!
  }
  const read = async (runId: string) => (await ledger.runs([runId])).get(runId)!

  it('is computed on one, whose use becomes curves of the run, and leaves others what it did not ask for', async () => {
    const { supervisor, log } = await start(computing({ gpu: true }))
    const runId = await submit({ gpuMemory: 6 * gib })
    const [large, fitting, any] = [
      await submit({ gpuMemory: 3 * gib }),
      await submit({ gpuMemory: gib }),
      await submit({}),
    ]
    const done = supervisor.handle({ runId })
    await eventually(async () => expect((await read(runId)).progress?.step).toBeGreaterThan(0), 60_000)
    expect((await ledger.attempts([runId])).get(runId)).toMatchObject([{ engine: { name: 'tensorflow', gpu: true } }])

    expect(await supervisor.handle({ runId: large })).toBe('given back')
    // An even share is half of 8 GiB.
    expect(await supervisor.handle({ runId: any })).toBe('given back')
    expect(log).toContainEqual(
      expect.stringContaining('its GPU has 2.0 GiB of 8.0 GiB free, and the run needs 3.0 GiB'),
    )
    expect(supervisor.couldTake(await ledger.waiting(0), 2).map(({ id }) => id)).toEqual([fitting])
    expect(supervisor.gpu()).toMatchObject({ gpuFreeBytes: 2 * gib, gpuUsedBytes: null, gpuFault: null })
    // Other programs have taken what our run does not use yet.
    supervisor.measured({ utilisation: 0.5, usedBytes: 7.5 * gib, freeBytes: 0.5 * gib })
    expect(supervisor.couldTake(await ledger.waiting(0), 2)).toEqual([])
    expect(supervisor.gpu()).toMatchObject({ gpuFreeBytes: gib / 2, gpuUsedBytes: 7.5 * gib, gpuUtilisation: 0.5 })

    const curves = await eventually(async () => {
      supervisor.measured({ utilisation: 0.5, usedBytes: 7.5 * gib })
      const names = ['gpuUtilisation', 'gpuMemoryBytes']
      const found = (
        await readCurves(
          database.pool,
          [runId],
          { names, maxPoints: 10 },
          openObjects(readConfig({ GESTALT_HOME: home })),
        )
      ).get(runId)
      expect(found).toHaveLength(2)
      return found!
    }, 60_000)
    const value = (name: string) => curves.find((curve) => curve.name === name)!.points[0]!.value
    expect([value('gpuUtilisation'), value('gpuMemoryBytes')]).toEqual([0.5, 7.5 * gib])
    supervisor.stop(runId, 'cancelled')
    await done
  })

  it.each([
    ['finds none', computing({ gpu: false }), /it would compute on tensorflow 4\.99\.0/],
    ['does not start', undefined, /NVIDIA's driver|no libonnxruntime/],
  ])(
    'goes back to the queue where the engine of its worker %s, and is not taken there for a while',
    async (_, source, words) => {
      const { supervisor, log } = await start(source)
      const runId = await submit({ gpu: true })
      await supervisor.handle({ runId })
      expect(await read(runId)).toMatchObject({ state: 'queued', attempt: 1 })
      expect((await ledger.attempts([runId])).get(runId)).toMatchObject([{ outcome: 'released', engine: null }])
      expect(await queue.has({ runId, attempt: 1 })).toBe(true)
      expect(await ledger.losses(runId)).toBe(0)
      expect(supervisor.gpu().gpuFault).toMatch(words)
      expect(await supervisor.handle({ runId })).toBe('given back')
      expect(supervisor.couldTake(await ledger.waiting(0), 2).map(({ id }) => id)).not.toContain(runId)
      expect(log.join('\n')).toMatch(/none does here now: .*; it is left to others, and for 60 s/)
      await ledger.requestCancel(runId)
    },
  )

  it('is tried again after its GPU was lost, and by others first', async () => {
    const { supervisor, log } = await start(computing({ gpu: true, lostAfter: 500 }))
    const runId = await submit({ gpu: true })
    await supervisor.handle({ runId })
    expect(await read(runId)).toMatchObject({ state: 'queued', attempt: 1, failure: null })
    expect((await ledger.attempts([runId])).get(runId)).toMatchObject([{ outcome: 'lost' }])
    expect(supervisor.gpu().gpuFault).toMatch(/^the GPU failed: CUDA_ERROR_LAUNCH_FAILED/)
    expect(log.join('\n')).toMatch(/CUDA_ERROR_LAUNCH_FAILED.*; for 60 s no run is taken here/)
    expect(await supervisor.handle({ runId })).toBe('given back')

    // Later it is there again, and that is seen as soon as a run computes on it.
    const clock = vi.spyOn(Date, 'now').mockReturnValue(Date.now() + 61_000)
    const again = supervisor.handle({ runId })
    await eventually(() => expect(supervisor.gpu().gpuFault).toBeNull(), 60_000)
    clock.mockRestore()
    supervisor.stop(runId, 'cancelled')
    await again
  })
})
