import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { Corpus, Dataset } from '../../src/data/dataset.ts'
import { chooseEngine } from '../../src/engine/choose.ts'
import { rollDice } from '../../src/models/dice.ts'
import { encodeAll } from '../../src/models/encoding.ts'
import { preparationBytes, prepareFeatures } from '../../src/models/features.ts'
import { principalComponents, project } from '../../src/models/math/pca.ts'
import { npid } from '../../src/models/methods/npid.ts'
import { tf } from '../../src/tf.ts'
import { buildTiny, tinyCorpus } from './tiny.ts'

let corpus: Corpus
let tensors: number

beforeAll(async () => {
  await chooseEngine('auto')
  corpus = await tinyCorpus(60)
  tensors = tf.memory().numTensors
})

afterEach(() => {
  expect(tf.memory().numTensors).toBe(tensors)
})

const tap = 'norm2'

async function withLearner<T>(work: (learner: ReturnType<typeof buildTiny>['learner']) => Promise<T>): Promise<T> {
  const { learner } = buildTiny(npid, { dimension: 8 }, corpus)
  try {
    return await work(learner)
  } finally {
    learner.dispose()
  }
}

const same: Dataset['read'] = async (indices) => ({
  data: new Uint8Array(indices.length * 144).fill(90),
  shape: [12, 12, 1],
  labels: new Int32Array(indices.length),
})

describe('features prepared for clustering', () => {
  it('are the leading components of the clean features, whitened, each row of length 1, with the labels', async () => {
    await withLearner(async (learner) => {
      const wanted = { components: 5, whiten: true }
      const { rows, labels } = await prepareFeatures(learner, corpus.train, tap, wanted, rollDice(1))
      const data = (await encodeAll(learner, corpus.train, [tap]))[tap]!
      const raw = { data, width: data.length / 60 }
      const components = await principalComponents(raw, 5, rollDice(1).for('components'))
      const expected = await project(raw, components, { whiten: true, unitRows: true })
      expect(rows).toEqual(expected)
      for (let i = 0; i < 60; i++) expect(Math.hypot(...rows.data.subarray(5 * i, 5 * i + 5))).toBeCloseTo(1, 5)
      const all = await corpus.train.read(Int32Array.from({ length: 60 }, (_, i) => i))
      expect(labels).toEqual(all.labels)
    })
  })

  it('keeps all components where there are fewer than wanted, and no labels where there are none', async () => {
    await withLearner(async (learner) => {
      const unlabelled = { ...corpus.train, classes: 0 }
      const wanted = { components: 1000, whiten: false }
      const { rows, labels } = await prepareFeatures(learner, unlabelled, tap, wanted, rollDice(1))
      expect(rows.width).toBe(3 * 3 * 6)
      expect(labels).toBeUndefined()
    })
  })

  it('come out alike in blocks, with components of a part of the images, where memory is short', async () => {
    await withLearner(async (learner) => {
      const wanted = { components: 4, whiten: true }
      const prepare = (limit?: number) =>
        prepareFeatures(learner, corpus.train, tap, wanted, rollDice(1), {}, limit as number)
      const [whole, blocks] = [await prepare(), await prepare(54 * 50)]
      expect(blocks.rows.data).toHaveLength(60 * 4)
      expect(blocks.labels).toEqual(whole.labels)
      // The same neighbours: cosines of pairs differ little, whatever the signs of the components are.
      const cosine = ({ data }: { data: Float32Array }, a: number, b: number) =>
        [0, 1, 2, 3].reduce((sum, c) => sum + data[4 * a + c]! * data[4 * b + c]!, 0)
      let difference = 0
      for (let i = 1; i < 60; i++) difference += Math.abs(cosine(whole.rows, 0, i) - cosine(blocks.rows, 0, i)) / 59
      expect(difference).toBeLessThan(0.25)
    })
  })

  it('do not exist where all images look the same to the net, which is said', async () => {
    await withLearner(async (learner) => {
      // More than one block, so that rounding may differ between images.
      const dataset = { ...corpus.train, size: 300, read: same }
      await expect(
        prepareFeatures(learner, dataset, tap, { components: 5, whiten: true }, rollDice(1)),
      ).rejects.toThrow('all 300 images have the same features')
    })
  })

  it('stop when they are told to, and tell how far they are', async () => {
    await withLearner(async (learner) => {
      const shares: number[] = []
      const onProgress = (share: number) => void shares.push(share)
      await prepareFeatures(learner, corpus.train, tap, { components: 2, whiten: false }, rollDice(1), { onProgress })
      expect(shares.at(-1)).toBe(1)
      const stop = AbortSignal.abort(new Error('enough'))
      const stopped = prepareFeatures(learner, corpus.train, tap, { components: 2, whiten: false }, rollDice(1), {
        stop,
      })
      await expect(stopped).rejects.toThrow('enough')
    })
  })

  it('take a known memory, bounded for any number of images but for their own rows', () => {
    const wanted = { components: 10, whiten: true }
    expect(preparationBytes(100, 50, wanted)).toBe(4 * (100 * 50 + 2 * 100 * 10 + 50 * 50))
    const [million, two] = [preparationBytes(1e6, 4096, wanted), preparationBytes(2e6, 4096, wanted)]
    expect(two - million).toBe(4 * 2 * 1e6 * 10)
    expect(million).toBeLessThan(1.3 * 2 ** 30)
  })
})
