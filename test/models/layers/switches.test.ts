import { afterAll, describe, expect, it } from 'vitest'
import type { EngineName } from '../../../src/engine/choice.ts'
import { chooseEngine } from '../../../src/engine/choose.ts'
import { whyNotHere } from '../../../src/engine/machine/index.ts'
import { rollDice } from '../../../src/models/dice.ts'
import { pool, type Window } from '../../../src/models/layers/conv.ts'
import { unpoolFixed, unpoolKnown } from '../../../src/models/layers/switches.ts'
import { type Tensor, type Tensor4D, tf } from '../../../src/tf.ts'

const halving: Window = { kernel: 2, stride: 2, padding: [0, 0] }
const overlapping: Window = { kernel: 3, stride: 2, padding: [0, 0] }
const padded: Window = { kernel: 3, stride: 2, padding: [1, 1] }
const cases = [
  ['2x2/2', halving, 6],
  ['2x2/2 of an odd side', halving, 7],
  ['3x3/2, which overlaps', overlapping, 9],
  ['3x3/2 with padding', padded, 8],
  ['3x3/2 with padding before only', { ...overlapping, padding: [1, 0] }, 8],
] as const

const [n, channels] = [2, 5]
const outOf = (side: number, { kernel, stride, padding }: Window) =>
  Math.floor((side + padding[0] + padding[1] - kernel) / stride) + 1

/** Where each window's first largest cell is in x [n, side, side, c], window after window; -1 is none. */
function places(x: ArrayLike<number>, side: number, { kernel, stride, padding }: Window): number[] {
  const out = outOf(side, { kernel, stride, padding })
  const found: number[] = []
  for (let i = 0; i < n * out * out * channels; i++) {
    const [c, column, row] = [i % channels, Math.floor(i / channels) % out, Math.floor(i / channels / out) % out]
    const image = Math.floor(i / (channels * out * out))
    let best = -1
    for (let cell = 0; cell < kernel * kernel; cell++) {
      const y = row * stride - padding[0] + Math.floor(cell / kernel)
      const z = column * stride - padding[0] + (cell % kernel)
      if (y < 0 || z < 0 || y >= side || z >= side) continue
      const at = ((image * side + y) * side + z) * channels + c
      if (best < 0 || x[at]! > x[best]!) best = at
    }
    found.push(best)
  }
  return found
}

/** The unpooling as it is written: sums divided by how many there are. */
function reference(y: ArrayLike<number>, x: ArrayLike<number>, side: number, pooling: Window): number[] {
  const sums = new Array<number>(x.length).fill(0)
  const counts = new Array<number>(x.length).fill(0)
  for (const [i, place] of places(x, side, pooling).entries()) {
    sums[place] = sums[place]! + y[i]!
    counts[place] = counts[place]! + 1
  }
  return sums.map((sum, i) => sum / Math.max(1, counts[i]!))
}

const dice = rollDice(9)
const drawn = (size: number) => Float32Array.from({ length: size }, () => dice.normal())
/** Few different numbers, so that there are equals in most windows. */
const tied = (size: number) => drawn(size).map((value) => Math.max(0, Math.round(value)))
const total = (values: Float32Array) => values.reduce((a, b) => a + b, 0)

const names: EngineName[] = [...(whyNotHere() ? [] : (['machine'] as const)), 'onnx', 'wasm', 'cpu']

afterAll(() => chooseEngine('auto'))

describe.each(names)('unpooling on the engine %s', (name) => {
  it('chooses it', async () => {
    expect((await chooseEngine(name)).engine.name).toBe(name)
  })

  it.each(cases)(
    'puts each number at the first largest cell of its window, means where they meet: %s',
    (_, p, side) => {
      const x = tied(n * side * side * channels)
      const y = drawn(n * outOf(side, p) ** 2 * channels)
      const given = tf.tidy(() => {
        const images = tf.tensor4d(x, [n, side, side, channels])
        return unpoolKnown(tf.tensor4d(y, [n, outOf(side, p), outOf(side, p), channels]), images, p).dataSync()
      })
      const expected = reference(y, x, side, p)
      for (const [i, value] of expected.entries()) expect(given[i]).toBeCloseTo(value, 5)
    },
  )

  it.each(cases)('has the gradient that finite differences find, and none for the switches: %s', (_, p, side) => {
    const x = tied(n * side * side * channels)
    const out = outOf(side, p)
    const y = drawn(n * out * out * channels)
    const weights = drawn(x.length)
    const [dx, dy] = tf.tidy(() => {
      const loss = (images: Tensor, numbers: Tensor) =>
        tf.sum(
          tf.mul(unpoolKnown(numbers as Tensor4D, images as Tensor4D, p), tf.tensor4d(weights, images.shape as never)),
        )
      const numbers = tf.tensor4d(y, [n, out, out, channels])
      const images = tf.tensor4d(x, [n, side, side, channels])
      // The images take part by a term of their own, whose gradient is 1.
      const both = tf.grads((a, b) => tf.add(loss(a!, b!), tf.sum(a!)))([images, numbers])
      return both.map((gradient) => gradient!.dataSync())
    })
    expect(new Set(dx)).toEqual(new Set([1]))
    const loss = (numbers: ArrayLike<number>) =>
      reference(numbers, x, side, p).reduce((sum, value, i) => sum + value * weights[i]!, 0)
    const at = loss(y)
    for (let i = 0; i < y.length; i += 7) {
      const moved = Array.from(y)
      moved[i] = moved[i]! + 0.5
      expect(dy![i]).toBeCloseTo((loss(moved) - at) / 0.5, 4)
    }
  })

  it('gives a one-hot map back as it was, and keeps what a map sums to', () => {
    tf.tidy(() => {
      const hot = tf.tensor4d(
        Float32Array.from({ length: 36 }, (_, i) => (i === 13 ? 1 : 0)),
        [1, 6, 6, 1],
      )
      const back = unpoolKnown(pool(hot, 'max', halving), hot, halving)
      // Where a window is 0 throughout, 0 goes to its first cell.
      expect(back.dataSync()).toEqual(hot.dataSync())
      const x = tf.tensor4d(drawn(n * 36 * channels), [n, 6, 6, channels])
      const pooled = pool(x, 'max', halving)
      expect(total(unpoolKnown(pooled, x, halving).dataSync() as Float32Array)).toBeCloseTo(
        total(pooled.dataSync() as Float32Array),
        4,
      )
    })
  })

  it.each(cases)('puts all at one fixed cell of each window where no switches are known: %s', (_, p, side) => {
    const out = outOf(side, p)
    const y = drawn(n * out * out * channels)
    const cell = Math.floor(p.kernel / 2) - p.padding[0]
    const expected = new Float32Array(n * side * side * channels)
    for (let i = 0; i < y.length; i++) {
      const [c, column, row] = [i % channels, Math.floor(i / channels) % out, Math.floor(i / channels / out) % out]
      const [y_, x_] = [row * p.stride + cell, column * p.stride + cell]
      const image = Math.floor(i / (channels * out * out))
      expected[((image * side + y_) * side + x_) * channels + c] = y[i]!
    }
    const [given, gradient] = tf.tidy(() => {
      const numbers = tf.tensor4d(y, [n, out, out, channels])
      const unpool = (a: Tensor) => unpoolFixed(a as Tensor4D, [side, side], p)
      return [unpool(numbers).dataSync(), tf.grad(unpool)(numbers, unpool(numbers)).dataSync()]
    })
    for (const [i, value] of expected.entries()) expect(given[i]).toBeCloseTo(value, 6)
    expect(gradient).toEqual(y)
  })
})
