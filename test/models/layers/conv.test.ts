import { beforeAll, describe, expect, it } from 'vitest'
import { chooseEngine } from '../../../src/engine/choose.ts'
import { cellsLeft, convolve, pool } from '../../../src/models/layers/conv.ts'
import { type Tensor4D, tf } from '../../../src/tf.ts'

beforeAll(async () => {
  await chooseEngine('auto')
})

const random = (shape: [number, number, number, number], seed: number) =>
  tf.randomUniform(shape, -1, 1, 'float32', seed) as Tensor4D

const plain = { kernel: 3, stride: 1, padding: [1, 1] } as const

describe('a convolution in groups', () => {
  it('is one in which filters of other groups are zero', () => {
    tf.tidy(() => {
      const x = random([2, 5, 6, 4], 1)
      const filter = random([3, 3, 2, 6], 2)
      const [left, right] = tf.split(filter, 2, 3) as [Tensor4D, Tensor4D]
      const none = tf.zerosLike(left)
      const whole = tf.concat([tf.concat([left, none], 2), tf.concat([none, right], 2)], 3)
      const wanted = convolve(x, whole, plain).dataSync()
      const found = convolve(x, filter, plain, 2).dataSync()
      for (const [i, value] of wanted.entries()) expect(found[i]).toBeCloseTo(value, 5)
    })
  })
})

describe('a window', () => {
  it.each([
    [{ kernel: 11, stride: 4, padding: [2, 2] }, 224, 55],
    [{ kernel: 3, stride: 2, padding: [0, 0] }, 55, 27],
    [{ kernel: 3, stride: 2, padding: [1, 1] }, 112, 56],
    [{ kernel: 7, stride: 2, padding: [3, 3] }, 224, 112],
    [{ kernel: 2, stride: 2, padding: [0, 0] }, 1, 0],
  ] as const)('%j leaves of %i cells %i', (window, side, left) => {
    expect(cellsLeft(side, window)).toBe(left)
    if (left === 0) return
    const made = tf.tidy(() => pool(tf.ones([1, side, side, 1]), 'max', window).shape)
    expect(made).toEqual([1, left, left, 1])
  })

  it('that reaches over the border has the mean of the cells inside', () => {
    tf.tidy(() => {
      const x = tf.tensor4d([1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 3, 3, 1])
      const window = { kernel: 3, stride: 2, padding: [1, 1] } as const
      expect([...pool(x, 'average', window).dataSync()]).toEqual([3, 4, 6, 7])
      expect([...pool(x, 'max', window).dataSync()]).toEqual([5, 6, 8, 9])
    })
  })
})
