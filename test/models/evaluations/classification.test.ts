import { beforeAll, describe, expect, it } from 'vitest'
import type { Dataset } from '../../../src/data/dataset.ts'
import { chooseEngine } from '../../../src/engine/choose.ts'
import { rollDice } from '../../../src/models/dice.ts'
import { classification } from '../../../src/models/evaluations/classification.ts'
import type { Learner } from '../../../src/models/method.ts'
import { type Tensor4D, tf } from '../../../src/tf.ts'

beforeAll(async () => {
  await chooseEngine('auto')
})

/** Images of one row whose bytes are their logits, and their labels. */
function makeSplit(split: 'train' | 'test', rows: number[][], labels: number[], classes: number): Dataset {
  const imageShape = [1, classes, 1] as const
  return {
    name: 'rows',
    split,
    size: rows.length,
    imageShape,
    classes,
    read: async (indices) => ({
      data: Uint8Array.from(Array.from(indices).flatMap((i) => rows[i]!)),
      shape: imageShape,
      labels: Int32Array.from(indices, (i) => labels[i]!),
    }),
  }
}

const learner = (classes: number): Learner => ({
  weights: {},
  memory: {},
  taps: { logits: [classes] },
  embedding: 'logits',
  objective: () => ({ loss: tf.scalar(0) }),
  encode: (images: Tensor4D) => ({ logits: tf.reshape(images, [images.shape[0], classes]) }),
  dispose: () => {},
})

function measure(classes: number, test: [number[][], number[]], train: [number[][], number[]]) {
  const own = learner(classes)
  const corpus = { train: makeSplit('train', ...train, classes), test: makeSplit('test', ...test, classes) }
  const watch = { onProgress: () => {}, stop: new AbortController().signal }
  return classification.measure({ learner: own, untrained: () => own, corpus }, {}, rollDice(1), watch)
}

/** Logits that put classes in this order. */
const ranked = (classes: number, ...order: number[]) =>
  Array.from({ length: classes }, (_, c) => (order.includes(c) ? 200 - order.indexOf(c) : 0))

describe('the evaluation of a classifier', () => {
  it('counts hits, hits among five and confusions of both splits, and no image without a label', async () => {
    const rows = [ranked(7, 3, 1), ranked(7, 3, 1), ranked(7, 6, 5, 4, 3, 2, 1), ranked(7, 0), ranked(7, 2)]
    const { scores, tables } = await measure(7, [rows, [3, 1, 1, -1, 2]], [rows.slice(0, 1), [3]])
    expect(scores).toEqual({
      accuracy: 0.5,
      error: 0.5,
      top5: 0.75,
      top5Error: 0.25,
      trainAccuracy: 1,
      trainError: 0,
      trainTop5: 1,
      trainTop5Error: 0,
    })
    const [confusion] = tables!
    expect(confusion!.columns.slice(0, 3)).toEqual(['class', 'taken for 0', 'taken for 1'])
    expect(confusion!.rows[1]).toEqual(['1', 0, 0, 0, 1, 0, 0, 1])
    expect(confusion!.rows[0]).toEqual(['0', 0, 0, 0, 0, 0, 0, 0])
  })

  it('gives the lower of two equal classes, so that a net without an opinion has no luck', async () => {
    const flat = [ranked(4), ranked(4)]
    const { scores } = await measure(4, [flat, [0, 3]], [flat, [-1, -1]])
    expect(scores).toEqual({ accuracy: 0.5, error: 0.5 })
  })

  it('lists the commonest mistakes where there are many classes', async () => {
    const rows = [ranked(120, 7), ranked(120, 7), ranked(120, 5), ranked(120, 5)]
    const { tables } = await measure(120, [rows, [9, 9, 5, 8]], [rows.slice(0, 1), [7]])
    expect(tables![0]).toEqual({
      name: 'commonest mistakes',
      columns: ['class', 'taken for', 'times'],
      rows: [
        ['9', '7', 2],
        ['8', '5', 1],
      ],
    })
  })
})
