import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Corpus, Dataset } from '../../../src/data/dataset.ts'
import type { OnnxEngine } from '../../../src/engine/onnx/index.ts'
import { Diverged } from '../../../src/errors.ts'
import type { Learner } from '../../../src/models/method.ts'
import { train } from '../../../src/models/training/train.ts'
import { type TrainingDefinition, trainingSchema } from '../../../src/models/training/training.ts'
import { type Scalar, tf } from '../../../src/tf.ts'
import { defaultsOf, tinyCorpus } from '../../models/tiny.ts'
import { engines, farAway } from './engines.ts'

let corpus: Corpus
/** What has happened in the training that is watched. */
let happened: string[] = []

const recorded = () => happened.filter((event) => event.startsWith('records')).length

/** Resolves when the next batch is recorded, or when none seems to come because the numbers are waited for. */
async function arrives(): Promise<void> {
  const before = recorded()
  for (const end = performance.now() + 300; recorded() === before && performance.now() < end; ) await sleep(1)
}

beforeAll(async () => {
  corpus = await tinyCorpus()
})

/** A learner that writes down when it is asked for what; the loss of one batch is no number, where one is named. */
function makeWitness(events: string[], broken?: number): Learner {
  const w = tf.tidy(() => tf.variable(tf.zeros([1])))
  const mean = tf.tidy(() => tf.variable(tf.zeros([]), false))
  let batches = 0
  return {
    weights: { w },
    memory: { mean },
    taps: { w: [1] },
    embedding: 'w',
    objective({ views }) {
      batches++
      events.push(`records ${batches}`)
      const loss = tf.mean(tf.square(tf.sub(w, tf.mean(views[0]!)))) as Scalar
      const pixel = tf.mean(views[0]!) as Scalar
      return { loss: tf.mul(loss, batches === broken ? Number.NaN : 1), metrics: { pixel }, keep: { pixel } }
    },
    absorb: (_, { pixel }) => tf.tidy(() => mean.assign(tf.add(tf.mul(mean, 0.5), tf.mul(pixel!, 0.5)))),
    async survey(_corpus, epoch) {
      events.push(`surveys before epoch ${epoch}`)
      return undefined
    },
    encode: () => ({}),
    dispose: () => tf.dispose([w, mean]),
  }
}

interface Options {
  given?: Record<string, unknown>
  broken?: number
  stopAfter?: number
  dataset?: Dataset
}

/** What happened in a training of 2 epochs of 3 steps, in order, and how it ended. */
async function watch({ given, broken, stopAfter, dataset = corpus.train }: Options = {}) {
  const before = tf.memory().numTensors
  const events: string[] = []
  happened = events
  const told: Record<string, number>[] = []
  const controller = new AbortController()
  const learner = makeWitness(events, broken)
  const training = defaultsOf(trainingSchema, { epochs: 2, batchSize: 16, checkpointEverySteps: 4, ...given })
  let error: unknown
  try {
    await train({
      learner,
      views: [{}],
      dataset,
      training: training as unknown as TrainingDefinition,
      seed: 1,
      start: undefined,
      window: {
        report(step, values) {
          events.push(`tells ${step}`)
          told.push(values)
        },
        progress: () => {},
        save: ({ step }) => void events.push(`saves ${step}`),
        stop: controller.signal,
        onStep: (step) => {
          if (step === stopAfter) controller.abort()
        },
      },
    })
  } catch (thrown) {
    error = thrown
  } finally {
    learner.dispose()
  }
  expect(tf.memory().numTensors).toBe(before)
  return { events, told, error }
}

const near = engines.map(([name, start]) => [name, start, false] as const)
const far = (options: { threads: number }) => farAway(options, arrives)

describe.each([...near, ['onnx far away', far, true] as const])('on %s', (_, start, isFar) => {
  let engine: OnnxEngine

  beforeAll(async () => {
    engine = await start({ threads: 1 })
  })

  afterAll(() => engine.dispose())

  /** What happens where numbers are there at once, and where they take longer than it takes to record the next batch. */
  const either = (near: string[], far: string[]) => (isFar ? far : near)

  it('a step is told once its numbers are there, at the latest before anything is saved or surveyed', async () => {
    const { events, told, error } = await watch()
    expect(error).toBeUndefined()
    const atOnce = [
      ...['surveys before epoch 0', 'records 1', 'tells 1', 'records 2', 'tells 2', 'records 3', 'tells 3'],
      ...['surveys before epoch 1', 'records 4', 'tells 4', 'saves 4', 'records 5', 'tells 5', 'records 6'],
      ...['tells 6', 'saves 6'],
    ]
    const behind = [
      ...['surveys before epoch 0', 'records 1', 'records 2', 'tells 1', 'records 3', 'tells 2', 'tells 3'],
      ...['surveys before epoch 1', 'records 4', 'tells 4', 'saves 4', 'records 5', 'records 6', 'tells 5'],
      ...['tells 6', 'saves 6'],
    ]
    expect(events).toEqual(either(atOnce, behind))
    for (const values of told) expect(Object.keys(values)).toEqual(['loss', 'learningRate', 'gradientNorm', 'pixel'])
    expect(new Set(told.map(({ pixel }) => pixel)).size).toBe(6)
  })

  it('a training that is stopped has told all its steps when it saves', async () => {
    const { events } = await watch({ stopAfter: 2 })
    const steps = either(
      ['records 1', 'tells 1', 'records 2', 'tells 2'],
      ['records 1', 'records 2', 'tells 1', 'tells 2'],
    )
    expect(events).toEqual(['surveys before epoch 0', ...steps, 'saves 2'])
  })

  it('a loss that is no number ends the training at its own step, whatever has been recorded since', async () => {
    const { events, told, error } = await watch({ broken: 2 })
    expect(error).toBeInstanceOf(Diverged)
    expect((error as Diverged).message).toBe('the loss of step 2 is NaN')
    const atOnce = ['records 1', 'tells 1', 'records 2', 'tells 2']
    expect(events.slice(-4)).toEqual(either(atOnce, ['records 2', 'tells 1', 'records 3', 'tells 2']))
    expect(told[1]!.loss).toBeNaN()
  })

  it('a loss that is no number is noticed before a checkpoint is saved', async () => {
    const { events, error } = await watch({ broken: 4 })
    expect((error as Diverged).message).toBe('the loss of step 4 is NaN')
    expect(events.slice(-2)).toEqual(['records 4', 'tells 4'])
  })

  it('a step of several batches ends with the first of them whose loss is no number', async () => {
    const { events, told, error } = await watch({ broken: 3, given: { batchSize: 8, accumulate: 2 } })
    expect((error as Diverged).message).toBe('the loss of step 2 is NaN')
    expect(events.slice(-4)).toEqual(
      either(['tells 1', 'records 3', 'records 4', 'tells 2'], ['records 3', 'tells 1', 'records 4', 'tells 2']),
    )
    expect(Object.keys(told[1]!)).toEqual(['loss', 'learningRate', 'pixel'])
  })

  it('images that cannot be read end a training that waits for numbers', async () => {
    let reads = 0
    const read: Dataset['read'] = async (indices) => {
      if (++reads === 3) throw new Error('the disk is gone')
      return corpus.train.read(indices)
    }
    const { events, error } = await watch({ dataset: { ...corpus.train, read } })
    expect((error as Error).message).toBe('the disk is gone')
    const steps = either(['records 1', 'tells 1', 'records 2', 'tells 2'], ['records 1', 'records 2', 'tells 1'])
    expect(events).toEqual(['surveys before epoch 0', ...steps])
  })
})
