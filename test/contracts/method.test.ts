import { beforeAll, describe, expect, it } from 'vitest'
import type { Corpus } from '../../src/data/dataset.ts'
import { toUnit } from '../../src/data/pixels.ts'
import { chooseEngine } from '../../src/engine/choose.ts'
import type { Checkpoint } from '../../src/models/checkpoint.ts'
import { methods } from '../../src/models/methods/index.ts'
import { train } from '../../src/models/training/train.ts'
import { type TrainingDefinition, trainingSchema } from '../../src/models/training/training.ts'
import { type Tensor4D, tf } from '../../src/tf.ts'
import { buildTiny, defaultsOf, tinyCorpus } from '../models/tiny.ts'

let corpus: Corpus

beforeAll(async () => {
  await chooseEngine('auto')
  corpus = await tinyCorpus()
})

const training = defaultsOf(trainingSchema, {
  epochs: 6,
  batchSize: 16,
  checkpointEverySteps: 7,
  optimizer: { name: 'sgd', learningRate: 0.02 },
}) as unknown as TrainingDefinition

async function run(method: unknown, { start, stopAfter }: { start?: Checkpoint; stopAfter?: number } = {}) {
  const { learner, method: unit, parameters } = buildTiny(method, {}, corpus)
  const controller = new AbortController()
  const losses: number[] = []
  const tensors: number[] = []
  const saved: Checkpoint[] = []
  await train({
    learner,
    views: unit.views(parameters),
    dataset: corpus.train,
    training,
    seed: 5,
    start,
    window: {
      report: (_, { loss }) => {
        if (loss !== undefined) losses.push(loss)
      },
      progress: () => {},
      save: (checkpoint) => void saved.push(checkpoint),
      stop: controller.signal,
      onStep(step) {
        tensors.push(tf.memory().numTensors)
        if (step === stopAfter) controller.abort()
      },
    },
  })
  learner.dispose()
  return { losses, tensors, last: saved.at(-1)! }
}

async function images(count: number): Promise<Tensor4D> {
  const pixels = await corpus.train.read(Int32Array.from({ length: count }, (_, i) => i))
  return tf.tensor4d(toUnit(pixels.data), [count, ...pixels.shape])
}

describe.each(Object.entries(methods))('the method %s', (_, method) => {
  it('accepts its own defaults', () => {
    const { learner, method: unit, parameters } = buildTiny(method, {}, corpus)
    expect(unit.check?.(parameters, { size: corpus.train.size, classes: 4, batchSize: 16 }) ?? []).toEqual([])
    expect(unit.views(parameters).length).toBeGreaterThan(0)
    expect(Object.keys(learner.taps)).toContain(learner.embedding)
    learner.dispose()
  })

  it('encodes n images as n rows of the promised shape, at any tap, and leaves itself as it is', async () => {
    const { learner } = buildTiny(method, {}, corpus)
    const taps = Object.keys(learner.taps)
    const memory = () =>
      Object.values(learner.memory).map((part) => ('length' in part ? part.slice() : part.dataSync()))
    const before = memory()
    for (const count of [1, 7]) {
      const batch = await images(count)
      const tensors = tf.memory().numTensors
      const rows = learner.encode(batch, taps)
      expect(Object.keys(rows).sort()).toEqual([...taps].sort())
      for (const tap of taps) expect(rows[tap]!.shape).toEqual([count, ...learner.taps[tap]!])
      tf.dispose(rows)
      expect(tf.memory().numTensors).toBe(tensors)
      batch.dispose()
    }
    expect(memory()).toEqual(before)
    learner.dispose()
  })

  it('encodes an image alike in any company', async () => {
    const { learner } = buildTiny(method, {}, corpus)
    const rows = async (count: number) => {
      const batch = await images(count)
      const values = tf.tidy(() => learner.encode(batch, [learner.embedding])[learner.embedding]!.dataSync())
      batch.dispose()
      return values
    }
    const [alone, among] = [await rows(1), await rows(9)]
    for (let i = 0; i < alone.length; i++) expect(among[i]).toBeCloseTo(alone[i]!, 5)
    learner.dispose()
  })

  it('lowers its objective, with the same numbers from the same seed', async () => {
    const [once, again] = [await run(method), await run(method)]
    const mean = (values: number[]) => values.reduce((a, b) => a + b) / values.length
    expect(mean(once.losses.slice(-3))).toBeLessThan(mean(once.losses.slice(0, 3)))
    expect(again.losses).toEqual(once.losses)
    expect(again.last).toEqual(once.last)
  })

  it('leaks no tensor over a step, and none when it is disposed of', async () => {
    const before = tf.memory().numTensors
    const { tensors } = await run(method)
    expect(new Set(tensors.slice(1)).size).toBe(1)
    expect(tf.memory().numTensors).toBe(before)
  })

  it('is saved, restored and continued with the next loss exactly', async () => {
    const straight = await run(method)
    const stopped = await run(method, { stopAfter: 7 })
    const resumed = await run(method, { start: stopped.last })
    expect([...stopped.losses, ...resumed.losses]).toEqual(straight.losses)
    expect(resumed.last).toEqual(straight.last)
  })
})
