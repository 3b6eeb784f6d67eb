import { beforeAll, describe, expect, it } from 'vitest'
import type { Corpus } from '../../../src/data/dataset.ts'
import { chooseEngine } from '../../../src/engine/choose.ts'
import { Damaged, Diverged } from '../../../src/errors.ts'
import type { Checkpoint } from '../../../src/models/checkpoint.ts'
import { encodeAll } from '../../../src/models/encoding.ts'
import { npid } from '../../../src/models/methods/npid.ts'
import { train } from '../../../src/models/training/train.ts'
import { type TrainingDefinition, trainingSchema } from '../../../src/models/training/training.ts'
import { tf } from '../../../src/tf.ts'
import { buildTiny, defaultsOf, tinyCorpus } from '../tiny.ts'

let corpus: Corpus

beforeAll(async () => {
  await chooseEngine('auto')
  corpus = await tinyCorpus()
})

const method = { dimension: 6, negatives: 5, zMode: 'ema', bankStart: 'features', proximal: 0.5 }

const makeTraining = (given: Record<string, unknown> = {}) =>
  defaultsOf(trainingSchema, {
    epochs: 3,
    batchSize: 11,
    checkpointEverySteps: 5,
    optimizer: { name: 'sgd', learningRate: 0.05, weightDecay: 0.001 },
    schedule: { name: 'cosine', warmUpSteps: 3 },
    ...given,
  }) as unknown as TrainingDefinition

const perEpoch = 4
const steps = 12

interface Options {
  start?: Checkpoint
  stopAfter?: number
  training?: TrainingDefinition
  given?: Record<string, unknown>
}

/** One training, with all that it told the world. */
async function run({ start, stopAfter, training = makeTraining(), given = method }: Options = {}) {
  const { learner, method: unit, parameters } = buildTiny(npid, given, corpus)
  const controller = new AbortController()
  if (stopAfter === 0) controller.abort()
  const told = { metrics: [] as { step: number; name: string; value: number }[], progress: [] as unknown[] }
  const saved: { checkpoint: Checkpoint; final: boolean }[] = []
  try {
    const outcome = await train({
      learner,
      views: unit.views(parameters),
      dataset: corpus.train,
      training,
      seed: 8,
      start,
      window: {
        report(step, values) {
          for (const [name, value] of Object.entries(values))
            if (!['imagesPerSecond', 'waitShare'].includes(name)) told.metrics.push({ step, name, value })
        },
        progress: (progress) => void told.progress.push(progress),
        save: (checkpoint, { final }) => void saved.push({ checkpoint, final }),
        stop: controller.signal,
        onStep: (step) => {
          if (step === stopAfter) controller.abort()
        },
      },
    })
    const { [learner.embedding]: embedded } = await encodeAll(learner, corpus.test, [learner.embedding])
    return { outcome, ...told, saved, embedded }
  } finally {
    learner.dispose()
  }
}

describe('the training loop', () => {
  it('takes floor(images / batch) steps an epoch and saves every few steps and at the end', async () => {
    const { outcome, metrics, progress, saved } = await run()
    expect(outcome).toEqual({ step: steps, stopped: false })
    expect(saved.map(({ checkpoint, final }) => [checkpoint.step, final])).toEqual([
      [5, false],
      [10, false],
      [12, true],
    ])
    expect(metrics.filter(({ name }) => name === 'loss').map(({ step }) => step)).toEqual(
      Array.from({ length: steps }, (_, i) => i + 1),
    )
    expect(new Set(metrics.map(({ name }) => name))).toEqual(
      new Set(['loss', 'learningRate', 'gradientNorm', 'similarity', 'logZ']),
    )
    expect(progress.at(-1)).toMatchObject({ epoch: 3, epochs: 3, step: steps, steps })
    expect(saved[0]!.checkpoint.meta).toMatchObject({ epoch: '1', batch: '1', seed: '8' })
  })

  it.each([0, 1, perEpoch, 7, steps - 1])(
    'goes on from a stop after step %i as if it had never stopped, bit for bit',
    async (stopAfter) => {
      const straight = await run()
      const first = await run({ stopAfter })
      expect(first.outcome).toEqual({ step: stopAfter, stopped: true })
      const start = first.saved.at(-1)!.checkpoint
      expect(start.step).toBe(stopAfter)
      const second = await run({ start })
      expect(second.outcome).toEqual({ step: steps, stopped: false })
      expect([...first.metrics, ...second.metrics]).toEqual(straight.metrics)
      expect(second.saved.at(-1)).toEqual(straight.saved.at(-1))
    },
  )

  it.each([
    ['adam', { optimizer: { name: 'adam', learningRate: 0.01 }, averaging: 0.5, clipNorm: 0.1 }],
    ['adamw', { optimizer: { name: 'adamw' }, schedule: { name: 'decay' } }],
    ['lars', { optimizer: { name: 'lars', weightDecay: 0.001 }, batchSize: 5, accumulate: 2 }],
  ])('goes on in the middle of an epoch with %s as if it had never stopped', async (_, given) => {
    const training = makeTraining(given)
    const [straight, first] = [await run({ training }), await run({ training, stopAfter: 6 })]
    const second = await run({ training, start: first.saved.at(-1)!.checkpoint })
    expect([...first.metrics, ...second.metrics]).toEqual(straight.metrics)
    expect(second.saved.at(-1)).toEqual(straight.saved.at(-1))
    expect(second.embedded).toEqual(straight.embedded)
  })

  it('has nothing left to do for a checkpoint of the last step', async () => {
    const { saved } = await run()
    const again = await run({ start: saved.at(-1)!.checkpoint })
    expect(again.outcome).toEqual({ step: steps, stopped: false })
    expect(again.metrics).toEqual([])
    expect(again.saved).toEqual([])
  })

  it('leaves no tensor behind, stopped or not', async () => {
    const before = tf.memory().numTensors
    await run()
    await run({ stopAfter: 3 })
    await run({ stopAfter: 0 })
    expect(tf.memory().numTensors).toBe(before)
  })

  it('ends as Diverged where the loss is not a number, after it has told that loss', async () => {
    const before = tf.memory().numTensors
    const training = makeTraining({
      epochs: 30,
      optimizer: { name: 'sgd', learningRate: 1000, momentum: 0.99, weightDecay: 10 },
      schedule: { name: 'constant' },
    })
    await expect(run({ training, given: { ...method, proximal: 1e6 } })).rejects.toThrow(Diverged)
    expect(tf.memory().numTensors).toBe(before)
  })

  it('refuses a checkpoint of another shape and changes nothing', async () => {
    const { saved } = await run({ stopAfter: 1 })
    const { tensors, ...rest } = saved[0]!.checkpoint
    const { 'optimizer/head/bias': _, ...lacking } = tensors
    await expect(run({ start: { ...rest, tensors: lacking } })).rejects.toThrow(Damaged)
    await expect(run({ start: saved[0]!.checkpoint, given: { ...method, dimension: 7 } })).rejects.toThrow(Damaged)
  })
})
