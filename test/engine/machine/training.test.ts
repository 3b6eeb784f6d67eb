import { beforeAll, describe, expect, it } from 'vitest'
import type { Corpus } from '../../../src/data/dataset.ts'
import { startMachine, whyNotHere } from '../../../src/engine/machine/index.ts'
import { supervised } from '../../../src/models/methods/supervised.ts'
import { train } from '../../../src/models/training/train.ts'
import { type TrainingDefinition, trainingSchema } from '../../../src/models/training/training.ts'
import { tf } from '../../../src/tf.ts'
import { buildTiny, defaultsOf, tinyCorpus } from '../../models/tiny.ts'

let corpus: Corpus

beforeAll(async () => {
  corpus = await tinyCorpus()
})

/** The losses of 6 steps on the engine that computes now. */
async function losses(given: Record<string, unknown>): Promise<number[]> {
  const { learner } = buildTiny(supervised, { smoothing: 0.1, biases: 'double' }, corpus)
  const training = defaultsOf(trainingSchema, { epochs: 3, batchSize: 24, ...given }) as unknown as TrainingDefinition
  const told: number[] = []
  await train({
    learner,
    views: [{}],
    dataset: corpus.train,
    training,
    seed: 1,
    start: undefined,
    window: {
      report: (_, { loss }) => void (loss !== undefined && told.push(loss)),
      progress: () => {},
      save: () => {},
      stop: new AbortController().signal,
    },
  })
  learner.dispose()
  return told
}

describe.skipIf(whyNotHere())('training steps as machine code', () => {
  it.each<[string, Record<string, unknown>]>([
    ['sgd', { optimizer: { name: 'sgd', weightDecay: 0.01 }, clipNorm: 0.5, averaging: 0.9 }],
    ['lars', { optimizer: { name: 'lars', weightDecay: 0.01, trust: 0.1 } }],
    ['adam', { optimizer: { name: 'adam', weightDecay: 0.01 } }],
    ['adamw', { optimizer: { name: 'adamw' } }],
    ['two batches a step', { optimizer: { name: 'sgd' }, batchSize: 12, accumulate: 2 }],
  ])('leave nothing to another engine and find its losses: %s', async (_, given) => {
    await tf.setBackend('cpu')
    const wanted = await losses(given)
    const engine = await startMachine({ threads: 1 })
    try {
      const found = await losses(given)
      const { runs, programRuns, fallbacks } = engine.stats()
      expect([programRuns, engine.unwritten, fallbacks]).toEqual([runs, {}, {}])
      found.forEach((loss, i) => {
        expect(loss).toBeCloseTo(wanted[i]!, 3)
      })
      expect(found.length).toBe(6)
    } finally {
      engine.dispose()
    }
  })
})
