import { beforeAll, describe, expect, it } from 'vitest'
import type { Corpus } from '../../../src/data/dataset.ts'
import { chooseEngine } from '../../../src/engine/choose.ts'
import { Diverged } from '../../../src/errors.ts'
import type { Checkpoint } from '../../../src/models/checkpoint.ts'
import type { Batch, Learner } from '../../../src/models/method.ts'
import { refuseDivergence } from '../../../src/models/training/divergence.ts'
import { lossScale } from '../../../src/models/training/loss-scale.ts'
import { train } from '../../../src/models/training/train.ts'
import { type TrainingDefinition, trainingSchema } from '../../../src/models/training/training.ts'
import { type Scalar, tf } from '../../../src/tf.ts'
import { defaultsOf, tinyCorpus } from '../tiny.ts'

let corpus: Corpus

beforeAll(async () => {
  await chooseEngine('auto')
  corpus = await tinyCorpus()
})

/** One number that follows the mean label of its batch: the gradient is w - mean. */
function makeFollower(): Learner & { batches: Int32Array[] } {
  const w = tf.tidy(() => tf.variable(tf.zeros([1])))
  const batches: Int32Array[] = []
  return {
    batches,
    weights: { w },
    memory: {},
    taps: { w: [1] },
    embedding: 'w',
    objective({ labels }: Batch) {
      const loss = tf.div(tf.mean(tf.square(tf.sub(w, tf.cast(labels!, 'float32')))), 2) as Scalar
      return { loss, metrics: { twice: tf.mul(loss, 2) as Scalar } }
    },
    absorb: ({ indices }) => void batches.push(indices.slice()),
    encode: (images) => tf.tidy(() => ({ w: tf.mul(tf.ones([images.shape[0], 1]), w) })),
    dispose: () => tf.dispose(w),
  }
}

async function run(given: Record<string, unknown>, start?: Checkpoint) {
  const learner = makeFollower()
  const training = defaultsOf(trainingSchema, {
    epochs: 2,
    batchSize: 16,
    optimizer: { name: 'sgd', learningRate: 0.5, momentum: 0 },
    ...given,
  }) as unknown as TrainingDefinition
  const metrics: Record<string, number>[] = []
  const rows: number[] = []
  const saved: Checkpoint[] = []
  try {
    const outcome = await train({
      learner,
      views: [{}],
      dataset: corpus.train,
      training,
      seed: 1,
      start,
      window: {
        report: (_, values) => void ('loss' in values && metrics.push(values)),
        progress: () => {},
        save: (checkpoint) => void saved.push(checkpoint),
        stop: new AbortController().signal,
        onStep: () => void rows.push(learner.weights.w!.dataSync()[0]!),
      },
    })
    const end = learner.weights.w!.dataSync()[0]!
    return { outcome, metrics, rows, saved, end, batches: learner.batches }
  } finally {
    learner.dispose()
  }
}

describe('a step of several batches', () => {
  it('is the step of one batch with all their images, told once, absorbed batch by batch', async () => {
    const before = tf.memory().numTensors
    const [whole, parts] = [await run({}), await run({ batchSize: 4, accumulate: 4 })]
    expect(parts.outcome).toEqual({ step: 6, stopped: false })
    expect([whole.batches.length, parts.batches.length]).toEqual([6, 24])
    expect(parts.batches.flatMap((indices) => [...indices])).toEqual(whole.batches.flatMap((indices) => [...indices]))
    parts.rows.forEach((row, i) => {
      expect(row).toBeCloseTo(whole.rows[i]!, 5)
    })
    parts.metrics.forEach(({ loss, twice, gradientNorm }, i) => {
      expect(loss).toBeCloseTo(whole.metrics[i]!.loss!, 5)
      expect(twice).toBeCloseTo(2 * loss!, 5)
      expect(gradientNorm).toBeCloseTo(whole.metrics[i]!.gradientNorm!, 5)
    })
    expect(tf.memory().numTensors).toBe(before)
  })

  it('begins each epoch anew where the batches do not go up into steps', async () => {
    const { outcome, batches } = await run({ batchSize: 10, accumulate: 2 })
    expect(outcome.step).toBe(4)
    expect(new Set(batches.slice(0, 4).flatMap((indices) => [...indices])).size).toBe(40)
    expect(new Set(batches.slice(4).flatMap((indices) => [...indices])).size).toBe(40)
  })
})

it('a gradient that is too long is shortened, and told as long as it was', async () => {
  const { rows, metrics } = await run({ clipNorm: 0.25 })
  expect(metrics[0]!.gradientNorm).toBeGreaterThan(0.25)
  expect(rows[0]).toBeCloseTo(0.125, 6)
  const free = await run({ clipNorm: 100 })
  expect(free.rows).toEqual((await run({})).rows)
})

describe('a scaled loss', () => {
  it('gives the same numbers, since the scale is a power of two, and goes on from a checkpoint', async () => {
    const before = tf.memory().numTensors
    const single = await run({})
    const half = await run({ precision: 'half', checkpointEverySteps: 4 })
    expect(half.rows).toEqual(single.rows)
    for (const [i, { lossScale, overflow, ...values }] of half.metrics.entries()) {
      expect([lossScale, overflow]).toEqual([65_536, 0])
      expect(values).toEqual(single.metrics[i])
    }
    expect([...half.saved[0]!.tensors['loss-scale/good']!.data]).toEqual([4])
    expect((await run({ precision: 'half' }, half.saved[0]!)).end).toBe(single.end)
    expect(tf.memory().numTensors).toBe(before)
  })

  it('of batches that are put together is told once a step', async () => {
    const { metrics } = await run({ precision: 'half', batchSize: 4, accumulate: 4 })
    expect(metrics.map(({ lossScale }) => lossScale)).toEqual(Array(6).fill(65_536))
  })

  it('takes no step with gradients that overflow, is halved then, and doubled when all is well for long', async () => {
    const scale = lossScale()
    const lower = (value: number) =>
      tf.tidy(() => {
        const gradient = tf.mul(tf.scalar(value), scale.values.scale!)
        const { gradients, norm, metrics } = scale.lower({ w: tf.reshape(gradient, [1]) }, tf.abs(gradient))
        return [gradients.w!, norm, metrics.overflow!].map((tensor) => tensor.dataSync()[0]!)
      })
    expect(lower(3)).toEqual([3, 3, 0])
    expect(lower(Number.POSITIVE_INFINITY)).toEqual([0, 0, 1])
    expect(lower(Number.NaN)).toEqual([0, 0, 1])
    const now = () => scale.values.scale!.dataSync()[0]
    expect(now()).toBe(2 ** 14)
    for (let i = 0; i < 1999; i++) lower(1)
    expect(now()).toBe(2 ** 14)
    lower(1)
    expect(now()).toBe(2 ** 15)
    scale.dispose()
  })
})

describe('the average of the weights', () => {
  it('follows them as a few lines do, beside them in checkpoints, and in their place in the final one', async () => {
    const { rows, saved, end } = await run({ averaging: 0.75, checkpointEverySteps: 4 })
    let average = 0
    for (const row of rows) average = 0.75 * average + 0.25 * row
    expect(end).toBeCloseTo(average, 6)
    const numbers = ({ tensors }: Checkpoint) =>
      ['weights/w', 'average/w'].map((name) => (tensors[name]!.data as Float32Array)[0])
    const [between, final] = saved.map(numbers)
    expect(between![0]).toBe(rows[3])
    expect(between![1]).not.toBe(rows[3])
    expect(final).toEqual([end, end])
  })

  it('is found again in a checkpoint of the last step', async () => {
    const { saved, end } = await run({ averaging: 0.75 })
    expect((await run({ averaging: 0.75 }, saved.at(-1)!)).end).toBe(end)
  })
})

describe('a step that is no number', () => {
  const batch = (pixels: number[]) => ({
    views: [Float32Array.from(pixels)],
    shape: [2, 1, 2, 1] as const,
    indices: Int32Array.from([40, 7]),
    step: 0,
    epoch: 0,
  })

  it('is told with the image that is none either, where there is one', () => {
    const values = { loss: Number.NaN, gradientNorm: Number.NaN }
    expect(() => refuseDivergence(3, values, batch([0, 1, 1, Number.NaN]))).toThrow(
      'the loss of step 3 is NaN, since training image 7 holds values that are no numbers',
    )
    expect(() => refuseDivergence(3, values, batch([0, 1, 1, 1]))).toThrow(/the loss of step 3 is NaN$/)
  })

  it('is one by its gradient too, before the weights are saved', () => {
    const values = { loss: 1, gradientNorm: Number.POSITIVE_INFINITY }
    expect(() => refuseDivergence(3, values, batch([0, 1, 1, 1]))).toThrow(Diverged)
    expect(() => refuseDivergence(3, { loss: 1, gradientNorm: 2 }, batch([0, 1, 1, 1]))).not.toThrow()
  })
})
