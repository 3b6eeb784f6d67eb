import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import type { EngineChoice } from '../../src/engine/choice.ts'
import { chooseEngine } from '../../src/engine/choose.ts'
import { startWebGpu } from '../../src/engine/webgpu/index.ts'
import { parseDefinition } from '../../src/experiments/definition.ts'
import { createMemoryContext, memoryBytes } from '../../src/experiments/memory-context.ts'
import { perform } from '../../src/experiments/perform.ts'
import { readAll } from '../../src/store/objects.ts'
import { openObjects } from '../../src/store/open-objects.ts'
import { decodeSafetensors } from '../../src/store/safetensors.ts'
import { losingDevice } from '../fixtures/lost-device.ts'
import { hasSwiftShader, onlySwiftShader, swiftShader, swiftShaderChoice } from '../swiftshader.ts'
import { openSupervision, type Supervision } from './supervision.ts'

// Several processes compile shaders; on a busy machine each takes its time.
vi.setConfig({ testTimeout: 180_000, hookTimeout: 120_000 })

const steps = 20
const small = {
  ...{ version: 1, name: 'lost', seed: 3 },
  dataset: { name: 'shapes', images: 60, testImages: 20, classes: 4, height: 8, width: 8, clutter: 0 },
  net: { name: 'small', widths: [4] },
  method: { name: 'npid', dimension: 4 },
  training: { epochs: 4, batchSize: 12, checkpointEverySteps: 4 },
  evaluations: [],
}

describe.runIf(hasSwiftShader)('a run whose GPU is lost in the middle of it', () => {
  let place: Supervision
  let workerId: string

  beforeAll(async () => {
    place = await openSupervision()
    workerId = await place.signOn({ engine: 'webgpu' })
  })
  afterAll(() => place.close())

  const start = (environment: Record<string, string>, found: { choice?: EngineChoice } = {}) => {
    const settings = { GESTALT_ENGINE: 'webgpu', GESTALT_GPU: swiftShaderChoice }
    return place.start({ workerId, settings, environment: { ...swiftShader, ...environment }, ...found })
  }

  const outcomes = async (runId: string) => (await place.attempts(runId)).map(({ outcome }) => outcome)

  /** Everything that was learned and remembered. */
  async function tensorsOf(runId: string) {
    const final = (await place.ledger.checkpoints([runId])).get(runId)!.find((checkpoint) => checkpoint.final)!
    expect(final.step).toBe(steps)
    const file = await readAll(await openObjects(place.config()).get(final.key))
    return decodeSafetensors(file, 'the checkpoint').tensors
  }

  async function undisturbed() {
    onlySwiftShader()
    const engine = await startWebGpu({ choice: swiftShaderChoice })
    const { recorded, ...context } = createMemoryContext(memoryBytes())
    await perform(parseDefinition(small), context)
    engine.dispose()
    return recorded.checkpoints.find(({ final }) => final)!.checkpoint.tensors
  }

  it('is taken up again from its checkpoint, and ends with the very weights of one that was not disturbed', async () => {
    const runId = await place.submit(small)
    const supervisor = start(losingDevice(60))
    await supervisor.handle({ runId })
    expect(await place.read(runId), place.log.join('\n')).toMatchObject({ state: 'queued', attempt: 1, failure: null })
    expect(place.log.join('\n')).toMatch(/the GPU SwiftShader Device \(Subzero\) was lost \(destroyed\)/)
    expect(await outcomes(runId)).toEqual(['lost'])
    expect(await place.queue.has({ runId, attempt: 1 })).toBe(true)
    const [newest] = (await place.ledger.checkpoints([runId])).get(runId)!.sort((a, b) => b.step - a.step)
    expect(newest).toMatchObject({ final: false })

    await supervisor.handle({ runId })
    expect(await outcomes(runId)).toEqual(['lost', 'succeeded'])
    expect(await place.said(runId)).toContain(`goes on from the checkpoint at step ${newest!.step} of ${steps}`)
    expect(await tensorsOf(runId)).toEqual(await undisturbed())
  })

  it('needs no self-test of what its worker has tested, but one after a loss', async () => {
    onlySwiftShader()
    const choice = await chooseEngine('webgpu', { gpu: { choice: swiftShaderChoice, software: true } })
    const runId = await place.submit(small)
    // Lost by the first that is computed: by the training, or by the test, before the attempt has an engine.
    for (const _ of [1, 2]) await start(losingDevice(1), { choice }).handle({ runId })
    const [first, second] = await place.attempts(runId)
    expect(first).toMatchObject({ outcome: 'lost', engine: choice.engine })
    expect(second).toMatchObject({ outcome: 'lost', engine: null })
    await place.ledger.requestCancel(runId)
  })
})
