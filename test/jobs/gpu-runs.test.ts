import { existsSync, mkdtempSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import type { EngineChoice } from '../../src/engine/choice.ts'
import { needsOf, offerOf } from '../../src/experiments/placement.ts'
import { mostLosses } from '../../src/jobs/failures.ts'
import type { GpuUsage } from '../../src/jobs/gpu-watch.ts'
import type { Supervisor } from '../../src/jobs/supervisor.ts'
import { newId } from '../../src/store/id.ts'
import type { Ledger } from '../../src/store/ledger.ts'
import { readCurves } from '../../src/store/metrics.ts'
import { openObjects } from '../../src/store/open-objects.ts'
import { eventually } from '../eventually.ts'
import { computing, packageFolder } from '../fixtures/native-package.ts'
import { openSupervision, type Supervision } from './supervision.ts'

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
  let place: Supervision
  let ledger: Ledger

  beforeAll(async () => {
    place = await openSupervision()
    ledger = place.ledger
  })
  afterAll(() => place.close())

  /**
   * A worker that found TensorFlow on a GPU of 8 GiB for two runs; its children find what `source` brings. Without it,
   * one that found ONNX Runtime on CUDA, whose libraries are gone.
   */
  async function start(source?: string, lookAtGpu?: () => Promise<GpuUsage>): Promise<Supervisor> {
    const name = source === undefined ? 'onnx-cuda' : 'tensorflow'
    const workerId = await place.signOn({ engine: name, cores: 8, memoryBytes: 64 * gib, concurrency: 2 })
    const engine = { name, version: '4.99.0', threads: 1, device: 'GPU', gpu: true } as const
    const choice: EngineChoice = { candidate: name, engine, selfTestMilliseconds: 1, rejected: [] }
    const gpu = { gpu: true, gpuMemory: 8 * gib, gpuSlots: 2 }
    const offer = offerOf({ memoryBytes: 64 * gib, cores: 8, engine: name, ...gpu })
    const packages = join(packageFolder(source === undefined ? {} : { [gpuPackage]: source }), 'node_modules')
    const settings = { GESTALT_ONNXRUNTIME: place.home }
    place.log.splice(0)
    return place.start({ workerId, settings, choice, offer, lookAtGpu, environment: { NODE_PATH: packages } })
  }

  const submit = (resources: Record<string, unknown>) =>
    place.submit({ ...small, resources }, (definition) => needsOf(definition, gib))
  const read = (runId: string) => place.read(runId)

  it('is computed on one, whose use becomes curves of the run, and leaves others what it did not ask for', async () => {
    const supervisor = await start(computing({ gpu: true }))
    const runId = await submit({ gpuMemory: 6 * gib })
    const [large, fitting, any] = [
      await submit({ gpuMemory: 3 * gib }),
      await submit({ gpuMemory: gib }),
      await submit({}),
    ]
    const done = supervisor.handle({ runId })
    await eventually(async () => expect((await read(runId)).progress?.step).toBeGreaterThan(0), 60_000)
    expect(await place.attempts(runId)).toMatchObject([{ engine: { name: 'tensorflow', gpu: true } }])

    expect(await supervisor.handle({ runId: large })).toBe('given back')
    // An even share is half of 8 GiB.
    expect(await supervisor.handle({ runId: any })).toBe('given back')
    expect(place.log).toContainEqual(
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
        await readCurves(place.database.pool, [runId], { names, maxPoints: 10 }, openObjects(place.config()))
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
      const supervisor = await start(source)
      const runId = await submit({ gpu: true })
      await supervisor.handle({ runId })
      expect(await read(runId)).toMatchObject({ state: 'queued', attempt: 1 })
      expect(await place.attempts(runId)).toMatchObject([{ outcome: 'released', engine: null }])
      expect(await place.queue.has({ runId, attempt: 1 })).toBe(true)
      expect(await ledger.losses(runId)).toBe(0)
      expect(supervisor.gpu().gpuFault).toMatch(words)
      expect(await supervisor.handle({ runId })).toBe('given back')
      expect(supervisor.couldTake(await ledger.waiting(0), 2).map(({ id }) => id)).not.toContain(runId)
      expect(place.log.join('\n')).toMatch(/none does here now: .*; it is left to others, and for 60 s/)
      await ledger.requestCancel(runId)
    },
  )

  it('is tried again after its GPU was lost, and by others first', async () => {
    const supervisor = await start(computing({ gpu: true, lostAfter: 500 }))
    const runId = await submit({ gpu: true })
    await supervisor.handle({ runId })
    expect(await read(runId)).toMatchObject({ state: 'queued', attempt: 1, failure: null })
    expect(await place.attempts(runId)).toMatchObject([{ outcome: 'lost' }])
    expect(supervisor.gpu().gpuFault).toMatch(/^the GPU failed: CUDA_ERROR_LAUNCH_FAILED/)
    expect(place.log.join('\n')).toMatch(/CUDA_ERROR_LAUNCH_FAILED.*; for 60 s no run is taken here/)
    expect(await supervisor.handle({ runId })).toBe('given back')

    // Later it is there again, and that is seen as soon as a run computes on it.
    const clock = vi.spyOn(Date, 'now').mockReturnValue(Date.now() + 61_000)
    const again = supervisor.handle({ runId })
    await eventually(() => expect(supervisor.gpu().gpuFault).toBeNull(), 60_000)
    clock.mockRestore()
    supervisor.stop(runId, 'cancelled')
    await again
  })

  describe('and finds no room on it', () => {
    let card: string
    beforeEach(() => {
      card = join(mkdtempSync(join(place.home, 'card-')), 'taken')
    })
    const reasonOf = async (runId: string) => (await place.attempts(runId)).at(-1)!.reason
    /** Which of the runs the worker would call now. */
    const calledOf = async (runIds: string[], supervisor: Supervisor) => {
      const waiting = (await ledger.waiting(0)).filter(({ id }) => runIds.includes(id))
      return supervisor.couldTake(waiting, 2).map(({ id }) => id)
    }

    it('beside another, waits there until it is alone, and is then alone to its end', async () => {
      const supervisor = await start(computing({ gpu: true, card }))
      const neighbour = await submit({ gpu: true })
      const first = supervisor.handle({ runId: neighbour })
      await eventually(() => expect(existsSync(card)).toBe(true), 60_000)

      const runId = await submit({ gpu: true })
      await supervisor.handle({ runId })
      const reason = 'it found no room on the GPU beside 1 other run; it is taken again once it is alone there'
      expect(await read(runId)).toMatchObject({ state: 'queued', attempt: 1, failure: null })
      expect(await place.attempts(runId)).toMatchObject([{ outcome: 'lost', reason }])
      expect((await ledger.log([runId], 1)).get(runId)).toMatchObject([{ level: 'warn', text: reason }])
      expect(await ledger.losses(runId)).toBe(1)
      expect(await place.queue.has({ runId, attempt: 1 })).toBe(true)
      expect(place.log.join('\n')).toContain(`run ${runId}: ${reason}: memory ran out: OOM when allocating`)
      expect(await read(neighbour)).toMatchObject({ state: 'running' })

      const other = await submit({ gpu: true })
      const called = (supervisor: Supervisor) => calledOf([runId, other], supervisor)
      expect(await supervisor.handle({ runId })).toBe('given back')
      expect(await called(supervisor)).toEqual([other])
      // Another worker knows nothing of it.
      expect(await called(await start())).toEqual([runId, other])

      supervisor.stop(neighbour, 'cancelled')
      await first
      expect(await called(supervisor)).toEqual([runId])
      const again = supervisor.handle({ runId })
      await eventually(async () => expect((await read(runId)).progress?.step).toBeGreaterThan(0), 60_000)
      expect(await supervisor.handle({ runId: other })).toBe('given back')
      expect(await called(supervisor)).toEqual([])
      expect(supervisor.gpu()).toMatchObject({ gpuFreeBytes: 0 })
      supervisor.stop(runId, 'cancelled')
      await again
      await ledger.requestCancel(other)
    })

    it('alone, fails at once, if other programs have no part of it that matters', async () => {
      writeFileSync(card, String(process.pid))
      const look = async () => ({ usedBytes: gib, freeBytes: 7 * gib })
      const supervisor = await start(computing({ gpu: true, card }), look)
      const runId = await submit({ gpu: true })
      await supervisor.handle({ runId })
      expect(await read(runId)).toMatchObject({
        ...{ state: 'failed', attempt: 1 },
        failure: { code: 'out-of-memory', message: expect.stringMatching(/^memory ran out: OOM .* GPU_0_bfc$/) },
      })
      expect(await reasonOf(runId)).toBeNull()
    })

    it('for other programs, is tried again later, and in the end told what they left', async () => {
      writeFileSync(card, String(process.pid))
      const supervisor = await start(computing({ gpu: true, card }), async () => ({
        ...{ usedBytes: 6.9 * gib, freeBytes: 1.1 * gib },
      }))
      const runId = await submit({ gpu: true })
      const { delayed } = await place.queue.counts()
      await supervisor.handle({ runId })
      expect(await read(runId)).toMatchObject({ state: 'queued', attempt: 1 })
      expect(await reasonOf(runId)).toMatch(/of whose 8\.0 GiB other programs left 1\.1 GiB free; .* in 60 s$/)
      expect((await place.queue.counts()).delayed).toBe(delayed + 1)
      while ((await ledger.losses(runId)) < mostLosses - 1) {
        const { attempt } = (await ledger.begin(runId, newId()))!
        await ledger.end({ runId, attempt }, { state: 'queued', outcome: 'lost' })
      }
      await supervisor.handle({ runId })
      expect(await read(runId)).toMatchObject({
        state: 'failed',
        failure: {
          message: expect.stringMatching(/of the card's 8\.0 GiB, 1\.1 GiB were free, .* the last of 5 times in a row/),
          cure: expect.stringMatching(/^end the other programs on that GPU/),
        },
      })
    })
  })
})
