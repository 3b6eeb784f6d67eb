import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { OnnxEngine } from '../../../src/engine/onnx/index.ts'
import { parseDefinition } from '../../../src/experiments/definition.ts'
import { createMemoryContext, memoryBytes } from '../../../src/experiments/memory-context.ts'
import { perform } from '../../../src/experiments/perform.ts'
import type { Evaluation } from '../../../src/models/evaluation.ts'
import { evaluations } from '../../../src/models/evaluations/index.ts'
import type { Ability, Method } from '../../../src/models/method.ts'
import { methods } from '../../../src/models/methods/index.ts'
import { engines } from './engines.ts'

const joint = { classifier: { epochs: 0 }, layerwise: { epochs: 0 }, stacked: { epochs: 0 } }

/** Settings that fit this small world, or take other ways through a method; each is run. */
const variants: Record<string, object[]> = {
  'deep-autoencoder': [{ widths: [16, 8] }],
  deepcluster: [{ k: 8 }],
  'kmeans-patches': [{ centroids: 8, patches: 400, iterations: 3, patch: 4 }],
  npid: [
    { dimension: 8 },
    { dimension: 8, negatives: 6, zMode: 'ema', proximal: 1 },
    { dimension: 8, negatives: 'all' },
  ],
  pca: [{ components: 8 }],
  'random-filters': [{ filters: 8, patch: 4 }],
  'what-where': [joint, { ...joint, pathway: 'sae', losses: 'layerwise' }],
}

// Nets other than the small one are tested layer by layer, and family by family, in test/models/nets.
const runs = Object.keys(methods).flatMap((method) =>
  (variants[method] ?? [{}]).map((settings) => ({ method, net: 'small', settings })),
)

const there = (method: string) => {
  const { abilities } = (methods as unknown as Record<string, Method>)[method]!
  const offered = new Set<Ability>([...abilities, 'labels', 'pools'])
  return Object.values(evaluations as unknown as Record<string, Evaluation>)
    .filter(({ requires }) => requires.every((ability) => offered.has(ability)))
    .map(({ name }) => (name === 'cluster-agreement' ? { name, k: 4 } : { name }))
}

const definitionOf = ({ method, net, settings }: (typeof runs)[number], epochs: number) =>
  parseDefinition({
    version: 1,
    name: 'without-fallback',
    seed: 3,
    dataset: { name: 'shapes', images: 240, testImages: 40, classes: 4, height: 8, width: 8, clutter: 0 },
    net: { name: net },
    method: { name: method, ...settings },
    training: { epochs, batchSize: 40, checkpointEverySteps: 7 },
    evaluations: there(method),
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
