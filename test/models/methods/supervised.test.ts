import { readFileSync } from 'node:fs'
import { beforeAll, describe, expect, it } from 'vitest'
import type { Corpus } from '../../../src/data/dataset.ts'
import { toUnit } from '../../../src/data/pixels.ts'
import { chooseEngine } from '../../../src/engine/choose.ts'
import type { InvalidDefinition } from '../../../src/errors.ts'
import { parseDefinition } from '../../../src/experiments/definition.ts'
import { createMemoryContext, memoryBytes } from '../../../src/experiments/memory-context.ts'
import { perform } from '../../../src/experiments/perform.ts'
import { planExperiment } from '../../../src/experiments/plan.ts'
import { rollDice } from '../../../src/models/dice.ts'
import { supervised } from '../../../src/models/methods/supervised.ts'
import { tf } from '../../../src/tf.ts'
import { buildTiny, tinyCorpus } from '../tiny.ts'

let corpus: Corpus

beforeAll(async () => {
  await chooseEngine('auto')
  corpus = await tinyCorpus()
})

/** The loss and the gradients of one batch whose labels are given. */
async function differentiate(labels: number[], given: Record<string, unknown> = {}) {
  const { learner } = buildTiny(supervised, given, corpus)
  const indices = Int32Array.from(labels, (_, i) => i)
  const pixels = await corpus.train.read(indices)
  return tf.tidy(() => {
    const views = [tf.tensor4d(toUnit(pixels.data), [labels.length, ...pixels.shape])]
    const { value, grads } = tf.variableGrads(
      () => learner.objective({ views, labels: Int32Array.from(labels), indices }, rollDice(1)).loss,
      Object.values(learner.weights),
    )
    const bias = grads[learner.weights['head/bias']!.name]!.dataSync()
    learner.dispose()
    return { loss: value.dataSync()[0]!, bias: [...bias] }
  })
}

const definition = {
  version: 1,
  name: 'supervised',
  dataset: { name: 'shapes', images: 96, testImages: 40, classes: 6, height: 12, width: 12, clutter: 0, noise: 0 },
  net: { name: 'small', widths: [8, 16] },
  method: { name: 'supervised', biases: 'double', head: 'small' },
  views: [{}],
  training: { epochs: 10, batchSize: 16, optimizer: { name: 'sgd', learningRate: 0.05 }, averaging: 0.5 },
  evaluations: [{ name: 'classification' }],
}

describe('the supervised method', () => {
  it('leaves images without a label out of the loss, but not out of the statistics of the batch', async () => {
    const none = await differentiate([-1, -1, -1, -1])
    expect(none).toEqual({ loss: 0, bias: [0, 0, 0, 0] })
    const [one, all] = [await differentiate([1, -1, -1, -1]), await differentiate([1, 1, 1, 1])]
    // The bias of the own class alone is pulled up; with one labelled image by that image alone.
    expect(one.bias.map(Math.sign)).toEqual([1, -1, 1, 1])
    expect(one.bias.reduce((sum, value) => sum + value, 0)).toBeCloseTo(0, 6)
    expect(one.loss).not.toBeCloseTo(all.loss, 4)
  })

  it('draws its classifier as asked and lets biases learn at twice the rate without decay', () => {
    const deviation = (values: ArrayLike<number>) =>
      Math.sqrt(Array.from(values).reduce((sum, x) => sum + x * x, 0) / values.length)
    const { learner } = buildTiny(supervised, { head: 'small', biases: 'double' }, corpus)
    expect(deviation(learner.weights['head/weights']!.dataSync())).toBeCloseTo(0.01, 2)
    expect(learner.groups).toEqual([{ weights: /\/bias$/, learningRate: 2, weightDecay: 0 }])
    const plain = buildTiny(supervised, {}, corpus).learner
    const inputs = plain.taps[plain.embedding]!.reduce((a, b) => a * b, 1)
    expect(deviation(plain.weights['head/weights']!.dataSync())).toBeCloseTo(1 / Math.sqrt(inputs), 1)
    expect(plain.groups).toBeUndefined()
    learner.dispose()
    plain.dispose()
  })

  it('learns drawn shapes, and is measured by its own classifier', async () => {
    const context = createMemoryContext(memoryBytes())
    expect(await perform(parseDefinition(definition), context)).toBe('succeeded')
    const { scores, tables } = context.recorded.findings[0]!.findings
    expect(scores.trainAccuracy).toBeGreaterThan(0.9)
    expect(scores.error).toBeCloseTo(1 - scores.accuracy!, 12)
    expect(scores.top5).toBeGreaterThanOrEqual(scores.accuracy!)
    expect(scores.trainTop5).toBe(1)
    const counts = tables![0]!.rows.flatMap((row) => row.slice(1).map(Number))
    expect(counts.reduce((sum, count) => sum + count, 0)).toBe(40)
    const diagonal = tables![0]!.rows.reduce((sum, row, c) => sum + Number(row[c + 1]), 0)
    expect(diagonal / 40).toBeCloseTo(scores.accuracy!, 12)
    const last = context.recorded.metrics.findLast(({ values }) => 'accuracy' in values)!.values
    expect(Object.keys(last)).toEqual(['loss', 'learningRate', 'gradientNorm', 'accuracy', 'top5'])
  })

  it('is refused where there are no labels, and its evaluation where there is no classifier', async () => {
    const faultsOf = async (changes: object) => {
      const planned = planExperiment(parseDefinition({ ...definition, ...changes }), memoryBytes())
      return ((await planned.catch((thrown: unknown) => thrown)) as InvalidDefinition).faults
    }
    expect(
      await faultsOf({
        dataset: { name: 'declared', of: 'frames', images: 100, testImages: 20, height: 12, width: 12 },
      }),
    ).toEqual([
      { pointer: '/method/name', detail: "'supervised' needs labels, and dataset 'declared' has none" },
      { pointer: '/evaluations/0/name', detail: "'classification' needs labels, and dataset 'declared' has none" },
    ])
    expect(await faultsOf({ method: { name: 'npid' } })).toEqual([
      { pointer: '/evaluations/0/name', detail: "'classification' needs classifier, and net and method offer none" },
    ])
  })

  it('has the published weights of VGG-16 and its steps, in the recipe of the paper', async () => {
    const recipe = readFileSync(new URL('../../../recipes/supervised-paper.json', import.meta.url), 'utf8')
    const plan = await planExperiment(parseDefinition(JSON.parse(recipe)), memoryBytes())
    expect(plan.weights).toBe(138_357_544)
    // 'After 370K iterations (74 epochs)', with batches of 256.
    expect(Math.round(plan.steps / 1000)).toBe(370)
  })
})
