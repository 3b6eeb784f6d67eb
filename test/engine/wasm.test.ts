import { beforeAll, describe, expect, it } from 'vitest'
import { chooseEngine } from '../../src/engine/choose.ts'
import { type Tensor, type Tensor2D, type Tensor4D, tf } from '../../src/tf.ts'

/** Largest difference from the cpu backend, as a share of its largest number. */
const bound = 1e-5

let seed = 1
const draw = () => {
  seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0
  return seed / 2 ** 32 - 0.5
}
const numbers = (shape: number[], whole = false) =>
  Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => (whole ? Math.round(4 * draw()) : draw()))

/** What `compute` makes of the same numbers on either backend. */
async function onBoth(shapes: number[][], compute: (...tensors: never[]) => Tensor, whole = false) {
  const values = shapes.map((shape) => numbers(shape, whole))
  const results: Tensor[] = []
  const data: Float32Array[] = []
  for (const backend of ['cpu', 'wasm']) {
    await tf.setBackend(backend)
    const result = tf.tidy(() => compute(...(values.map((value, i) => tf.tensor(value, shapes[i]!)) as never[])))
    data.push(result.dataSync() as Float32Array)
    results.push(result)
  }
  const [cpu, wasm] = data as [Float32Array, Float32Array]
  const largest = cpu.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-9)
  const difference = cpu.reduce((most, value, i) => Math.max(most, Math.abs(value - wasm[i]!)), 0) / largest
  expect(results[1]!.shape).toEqual(results[0]!.shape)
  tf.dispose(results)
  return difference
}

beforeAll(async () => {
  await chooseEngine('wasm')
})

const convolutions = [
  { name: 'same padding', x: [3, 7, 5, 4], filter: [3, 3, 4, 6], strides: 1, pad: 'same' },
  { name: 'valid padding', x: [2, 8, 9, 3], filter: [3, 3, 3, 5], strides: 1, pad: 'valid' },
  { name: 'one input channel', x: [4, 6, 6, 1], filter: [3, 3, 1, 8], strides: 1, pad: 'same' },
  { name: 'an even, oblong filter', x: [2, 6, 7, 3], filter: [2, 4, 3, 4], strides: 1, pad: 'same' },
  { name: 'a filter of 1 x 1', x: [2, 5, 4, 6], filter: [1, 1, 6, 3], strides: 1, pad: 'valid' },
  { name: 'padding wider than the filter', x: [2, 5, 5, 2], filter: [2, 2, 2, 3], strides: 1, pad: 2 },
  { name: 'stride 2 on odd sizes', x: [3, 7, 9, 4], filter: [3, 3, 4, 5], strides: 2, pad: 'same' },
  { name: 'stride 2 that does not divide', x: [2, 8, 8, 3], filter: [3, 3, 3, 4], strides: 2, pad: 'valid' },
  { name: 'unequal strides', x: [2, 9, 8, 2], filter: [3, 2, 2, 4], strides: [2, 1], pad: 'same' },
  { name: 'explicit padding', x: [2, 7, 6, 3], filter: [3, 3, 3, 4], strides: 1, pad: 1 },
  { name: 'more columns than are unfolded at once', x: [24, 20, 20, 4], filter: [3, 3, 4, 3], strides: 1, pad: 'same' },
] as const

describe('the gradients of a convolution on wasm', () => {
  it.each(convolutions)('agree with those of the cpu backend: $name', async ({ x, filter, strides, pad }) => {
    const convolve = (image: Tensor4D, weights: Tensor4D) => tf.conv2d(image, weights, strides as 1, pad)
    const loss = (image: Tensor4D, weights: Tensor4D) => tf.sum(tf.square(convolve(image, weights)))
    const gradient = (which: 0 | 1) => (image: Tensor4D, weights: Tensor4D) =>
      tf.grads((a, b) => loss(a as Tensor4D, b as Tensor4D))([image, weights])[which]!
    expect(await onBoth([[...x], [...filter]], convolve)).toBeLessThan(bound)
    expect(await onBoth([[...x], [...filter]], gradient(0))).toBeLessThan(bound)
    expect(await onBoth([[...x], [...filter]], gradient(1))).toBeLessThan(bound)
  })
})

const poolings = [
  { name: '2 x 2 on even sizes', x: [3, 8, 6, 5], size: 2, strides: 2, pad: 'valid' },
  { name: '2 x 2 on odd sizes', x: [2, 7, 5, 3], size: 2, strides: 2, pad: 'valid' },
  { name: '2 x 2 with padding', x: [2, 7, 5, 3], size: 2, strides: 2, pad: 'same' },
  { name: 'windows that overlap', x: [2, 8, 7, 4], size: 3, strides: 2, pad: 'same' },
  { name: 'windows of 3 x 3 at every place', x: [2, 5, 6, 2], size: 3, strides: 1, pad: 'same' },
] as const

describe('the gradient of max pooling on wasm', () => {
  it.each(poolings)('agrees with that of the cpu backend, ties included: $name', async ({ x, size, strides, pad }) => {
    const pool = (image: Tensor4D) => tf.maxPool(image, size, strides, pad)
    const gradient = (image: Tensor4D) =>
      tf.grad((a) => tf.sum(tf.mul(pool(a as Tensor4D), tf.range(1, pool(image).size + 1).reshape(pool(image).shape))))(
        image,
      )
    expect(await onBoth([[...x]], gradient)).toBeLessThan(bound)
    expect(await onBoth([[...x]], gradient, true)).toBeLessThan(bound)
  })
})

describe('products and sums on wasm', () => {
  it.each([
    [false, false],
    [true, false],
    [false, true],
    [true, true],
  ])('multiplies matrices, transposed %s and %s', async (transposeA, transposeB) => {
    const a = transposeA ? [5, 7] : [7, 5]
    const b = transposeB ? [6, 5] : [5, 6]
    const tall = transposeB ? [60, 5] : [5, 60]
    const product = (x: Tensor2D, y: Tensor2D) => tf.matMul(x, y, transposeA, transposeB)
    expect(await onBoth([a, b], product)).toBeLessThan(bound)
    expect(await onBoth([a, tall], product)).toBeLessThan(bound)
    expect(
      await onBoth(
        [
          [3, ...a],
          [3, ...tall],
        ],
        product,
      ),
    ).toBeLessThan(bound)
  })

  it.each([
    [[0], false],
    [[0, 1], true],
    [[0, 1, 2], false],
    [[2], false],
    [[1, 3], true],
    [[0, 1, 2, 3], false],
  ])('sums over the axes %j', async (axes, keepDims) => {
    expect(await onBoth([[4, 3, 5, 6]], (x: Tensor) => tf.sum(x, axes, keepDims))).toBeLessThan(bound)
  })

  it('takes the gradient of a gather, rows named twice and not at all included', async () => {
    const gather = (rows: Tensor) => tf.sum(tf.square(tf.gather(rows, tf.tensor1d([4, 1, 1, 0], 'int32'))))
    expect(await onBoth([[6, 3]], (rows: Tensor) => tf.grad(gather)(rows))).toBeLessThan(bound)
  })

  it('sums segments of whole numbers and leaves out those that are none', async () => {
    await tf.setBackend('wasm')
    const sums = tf.tidy(() =>
      tf
        .unsortedSegmentSum(tf.tensor2d([1, 2, 3, 4, 5, 6], [3, 2], 'int32'), tf.tensor1d([1, -1, 1], 'int32'), 3)
        .dataSync(),
    )
    expect([...sums]).toEqual([0, 0, 6, 8, 0, 0])
  })

  it('keeps a copy whose original is gone, and frees both in the end', async () => {
    await tf.setBackend('wasm')
    const before = tf.memory()
    const original = tf.tensor1d([1, 2, 3])
    const copy = tf.clone(original)
    original.dispose()
    expect([...copy.dataSync()]).toEqual([1, 2, 3])
    copy.dispose()
    expect(tf.memory()).toMatchObject({ numTensors: before.numTensors, numDataBuffers: before.numDataBuffers })
  })

  it('gives the same numbers again', async () => {
    await tf.setBackend('wasm')
    const x = tf.tensor4d(numbers([8, 14, 14, 4]), [8, 14, 14, 4])
    const filter = tf.tensor4d(numbers([3, 3, 4, 8]), [3, 3, 4, 8])
    const once = () =>
      tf.tidy(() =>
        tf
          .grad((w) => tf.sum(tf.square(tf.conv2d(x, w as Tensor4D, 1, 'same'))))(filter)
          .dataSync(),
      )
    expect(once()).toEqual(once())
    tf.dispose([x, filter])
  })
})
