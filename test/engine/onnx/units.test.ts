import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { OnnxEngine } from '../../../src/engine/onnx/index.ts'
import { parseDefinition } from '../../../src/experiments/definition.ts'
import { createMemoryContext, memoryBytes } from '../../../src/experiments/memory-context.ts'
import { perform } from '../../../src/experiments/perform.ts'
import { evaluations } from '../../../src/models/evaluations/index.ts'
import { methods } from '../../../src/models/methods/index.ts'
import { nets } from '../../../src/models/nets/index.ts'
import { engines } from './engines.ts'

/** Settings that take other ways through a method; each is run beside the defaults. */
const variants: Record<string, object[]> = {
  npid: [
    { dimension: 8 },
    { dimension: 8, negatives: 6, zMode: 'ema', proximal: 1 },
    { dimension: 8, negatives: 'all' },
  ],
}

const runs = Object.keys(methods).flatMap((method) =>
  Object.keys(nets).flatMap((net) => (variants[method] ?? [{}]).map((settings) => ({ method, net, settings }))),
)

const definitionOf = ({ method, net, settings }: (typeof runs)[number], epochs: number) =>
  parseDefinition({
    version: 1,
    name: 'without-fallback',
    seed: 3,
    dataset: { name: 'shapes', images: 240, testImages: 40, classes: 4, height: 8, width: 8, clutter: 0 },
    net: { name: net },
    method: { name: method, ...settings },
    training: { epochs, batchSize: 40, checkpointEverySteps: 7 },
    evaluations: Object.keys(evaluations).map((name) => ({ name })),
  })

describe.each(engines)('training and evaluation on the %s engine', (name, start) => {
  let engine: OnnxEngine

  beforeAll(async () => {
    engine = await start({ threads: 2 })
  })

  afterAll(() => engine.dispose())

  it.each(runs)('use no kernel that the engine does not have: $method on $net with $settings', async (run) => {
    engine.resetStats()
    await perform(definitionOf(run, 2), createMemoryContext(memoryBytes()))
    const { fallbacks, runs: count, programRuns } = engine.stats()
    expect(fallbacks).toEqual({})
    // Raw pixels have next to nothing to compute.
    expect(count).toBeGreaterThan(5)
    expect(programRuns, 'graphs that ran as machine code').toBe(name === 'machine' ? count : 0)
  })

  it.each(runs)('compile the same graphs however long they train: $method on $net with $settings', async (run) => {
    const compiled = async (epochs: number) => {
      engine.resetStats()
      await perform(definitionOf(run, epochs), createMemoryContext(memoryBytes()))
      return engine.stats().compiles
    }
    await compiled(2)
    expect(await compiled(4)).toBe(0)
  })
})
