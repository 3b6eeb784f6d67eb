import { beforeAll, describe, expect, it } from 'vitest'
import type { Corpus } from '../../../src/data/dataset.ts'
import { chooseEngine } from '../../../src/engine/choose.ts'
import { Diverged } from '../../../src/errors.ts'
import type { Checkpoint } from '../../../src/models/checkpoint.ts'
import { encodeRows } from '../../../src/models/encoding.ts'
import type { Learner, Stage, Survey } from '../../../src/models/method.ts'
import { train } from '../../../src/models/training/train.ts'
import { type TrainingDefinition, trainingSchema } from '../../../src/models/training/training.ts'
import { type Scalar, type Tensor, tf, type Variable } from '../../../src/tf.ts'
import { defaultsOf, tinyCorpus } from '../tiny.ts'

let corpus: Corpus

beforeAll(async () => {
  await chooseEngine('auto')
  corpus = await tinyCorpus()
})

// 48 images, 3 steps an epoch.
const perEpoch = 3
const stages: readonly Stage[] = [
  { name: 'first', epochs: 2, learns: /^a$/ },
  { name: 'second', epochs: 1, learns: /^b$/, learningRate: 0.5 },
  { name: 'all', epochs: 1 },
]
const steps = 12

const training = defaultsOf(trainingSchema, {
  epochs: 4,
  batchSize: 16,
  checkpointEverySteps: 100,
  optimizer: { name: 'sgd', learningRate: 0.125, momentum: 0.5 },
  schedule: { name: 'step', epochs: [1], factor: 0.5 },
}) as unknown as TrainingDefinition

interface Pair extends Learner {
  /** How often the gradient of each weight was asked for, and the stages that the objective heard of. */
  asked: { a: number; b: number }
  heard: (string | undefined)[]
}

/** (a - 1)^2 / 2 + (b - 1)^2 / 2, with both weights 0 at first: all of it can be done by hand. */
function makePair(survey?: (epoch: number) => Survey | undefined): Pair {
  const asked = { a: 0, b: 0 }
  const heard: (string | undefined)[] = []
  const variable = () => tf.tidy(() => tf.variable(tf.zeros([1])))
  const weights = { a: variable(), b: variable() }
  const counted = (name: 'a' | 'b') =>
    tf.customGrad((...inputs) => {
      const [x, save] = inputs as unknown as [Tensor, (tensors: Tensor[]) => void]
      save([x])
      const gradFunc = (dy: Tensor, saved: Tensor[]) => {
        asked[name]++
        return tf.mul(dy, tf.sub(saved[0]!, 1))
      }
      return { value: tf.div(tf.square(tf.sub(x, 1)), 2), gradFunc }
    })(weights[name] as Variable)
  return {
    asked,
    heard,
    weights,
    memory: {},
    taps: { pixels: [12, 12, 3] },
    embedding: 'pixels',
    objective(_batch, _dice, stage) {
      heard.push(stage)
      return { loss: tf.sum(tf.add(counted('a'), counted('b'))) as Scalar }
    },
    ...(survey ? { survey: async (_corpus, epoch) => survey(epoch) } : {}),
    encode: (images) => ({ pixels: tf.clone(images) }),
    dispose: () => tf.dispose(weights),
  }
}

interface Options {
  start?: Checkpoint
  stopAfter?: number
  course?: readonly Stage[]
  learner?: Pair
}

async function run({ start, stopAfter, course = stages, learner = makePair() }: Options = {}) {
  const controller = new AbortController()
  const metrics: { step: number; name: string; value: number }[] = []
  const told: (string | undefined)[] = []
  const kept: string[] = []
  const saved: { checkpoint: Checkpoint; final: boolean }[] = []
  const rows: [number, number][] = []
  try {
    const outcome = await train({
      learner,
      views: [{}],
      dataset: corpus.train,
      training,
      stages: course,
      seed: 1,
      start,
      window: {
        report(step, values) {
          for (const [name, value] of Object.entries(values))
            if (!['imagesPerSecond', 'waitShare'].includes(name)) metrics.push({ step, name, value })
        },
        progress: ({ stage, epochs }) => {
          told.push(stage)
          expect(epochs).toBe(course.reduce((sum, one) => sum + one.epochs, 0))
        },
        save: (checkpoint, { final }) => void saved.push({ checkpoint, final }),
        keep: ({ name }) => void kept.push(name),
        stop: controller.signal,
        onStep(step) {
          rows.push([learner.weights.a!.dataSync()[0]!, learner.weights.b!.dataSync()[0]!])
          if (step === stopAfter) controller.abort()
        },
      },
    })
    return { outcome, metrics, told, kept, saved, rows, learner }
  } finally {
    learner.dispose()
  }
}

/** The same by hand: momentum 0.5, the rate halved after each stage's first epoch, everything anew with each stage. */
function byHand(): [number, number][] {
  const rows: [number, number][] = []
  const weights = { a: 0, b: 0 }
  for (const { epochs, learns, learningRate = 1 } of stages) {
    const velocity = { a: 0, b: 0 }
    for (let step = 0; step < epochs * perEpoch; step++) {
      const rate = 0.125 * learningRate * (step < perEpoch ? 1 : 0.5)
      for (const name of ['a', 'b'] as const) {
        if (learns && !learns.test(name)) continue
        velocity[name] = velocity[name] / 2 + weights[name] - 1
        weights[name] -= rate * velocity[name]
      }
      rows.push([weights.a, weights.b])
    }
  }
  return rows
}

describe('a training in stages', () => {
  it('moves only the weights that learn, with slots, schedule and rate anew in each stage', async () => {
    const { rows, outcome, learner, told, metrics } = await run()
    expect(outcome).toEqual({ step: steps, stopped: false })
    byHand().forEach(([a, b], i) => {
      expect(rows[i]![0]).toBeCloseTo(a, 6)
      expect(rows[i]![1]).toBeCloseTo(b, 6)
    })
    // The gradients of weights that stay are not computed, not merely left out.
    expect(learner.asked).toEqual({ a: 9, b: 6 })
    const names = stages.flatMap(({ name, epochs }) => Array.from({ length: epochs * perEpoch }, () => name))
    expect(told).toEqual(names)
    expect(learner.heard).toEqual(names)
    expect(metrics.filter(({ name }) => name === 'stage').map(({ step, value }) => [step, value])).toEqual([
      [0, 1],
      [6, 2],
      [9, 3],
    ])
  })

  it.each([1, 4, 6, 7, 9, 11])('goes on after step %i as if it had never stopped', async (stopAfter) => {
    const straight = await run()
    const first = await run({ stopAfter })
    const second = await run({ start: first.saved.at(-1)!.checkpoint })
    expect([...first.metrics, ...second.metrics]).toEqual(straight.metrics)
    expect(second.saved.at(-1)).toEqual(straight.saved.at(-1))
  })

  it('passes over stages of no epochs', async () => {
    const course = [{ name: 'none', epochs: 0 }, ...stages]
    const { rows, metrics } = await run({ course })
    expect(rows).toEqual((await run()).rows)
    expect(metrics.find(({ name }) => name === 'stage')).toEqual({ step: 0, name: 'stage', value: 1 })
  })

  it('refuses a stage in which nothing learns', async () => {
    await expect(run({ course: [{ name: 'idle', epochs: 1, learns: /^c$/ }] })).rejects.toThrow(
      /in stage 'idle' no weight learns/,
    )
  })
})

describe('what a survey finds', () => {
  const survey = (epoch: number): Survey => ({
    metrics: { clusters: 10 + epoch },
    artifacts: [{ name: `clusters-${epoch}.json`, type: 'application/json', bytes: new Uint8Array([epoch]) }],
  })

  it('is told with the step at which its epoch begins, and kept', async () => {
    const { metrics, kept } = await run({ learner: makePair(survey) })
    expect(metrics.filter(({ name }) => name === 'clusters').map(({ step, value }) => [step, value])).toEqual([
      [0, 10],
      [3, 11],
      [6, 12],
      [9, 13],
    ])
    expect(kept).toEqual([0, 1, 2, 3].map((epoch) => `clusters-${epoch}.json`))
  })

  it('makes the optimiser forget the weights that were drawn anew', async () => {
    const learner = makePair(() => ({ reset: ['a'] }))
    const { rows } = await run({ learner, course: [{ name: 'all', epochs: 2 }] })
    const [before, after] = rows.slice(perEpoch - 1)
    // Half the rate in the second epoch; without momentum a goes less far than b, which started alike.
    expect(after![0]).toBeCloseTo(before![0] + (1 - before![0]) / 16, 6)
    expect(before![0]).toBe(before![1])
    expect(after![1]).toBeGreaterThan(after![0] + 0.01)
  })

  it('ends the training as Diverged where it is no number', async () => {
    const lost = makePair((epoch) => ({ metrics: { inertia: epoch === 1 ? Number.NaN : 1 } }))
    const error = await run({ learner: lost }).catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(Diverged)
    expect((error as Diverged).message).toBe("the survey before epoch 1 finds NaN as 'inertia'")
  })
})

describe('a fitted method', () => {
  const fitting = (value: number) => {
    const learner = makePair(() => {
      tf.tidy(() => learner.weights.a!.assign(tf.tensor1d([value])))
      return { metrics: { explained: 0.5 } }
    })
    return learner
  }

  it('is surveyed once, takes no step, and leaves one final checkpoint, which is found again', async () => {
    const { outcome, metrics, saved, rows } = await run({ course: [], learner: fitting(3) })
    expect(outcome).toEqual({ step: 0, stopped: false })
    expect(metrics).toEqual([{ step: 0, name: 'explained', value: 0.5 }])
    expect(rows).toEqual([])
    expect(saved.map(({ checkpoint, final }) => [checkpoint.step, final])).toEqual([[0, true]])
    expect([...(saved[0]!.checkpoint.tensors['weights/a']!.data as Float32Array)]).toEqual([3])
    const again = await run({ course: [], learner: fitting(4), start: saved[0]!.checkpoint })
    expect(again).toMatchObject({ outcome: { step: 0, stopped: false }, metrics: [], saved: [] })
  })

  it('leaves no checkpoint where what it found is no number', async () => {
    const error = await run({ course: [], learner: fitting(Number.NaN) }).catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(Diverged)
    expect((error as Diverged).message).toBe("'weights/a' holds values that are no numbers")
  })
})

it('features that are no numbers end what looks at them, with the image', async () => {
  const learner = makePair()
  const broken: Pick<Learner, 'encode'> = {
    encode: (images) => tf.tidy(() => ({ pixels: tf.div(images, tf.zerosLike(images)) })),
  }
  const look = async (encoder: Pick<Learner, 'encode'>) => {
    for await (const _ of encodeRows(encoder, corpus.test, ['pixels']));
  }
  await look(learner)
  await expect(look(broken)).rejects.toThrow(/test image 0 at 'pixels' is no number/)
  learner.dispose()
})
