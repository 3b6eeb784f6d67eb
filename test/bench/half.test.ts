import { afterEach, describe, expect, it, vi } from 'vitest'
import { startRounding } from '../../bench/half/computer.ts'
import { shapes } from '../../src/data/shapes.ts'
import { startMachine, whyNotHere } from '../../src/engine/machine/index.ts'
import { startWebGpu } from '../../src/engine/webgpu/index.ts'
import { memoryBytes } from '../../src/experiments/memory-context.ts'
import type { Checkpoint } from '../../src/models/checkpoint.ts'
import { npid } from '../../src/models/methods/npid.ts'
import { train } from '../../src/models/training/train.ts'
import { type TrainingDefinition, trainingSchema } from '../../src/models/training/training.ts'
import { tellingNumbers, wronglyRounded } from '../engine/half-numbers.ts'
import { buildTiny, defaultsOf } from '../models/tiny.ts'
import { hasSwiftShader, onlySwiftShader, swiftShaderChoice } from '../swiftshader.ts'

onlySwiftShader()

// A shader takes SwiftShader most of a second to compile.
vi.setConfig({ testTimeout: 120_000 })

let engine: { dispose(): void } | undefined
afterEach(() => {
  engine?.dispose()
  engine = undefined
})

/** Images of 16 x 16: a GPU stores activations of 48 in half precision. */
const openCorpus = () =>
  shapes.open(
    defaultsOf(shapes.parameters, {
      ...{ images: 48, testImages: 4, classes: 4, height: 16, width: 16, clutter: 0 },
    }) as never,
    memoryBytes(),
  )

interface Trained {
  /** What each step told. */
  told: Record<string, number>[]
  checkpoint: Checkpoint
}

interface Course {
  precision: 'single' | 'half'
  epochs?: number
  from?: Checkpoint
  /** After how many steps it is stopped. */
  steps?: number
}

/** NPID, all images a step, on an engine. */
async function trainOn(start: () => Promise<{ dispose(): void }>, course: Course): Promise<Trained> {
  engine?.dispose()
  engine = await start()
  const { precision, epochs = 1, from, steps } = course
  const corpus = await openCorpus()
  const { learner, method, parameters } = buildTiny(npid as never, {}, corpus)
  const optimizer = { name: 'sgd', learningRate: 0.02 }
  const training = defaultsOf(trainingSchema, { epochs, batchSize: 48, precision, optimizer }) as unknown
  const told: Trained['told'] = []
  const stop = new AbortController()
  let saved: Checkpoint | undefined
  await train({
    ...{ learner, views: method.views(parameters), dataset: corpus.train, seed: 5, start: from },
    training: training as TrainingDefinition,
    stages: [{ name: '', epochs }],
    window: {
      report: (_, values) => void (values.loss !== undefined && told.push(values)),
      save: (checkpoint) => {
        saved = checkpoint
      },
      onStep: (step) => {
        if (step === steps) stop.abort()
      },
      ...{ progress: () => {}, stop: stop.signal },
    },
  })
  learner.dispose()
  return { told, checkpoint: saved! }
}

/** The loss of one step, and the gradients of all weights: they are what the optimiser has then. */
async function takeStep(precision: 'single' | 'half', start: () => Promise<{ dispose(): void }>) {
  const { told, checkpoint } = await trainOn(start, { precision })
  const { tensors } = checkpoint
  const weights = Object.keys(tensors).filter((name) => name.startsWith('weights/'))
  const slots = weights.map((name) => tensors[name.replace('weights', 'optimizer')]!.data as Float32Array)
  return { loss: told[0]!.loss!, gradients: Float32Array.from(slots.flatMap((slot) => [...slot])) }
}

/** How far apart two lists of numbers are. */
const between = (a: Float32Array, b: Float32Array) => Math.hypot(...a.map((x, i) => x - b[i]!))

describe.skipIf(whyNotHere())('half precision on the processor', () => {
  it('rounds any number that a GPU would store in 16 bits as a conversion does', async () => {
    const started = await startRounding(1)
    engine = started
    expect(await wronglyRounded(tellingNumbers())).toEqual([])
    expect(started.rounded).toEqual({ values: 1, others: 0 })
    expect(started.unwritten).toEqual({})
  })

  it.runIf(hasSwiftShader)('loses the same digits in a training step as the engine for GPUs', async () => {
    const onGpu = (half?: 'rounded') => startWebGpu({ choice: swiftShaderChoice, half, onFallback: () => {} })
    const single = await takeStep('single', () => onGpu())
    const gpu = await takeStep('half', () => onGpu('rounded'))
    const own = await takeStep('half', () => startRounding(1))
    // The last digit of a sum decides now and then which way a number is rounded: some gradients differ by that.
    const lost = { loss: Math.abs(gpu.loss - single.loss), gradients: between(gpu.gradients, single.gradients) }
    expect(lost.loss).toBeGreaterThan(1e-5)
    expect(Math.abs(own.loss - gpu.loss)).toBeLessThan(lost.loss / 5)
    expect(between(own.gradients, gpu.gradients)).toBeLessThan(lost.gradients / 10)
    const without = await takeStep('single', () => startMachine({ threads: 1, onFallback: () => {} }))
    expect(between(without.gradients, single.gradients)).toBeLessThan(lost.gradients / 1000)
  })
  it('goes on with a lower loss scale where numbers are larger than 16 bits hold', async () => {
    const course = { precision: 'half', epochs: 40 } as const
    const begun = await trainOn(() => startRounding(1), { ...course, steps: 1 })
    const raised = structuredClone(begun.checkpoint)
    raised.tensors['loss-scale/scale']!.data[0] = 2 ** 40
    const { told } = await trainOn(() => startRounding(1), { ...course, from: raised })
    expect(told).toHaveLength(39)
    const skipped = told.reduce((sum, { overflow }) => sum + overflow!, 0)
    expect(skipped).toBeGreaterThan(10)
    expect(told.slice(0, 10).map(({ overflow }) => overflow)).toEqual(Array(10).fill(1))
    expect(told.at(-1)).toMatchObject({ overflow: 0, lossScale: 2 ** (40 - skipped) })
    expect(told.at(-1)!.loss).toBeLessThan(begun.told[0]!.loss!)
  })
})
