import { beforeAll, describe, expect, it } from 'vitest'
import type { Corpus } from '../../../src/data/dataset.ts'
import { toUnit } from '../../../src/data/pixels.ts'
import { chooseEngine } from '../../../src/engine/choose.ts'
import { rollDice } from '../../../src/models/dice.ts'
import { encodeAll } from '../../../src/models/encoding.ts'
import type { Batch, Learner } from '../../../src/models/method.ts'
import { npid } from '../../../src/models/methods/npid.ts'
import { optimizers } from '../../../src/models/training/optimizer.ts'
import { tf, type Variable } from '../../../src/tf.ts'
import { buildTiny, tinyCorpus } from '../tiny.ts'

let corpus: Corpus

beforeAll(async () => {
  await chooseEngine('auto')
  corpus = await tinyCorpus()
})

async function makeBatch(indices: number[]): Promise<Batch> {
  const pixels = await corpus.train.read(indices)
  const views = [tf.tensor4d(toUnit(pixels.data), [indices.length, ...pixels.shape])]
  return { views, indices: Int32Array.from(indices) }
}

const valuesOf = (learner: Learner, name: string) => (learner.memory[name] as Variable).dataSync() as Float32Array

/** Losses of some steps on one batch. */
async function descend(learner: Learner, steps: number): Promise<number[]> {
  const batch = await makeBatch([0, 5, 9, 14, 23, 31, 40, 47])
  const stepper = optimizers.sgd.create({ learningRate: 0.05, momentum: 0.5, weightDecay: 0 }, learner)
  const losses: number[] = []
  await learner.begin?.()
  for (let step = 0; step < steps; step++)
    tf.tidy(() => {
      let kept = {}
      const { value, grads } = tf.variableGrads(() => {
        const found = learner.objective(batch, rollDice(step))
        kept = found.keep ?? {}
        for (const tensor of Object.values(found.keep ?? {})) tf.keep(tensor)
        return found.loss
      }, Object.values(learner.weights))
      losses.push(value.dataSync()[0]!)
      const named = Object.entries(learner.weights).map(([name, weight]) => [name, grads[weight.name]!])
      stepper.apply(Object.fromEntries(named), 0.05)
      learner.absorb?.(batch, kept)
      tf.dispose(kept)
    })
  stepper.dispose()
  tf.dispose(batch.views)
  return losses
}

const variants = [
  { negatives: 'all' },
  { negatives: 'all', proximal: 2 },
  { head: 'parametric' },
  { negatives: 7, loss: 'nce', zMode: 'first' },
  { negatives: 7, loss: 'nce', zMode: 'ema' },
  { negatives: 7, loss: 'nce', zMode: 'every', negativesFor: 'batch' },
  { negatives: 7, loss: 'infonce', negativesFor: 'image' },
  { negatives: 7, loss: 'infonce', negativesFor: 'batch' },
]

describe('non-parametric instance discrimination', () => {
  it.each(variants)('lowers its loss and remembers what it needs: %j', async (given) => {
    const before = tf.memory().numTensors
    const { learner } = buildTiny(npid, { dimension: 8, temperature: 0.2, ...given }, corpus)
    const losses = await descend(learner, 12)
    const mean = (values: number[]) => values.reduce((a, b) => a + b) / values.length
    expect(mean(losses.slice(-3))).toBeLessThan(mean(losses.slice(0, 3)))
    expect('bank' in learner.memory).toBe(given.head !== 'parametric')
    const planned = npid.plan({ dimension: 8, head: 'non-parametric', ...given } as never, {
      net: { ...netPlan(), taps: { flat: [54] }, layers: [], tensors: {}, top: 'flat' },
      size: corpus.train.size,
      classes: 4,
    })
    expect(planned.weights).toBe(Object.values(learner.weights).reduce((sum, { size }) => sum + size, 0))
    const remembered = Object.values(learner.memory).map((part) => ('length' in part ? part.length : part.size))
    expect(planned.memoryBytes).toBe(4 * remembered.reduce((a, b) => a + b, 0))
    learner.dispose()
    expect(tf.memory().numTensors).toBe(before)
  })

  it('freezes Z after the first batch, or moves it, as asked', async () => {
    const logZ = async (zMode: string, steps: number) => {
      const { learner } = buildTiny(npid, { dimension: 8, negatives: 9, zMode }, corpus)
      await descend(learner, steps)
      const [known, value] = valuesOf(learner, 'logZ')
      learner.dispose()
      expect(known).toBe(1)
      return value!
    }
    const first = await logZ('first', 1)
    expect(await logZ('first', 5)).toBe(first)
    expect(await logZ('every', 1)).toBe(first)
    expect(await logZ('every', 5)).not.toBe(first)
    const [moved, jumped] = [await logZ('ema', 5), await logZ('every', 5)]
    expect(moved).not.toBe(first)
    expect(Math.abs(moved - first)).toBeLessThan(Math.abs(jumped - first))
  })

  it('updates the slots of the batch with the features before the step', async () => {
    const { learner } = buildTiny(npid, { dimension: 8, bankMomentum: 0 }, corpus)
    const before = valuesOf(learner, 'bank').slice()
    const batch = await makeBatch([3, 8])
    const features = tf.tidy(() => {
      const { keep } = learner.objective(batch, rollDice(1))
      learner.absorb!(batch, keep!)
      return keep!.features!.dataSync()
    })
    const bank = valuesOf(learner, 'bank')
    for (let c = 0; c < 8; c++) {
      expect(bank[3 * 8 + c]).toBeCloseTo(features[c]!, 5)
      expect(bank[8 * 8 + c]).toBeCloseTo(features[8 + c]!, 5)
    }
    for (let i = 0; i < before.length; i++) if (![3, 8].includes(Math.floor(i / 8))) expect(bank[i]).toBe(before[i])
    tf.dispose(batch.views)
    learner.dispose()
  })

  it('fills the bank with the clean features of the first net, before the first epoch only', async () => {
    const { learner } = buildTiny(npid, { dimension: 8, bankStart: 'features' }, corpus)
    await learner.survey!(corpus.train, 0, rollDice(1), {})
    const { embed } = await encodeAll(learner, corpus.train, ['embed'])
    expect(valuesOf(learner, 'bank')).toEqual(embed)
    await descend(learner, 1)
    const after = valuesOf(learner, 'bank').slice()
    expect(after).not.toEqual(embed)
    await learner.survey!(corpus.train, 1, rollDice(1), {})
    expect(valuesOf(learner, 'bank')).toEqual(after)
    learner.dispose()
  })

  it('leaves everything as it was when it is stopped while it fills the bank', async () => {
    const { learner } = buildTiny(npid, { dimension: 8, bankStart: 'features' }, corpus)
    const state = () => Object.values(learner.memory).map((part) => ('length' in part ? part.slice() : part.dataSync()))
    const before = state()
    const controller = new AbortController()
    const survey = learner.survey!(corpus.train, 0, rollDice(1), { stop: controller.signal })
    controller.abort(new Error('enough'))
    await expect(survey).rejects.toThrow('enough')
    expect(state()).toEqual(before)
    learner.dispose()
  })

  it('has embeddings of length 1', async () => {
    const { learner } = buildTiny(npid, { dimension: 8 }, corpus)
    const { embed } = await encodeAll(learner, corpus.test, ['embed'])
    for (let i = 0; i < corpus.test.size; i++)
      expect(Math.hypot(...embed!.subarray(i * 8, (i + 1) * 8))).toBeCloseTo(1, 5)
    learner.dispose()
  })

  it('says what a parametric head cannot have', () => {
    const world = { size: 10, classes: 2, batchSize: 2 }
    const faults = (given: object) =>
      npid.check!({ head: 'parametric', dimension: 8, negatives: 'all', proximal: 0, ...given } as never, world)
    expect(faults({})).toEqual([])
    expect(faults({ negatives: 5, proximal: 1 }).map(({ pointer }) => pointer)).toEqual(['/negatives', '/proximal'])
    expect(faults({ head: 'non-parametric', negatives: 5, proximal: 1 })).toEqual([])
  })

  it.each(['parametric', 'non-parametric'])('says that rows for too many images fit into no engine: %s', (head) => {
    const faults = (size: number) =>
      npid.check!({ head, dimension: 256, negatives: 'all', proximal: 0 } as never, { size, classes: 2, batchSize: 2 })
    expect(faults(2 ** 21 - 1)).toEqual([])
    const detail =
      '2500000 rows of 256 numbers take 2.38 GiB, and an engine takes up to 2.00 GiB in one piece; ' +
      '214 numbers for each would fit, or at most 2097151 training images of 256 numbers'
    expect(faults(2_500_000)).toEqual([{ pointer: '/dimension', detail }])
  })
})

function netPlan() {
  const [a, c] = [4, 6]
  return {
    weights: 9 * a + 9 * a * c + 2 * (a + c),
    memoryBytes: 4 * 2 * (a + c),
    multiplyAdds: 0,
    abilities: [],
  }
}
