import { afterEach, describe, expect, it, vi } from 'vitest'
import { shapes } from '../../../src/data/shapes.ts'
import type { Half } from '../../../src/engine/webgpu/half.ts'
import { type GpuEngine, startWebGpu } from '../../../src/engine/webgpu/index.ts'
import { memoryBytes } from '../../../src/experiments/memory-context.ts'
import type { Method } from '../../../src/models/method.ts'
import { npid } from '../../../src/models/methods/npid.ts'
import { train } from '../../../src/models/training/train.ts'
import { type TrainingDefinition, trainingSchema } from '../../../src/models/training/training.ts'
import { buildTiny, defaultsOf } from '../../models/tiny.ts'
import { hasSwiftShader, onlySwiftShader, swiftShaderChoice } from '../../swiftshader.ts'

onlySwiftShader()

// A shader takes SwiftShader most of a second to compile.
vi.setConfig({ testTimeout: 120_000 })

type Values = Record<string, number>

interface Disturbance {
  epochs?: number
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
  async function run(method: unknown, half: Half | undefined, { epochs = 4 }: Disturbance = {}): Promise<Values[]> {
    engine?.dispose()
    engine = await startWebGpu({ choice: swiftShaderChoice, half, onFallback: () => {} })
    const corpus = await corpusOf()
    const { learner, method: unit, parameters } = buildTiny(method, {}, corpus)
    const precision = half ? 'half' : 'single'
    const optimizer = { name: 'sgd', learningRate: 0.02 }
    const training = defaultsOf(trainingSchema, { epochs, batchSize: 16, precision, optimizer }) as unknown
    const told: Values[] = []
    await train({
      ...{ learner, views: unit.views(parameters), dataset: corpus.train, seed: 5, start: undefined },
      training: training as TrainingDefinition,
      stages: unit.stages?.(parameters, { epochs }) ?? [{ name: 'all', epochs }],
      window: {
        report: (_, values) => {
          if (values.loss !== undefined) told.push(values)
        },
        ...{ progress: () => {}, save: () => {}, stop: new AbortController().signal },
      },
    })
    learner.dispose()
    return told
  }

  it.each(([npid] as unknown as Method[]).map((method) => [method.name, method] as const))(
    'follows %s as single precision does, with losses that differ by the digits that are lost',
    async (_, method) => {
      const single = await run(method, undefined)
      const rounded = await run(method, 'rounded')
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
})
