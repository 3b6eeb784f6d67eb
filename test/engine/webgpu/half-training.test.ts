import { afterEach, describe, expect, it, vi } from 'vitest'
import { shapes } from '../../../src/data/shapes.ts'
import type { Half } from '../../../src/engine/webgpu/half.ts'
import { type GpuEngine, startWebGpu } from '../../../src/engine/webgpu/index.ts'
import { memoryBytes } from '../../../src/experiments/memory-context.ts'
import type { Learner } from '../../../src/models/method.ts'
import { npid } from '../../../src/models/methods/npid.ts'
import { whatWhere } from '../../../src/models/methods/what-where.ts'
import { train } from '../../../src/models/training/train.ts'
import { type TrainingDefinition, trainingSchema } from '../../../src/models/training/training.ts'
import { type Tensor, tf } from '../../../src/tf.ts'
import { buildTiny, defaultsOf } from '../../models/tiny.ts'
import { hasSwiftShader, onlySwiftShader, swiftShaderChoice } from '../../swiftshader.ts'

onlySwiftShader()

// A shader takes SwiftShader most of a second to compile.
vi.setConfig({ testTimeout: 120_000 })

type Values = Record<string, number>

interface Disturbance {
  epochs?: number
  parameters?: Record<string, unknown>
  /** The loss, times so much. */
  steepness?: number
  onStep?(learner: Learner): void
}

/** Images of 16 x 16: activations of a batch of 16 are large enough to be stored in half precision. */
const corpusOf = () =>
  shapes.open(
    defaultsOf(shapes.parameters, {
      images: 48,
      testImages: 4,
      classes: 4,
      height: 16,
      width: 16,
      clutter: 0,
    }) as never,
    memoryBytes(),
  )

describe.runIf(hasSwiftShader)('training in half precision on WebGPU', () => {
  let engine: GpuEngine | undefined

  afterEach(() => {
    engine?.dispose()
    engine = undefined
  })

  /** What each step told. */
  async function run(method: unknown, half: Half | undefined, disturbance: Disturbance = {}): Promise<Values[]> {
    const { epochs = 4, parameters: given = {}, steepness = 1, onStep } = disturbance
    engine?.dispose()
    engine = await startWebGpu({ choice: swiftShaderChoice, half, onFallback: () => {} })
    const corpus = await corpusOf()
    const { learner, method: unit, parameters } = buildTiny(method, given, corpus)
    const { objective } = learner
    learner.objective = (...batch) => {
      const found = objective(...batch)
      return steepness === 1 ? found : { ...found, loss: tf.mul(found.loss, steepness) }
    }
    const precision = half ? 'half' : 'single'
    const optimizer = { name: 'sgd', learningRate: 0.02 }
    const training = defaultsOf(trainingSchema, { epochs, batchSize: 16, precision, optimizer }) as unknown
    const told: Values[] = []
    const end = new AbortController()
    try {
      await train({
        ...{ learner, views: unit.views(parameters), dataset: corpus.train, seed: 5, start: undefined },
        training: training as TrainingDefinition,
        stages: unit.stages?.(parameters, { epochs }) ?? [{ name: 'all', epochs }],
        window: {
          report: (_, values) => {
            if (values.loss !== undefined) told.push(values)
          },
          ...{ progress: () => {}, save: () => {}, stop: end.signal, onStep: () => onStep?.(learner) },
        },
      })
    } finally {
      learner.dispose()
    }
    return told
  }

  it.each([
    ['npid', npid, {}],
    // A decoder that unpools where each maximum was; an epoch of each phase.
    ['what-where', whatWhere, { classifier: { epochs: 1 }, layerwise: { epochs: 1 }, stacked: { epochs: 1 } }],
  ])(
    'follows %s as single precision does, with losses that differ by the digits that are lost',
    async (_, method, parameters) => {
      const single = await run(method, undefined, { parameters })
      const rounded = await run(method, 'rounded', { parameters })
      expect(rounded).toHaveLength(single.length)
      // The first scale may be too large for the first gradients: a step is skipped then, and the scale halved.
      const skipped = rounded.reduce((sum, { overflow }) => sum + overflow!, 0)
      expect(skipped).toBeLessThanOrEqual(3)
      expect(rounded.at(-1)!.lossScale).toBe(2 ** (16 - skipped))
      // A number of 16 bits has 11 digits, each rounding is off by 2^-12 at most: the first loss has passed some ten of
      // them, and errors of single activations average out in it.
      const first = Math.abs(rounded[0]!.loss! / single[0]!.loss! - 1)
      expect(first).toBeLessThan(10 * 2 ** -12)
      // Something is lost, or this tests nothing.
      expect(first).toBeGreaterThan(1e-8)
      // In the end it is as many steps behind as were skipped, of twelve.
      const end = (told: Values[]) => told.slice(-3).reduce((sum, { loss }) => sum + loss! / 3, 0)
      expect(Math.abs(end(rounded) / end(single) - 1)).toBeLessThan(0.05)
    },
  )

  it('skips steps whose gradients overflow, halves the scale of the loss, and goes on', async () => {
    const weights: Tensor[] = []
    const told = await run(npid, 'rounded', {
      epochs: 8,
      // No number of 16 bits is above 65,504: the first scale is too large for the gradients of such a loss.
      steepness: 2 ** 10,
      onStep: ({ weights: learned }) => void weights.push(tf.clone(Object.values(learned)[0]!)),
    })
    const skipped = told.findIndex(({ overflow }) => overflow === 0)
    expect(skipped).toBeGreaterThan(0)
    for (const [i, { overflow, lossScale, gradientNorm }] of told.slice(0, skipped + 1).entries()) {
      expect(lossScale).toBe(2 ** (16 - i))
      if (overflow) expect(gradientNorm).toBe(0)
    }
    const snapshots = await Promise.all(weights.map((tensor) => tensor.data()))
    tf.dispose(weights)
    for (let i = 1; i < skipped; i++) expect(snapshots[i]).toEqual(snapshots[0])
    expect(snapshots[skipped]).not.toEqual(snapshots[0])
    const after = told.slice(skipped)
    expect(after.filter(({ overflow }) => overflow === 0).length).toBeGreaterThan(after.length / 2)
    for (const { overflow, gradientNorm, loss } of after) {
      expect(loss).toBeGreaterThan(0)
      if (overflow === 0) expect(gradientNorm).toBeGreaterThan(0)
    }
    expect(told.at(-1)!.loss).toBeLessThan(told[0]!.loss!)
  })

  it('gives up where gradients overflow though the scale cannot be lowered further, with the cure', async () => {
    const told = run(npid, 'rounded', { epochs: 10, steepness: 2 ** 40 })
    await expect(told).rejects.toMatchObject({
      code: 'diverged',
      // Sixteen halvings of 2^16.
      message: expect.stringMatching(/^the gradients of step 17 are no numbers in half precision/),
      cure: expect.stringMatching(/training\.precision "single"/),
    })
  })
})
