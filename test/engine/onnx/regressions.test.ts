import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type OnnxEngine, startOnnx } from '../../../src/engine/onnx/index.ts'
import { openRuntime } from '../../../src/engine/onnx/runtime.ts'
import type { RecordingBackend } from '../../../src/engine/recording/backend.ts'
import { type Tensor, type Tensor4D, tf } from '../../../src/tf.ts'
import { distance, kernelsOf, numbers, type Outcome } from './parity.ts'

let engine: OnnxEngine
let blockSize: number
/** The models that were compiled, in which the names of nodes can be read. */
const models: string[] = []

beforeAll(async () => {
  const runtime = await openRuntime(1)
  const open = (model: Uint8Array) => {
    models.push(Buffer.from(model).toString('latin1'))
    return runtime.open(model)
  }
  blockSize = runtime.blockSize
  engine = await startOnnx({ threads: 1, runtime: { ...runtime, open } })
})

beforeEach(() => {
  models.length = 0
  engine.resetStats()
})

afterAll(() => engine.dispose())

const sizeOf = (shape: readonly number[]) => shape.reduce((size, side) => size * side, 1)

const random = <T extends Tensor>(shape: number[], seed = 1) =>
  tf.tensor(Float32Array.from(numbers(sizeOf(shape), seed)), shape) as T

const outcomeOf = (x: Tensor): Outcome => ({ shape: x.shape, dtype: x.dtype, values: x.dataSync() })

describe('a convolution of operands without numbers', () => {
  const conv = (x: Tensor, w: Tensor) => tf.conv2d(x as Tensor4D, w as Tensor4D, 1, 'same')
  const gradients = (x: Tensor, w: Tensor) => tf.grads((a, b) => tf.sum(conv(a!, b!)))([x, w])

  it.each([
    { result: 'the result', image: [2, 4, 4, 0], filter: [3, 3, 0, 3], compute: conv },
    { result: 'dx', image: [2, 4, 4, 3], filter: [3, 3, 3, 0], compute: (x: Tensor, w: Tensor) => gradients(x, w)[0]! },
    { result: 'dw', image: [0, 4, 4, 3], filter: [3, 3, 3, 4], compute: (x: Tensor, w: Tensor) => gradients(x, w)[1]! },
  ])('is zero without the runtime: $result of $image by $filter', ({ image, filter, compute }) => {
    tf.tidy(() => {
      const made = compute(tf.zeros(image), tf.zeros(filter))
      // Not read: the runtime would never return, or end the process.
      const known = (tf.backend() as RecordingBackend).numbers(made)
      expect(known).toEqual(new Float32Array(sizeOf(made.shape)))
      expect(made.size).toBeGreaterThan(0)
    })
  })
})

describe('windows of which tfjs and the runtime count different numbers', () => {
  // tfjs counts the columns by the height of the window where the padding is one number.
  it.each<[string, () => Tensor]>([
    ['a pool, rounded up', () => tf.maxPool(random<Tensor4D>([2, 6, 6, 3]), 3, 2, 1, 'ceil')],
    ['a pool that is not square', () => tf.avgPool(random<Tensor4D>([2, 6, 6, 3]), [2, 3], 1, 1)],
    [
      'a filter that is not square',
      () => tf.conv2d(random<Tensor4D>([2, 8, 8, 17]), random<Tensor4D>([2, 3, 17, 5]), 1, 1),
    ],
    [
      'a convolution, rounded up',
      () => tf.conv2d(random<Tensor4D>([2, 6, 6, 3]), random<Tensor4D>([3, 3, 3, 5]), 2, 1, 'NHWC', 1, 'ceil'),
    ],
  ])('are refused: %s', (_, compute) => {
    expect(() => tf.tidy(() => void compute())).toThrow(/windows of .* and tfjs says/)
  })
})

describe('the gradient of a gradient', () => {
  const forms = [
    { shape: [5, 4], axis: undefined },
    { shape: [5, 4], axis: 1 },
    { shape: [3, 2, 3, 4], axis: [0, 2] },
    { shape: [2, 1, 3, 2, 2], axis: [1, 4] },
  ].flatMap(({ shape, axis }) => (['sum', 'mean'] as const).map((reduction) => ({ shape, axis, reduction })))

  it.each(forms)('through a $reduction of $shape, axis $axis, is that of its formula', ({ shape, axis, reduction }) => {
    tf.tidy(() => {
      const x = random(shape)
      const weights = random(shape, 5)
      const reduce = (y: Tensor, keepDims = false) => tf[reduction](tf.square(y), axis, keepDims)
      const share = reduction === 'sum' ? 1 : reduce(x).size / x.size
      const gradient = (y: Tensor) => tf.grad((z: Tensor) => tf.sum(tf.square(reduce(z))))(y)
      const formula = (y: Tensor) => tf.mul(tf.mul(y, 4 * share), reduce(y, true))
      const weighed = (f: (y: Tensor) => Tensor) => tf.grad((y: Tensor) => tf.sum(tf.mul(f(y), weights)))(x)
      let got: Tensor | undefined
      const called = kernelsOf(() => {
        got = weighed(gradient)
      })
      // A Tile's gradient takes a slice for every repetition.
      expect([...called]).not.toContain('Slice')
      expect(distance(outcomeOf(got!), outcomeOf(weighed(formula)))).toBeLessThan(5e-6)
      expect(engine.stats().fallbacks).toEqual({})
    })
  })
})

describe('the gradient of a filter under a pool of 2 x 2', () => {
  /** How many convolutions it takes. */
  const convolutions = (images: number, from: number, to: number) => {
    tf.tidy(() => {
      const x = random<Tensor4D>([images, 4, 4, from])
      const pooled = (w: Tensor) => tf.maxPool(tf.conv2d(x, w as Tensor4D, 1, 'same'), 2, 2, 'valid')
      const weights = random([images, 2, 2, to], 7)
      tf.grad((w: Tensor) => tf.sum(tf.mul(pooled(w), weights)))(random([3, 3, from, to], 3)).dataSync()
    })
    return models.splice(0).join().split('Conv2DBackpropFilter/Conv/').length - 1
  }

  it('is computed in four parts, unless one gradient an image takes too much memory', () => {
    expect(convolutions(4, 16, 32)).toBe(blockSize > 0 ? 4 : 1)
    // 64 gradients of 3 x 3 x 64 x 256 numbers are more than 2^23.
    expect(convolutions(64, 64, 256)).toBe(1)
  })
})
