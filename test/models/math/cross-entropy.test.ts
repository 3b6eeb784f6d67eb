import { beforeAll, describe, expect, it } from 'vitest'
import { chooseEngine } from '../../../src/engine/choose.ts'
import { crossEntropy, hitShares } from '../../../src/models/math/cross-entropy.ts'
import { type Tensor, type Tensor2D, tf } from '../../../src/tf.ts'

beforeAll(async () => {
  await chooseEngine('auto')
})

const logits = [
  [2, -1, 0.5],
  [0, 3, 1],
  [1, 1, -2],
  [100, -100, 0],
]

/** The same in a few lines, with its gradient. */
function reference(labels: readonly number[], smoothing: number): { loss: number; gradient: number[][] } {
  const count = Math.max(1, labels.filter((label) => label >= 0).length)
  let loss = 0
  const gradient = logits.map((row, i) => {
    if (labels[i]! < 0) return row.map(() => 0)
    const top = Math.max(...row)
    const normaliser = top + Math.log(row.reduce((sum, x) => sum + Math.exp(x - top), 0))
    return row.map((x, c) => {
      const target = smoothing / 3 + (c === labels[i] ? 1 - smoothing : 0)
      loss -= (target * (x - normaliser)) / count
      return (Math.exp(x - normaliser) - target) / count
    })
  })
  return { loss, gradient }
}

function measure(labels: readonly number[], smoothing: number) {
  return tf.tidy(() => {
    const x = tf.tensor2d(logits)
    const { value, grad } = tf.valueAndGrad((given: Tensor) =>
      crossEntropy(given as Tensor2D, Int32Array.from(labels), smoothing),
    )(x)
    return { loss: value.dataSync()[0]!, gradient: grad.arraySync() as number[][] }
  })
}

describe('softmax cross-entropy', () => {
  it.each([
    [[0, 1, 2, 0], 0],
    [[0, 2, 1, 2], 0],
    [[0, 1, 2, 1], 0.1],
    [[-1, 1, -1, 0], 0],
    [[2, -1, -1, -1], 0.3],
    [[-1, -1, -1, -1], 0.1],
  ])('is what a few lines find for the labels %j with smoothing %d, and so is its gradient', (labels, smoothing) => {
    const [found, expected] = [measure(labels, smoothing), reference(labels, smoothing)]
    expect(found.loss).toBeCloseTo(expected.loss, 4)
    found.gradient.flat().forEach((value, i) => {
      expect(value).toBeCloseTo(expected.gradient.flat()[i]!, 6)
    })
  })

  it('counts the hits among the k highest of the labelled images', () => {
    const shares = (labels: readonly number[], ks: readonly number[]) =>
      tf.tidy(() => hitShares(tf.tensor2d(logits), Int32Array.from(labels), ks).map((share) => share.dataSync()[0]))
    expect(shares([0, 1, 2, 1], [1, 2, 3])).toEqual([0.5, 0.5, 1])
    expect(shares([-1, 2, 1, -1], [1, 2])).toEqual([0, 1])
    // A net that tells none apart hits what the first class has.
    const flat = tf.tidy(() => hitShares(tf.zeros([3, 3]), Int32Array.from([0, 1, 2]), [1])[0]!.dataSync()[0])
    expect(flat).toBeCloseTo(1 / 3, 6)
    expect(shares([-1, -1, -1, -1], [1])).toEqual([0])
  })
})
