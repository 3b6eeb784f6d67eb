import { beforeAll, describe, expect, it } from 'vitest'
import { startWasm } from '../../../src/engine/wasm.ts'
import { parseDefinition } from '../../../src/experiments/definition.ts'
import { createMemoryContext, type MemoryContextOptions, memoryBytes } from '../../../src/experiments/memory-context.ts'
import { perform } from '../../../src/experiments/perform.ts'
import type { Evaluation } from '../../../src/models/evaluation.ts'
import { evaluations } from '../../../src/models/evaluations/index.ts'
import type { Ability, Method } from '../../../src/models/method.ts'
import { methods } from '../../../src/models/methods/index.ts'
import { tf } from '../../../src/tf.ts'
import { isMissing, startTensorFlow } from './built.ts'

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

interface Run {
  method: string
  settings: object
}

const runs: Run[] = Object.keys(methods).flatMap((method) =>
  (variants[method] ?? [{}]).map((settings) => ({ method, settings })),
)
const [npid, swwae] = ['npid', 'swwae'].map((name) => runs.find(({ method }) => method === name)!)

/** Whatever a method can be measured by. */
function measures(name: string) {
  const { abilities } = (methods as unknown as Record<string, Method>)[name]!
  const offered = new Set<Ability>([...abilities, 'labels', 'pools'])
  return Object.values(evaluations as unknown as Record<string, Evaluation>)
    .filter(({ requires }) => requires.every((ability) => offered.has(ability)))
    .map(({ name: own }) => (own === 'cluster-agreement' ? { name: own, k: 4 } : { name: own }))
}

async function performed({ method, settings }: Run, evaluated: boolean, options: MemoryContextOptions = {}) {
  const definition = parseDefinition({
    ...{ version: 1, name: 'native', seed: 3, net: { name: 'small' }, method: { name: method, ...settings } },
    dataset: { name: 'shapes', images: 240, testImages: 40, classes: 4, height: 8, width: 8, clutter: 0 },
    training: { epochs: 2, batchSize: 40, checkpointEverySteps: 7 },
    evaluations: evaluated ? measures(method) : [],
  })
  const context = createMemoryContext(memoryBytes(), options)
  await perform(definition, context)
  return context.recorded
}

type Recorded = Awaited<ReturnType<typeof performed>>

const lossesOf = ({ metrics }: Recorded) =>
  metrics.flatMap(({ step, values: { loss } }) => (loss === undefined ? [] : [{ step, loss }]))

/** The largest relative difference between losses; infinite where they are of other steps. */
function apart(got: Recorded, wanted: Recorded): number {
  const [own, other] = [lossesOf(got), lossesOf(wanted)]
  if (own.map(({ step }) => step).join() !== other.map(({ step }) => step).join()) return Number.POSITIVE_INFINITY
  return Math.max(0, ...own.map(({ loss }, i) => Math.abs(loss / other[i]!.loss - 1)))
}

/**
 * After twelve steps engines are 1e-6 apart, and 1e-5 where a method unpools: the largest of near equals is another
 * one where its last digit differs.
 */
const bound = 1e-4

describe.skipIf(isMissing)("training and evaluation on TensorFlow's own library", () => {
  beforeAll(startTensorFlow)

  it.each(runs)('give the numbers of another engine, and leave no tensor: $method with $settings', async (run) => {
    await startWasm()
    const wanted = await performed(run, false)
    await tf.setBackend('tensorflow')
    const before = tf.memory().numTensors
    const got = await performed(run, true)
    expect(tf.memory().numTensors).toBe(before)
    expect(got.findings).toHaveLength(measures(run.method).length)
    expect(apart(got, wanted)).toBeLessThan(bound)
  })

  it.each([npid!, swwae!])('give the same numbers each time: $method', async (run) => {
    await tf.setBackend('tensorflow')
    const [one, other] = [await performed(run, false), await performed(run, false)]
    expect(lossesOf(one)).toHaveLength(12)
    expect(lossesOf(one)).toEqual(lossesOf(other))
  })

  it.each([npid!, swwae!])('continue where another engine stopped, and the other way round: $method', async (run) => {
    const engines = [startWasm, startTensorFlow] as const
    for (const [first, second] of [engines, engines.toReversed() as [typeof startTensorFlow, typeof startWasm]]) {
      await first()
      const whole = await performed(run, false)
      // Kept are those of step 7 and the last.
      const checkpoints = whole.checkpoints.filter(({ final }) => !final).slice(0, 1)
      await second()
      const continued = await performed(run, false, { checkpoints })
      const rest = { ...whole, metrics: whole.metrics.filter(({ step }) => step > 7) }
      expect(lossesOf(continued)).toHaveLength(5)
      expect(apart(continued, rest)).toBeLessThan(bound)
    }
  })
})
