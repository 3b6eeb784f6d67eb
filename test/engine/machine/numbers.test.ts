import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { MachineComputer, type MachineEngine, startMachine, whyNotHere } from '../../../src/engine/machine/index.ts'
import { OnnxComputer } from '../../../src/engine/onnx/computer.ts'
import { traces } from '../../../src/engine/onnx/kernels/index.ts'
import { openRuntime } from '../../../src/engine/onnx/runtime.ts'
import { startRecording } from '../../../src/engine/recording/index.ts'
import { tf } from '../../../src/tf.ts'
import { bools, type Case, distance, floats, given, integers, numbers, outcomesOf } from '../onnx/parity.ts'

const { NaN: none, POSITIVE_INFINITY: infinite } = Number

type Image = tf.Tensor4D

const conv = (x: tf.Tensor, filter: tf.Tensor) => tf.conv2d(x as Image, filter as Image, 1, 'same')
const pool = (x: tf.Tensor) => tf.maxPool(x as Image, 2, 2, 'valid')

/** Numbers of which none is the sum of the others, so that it is seen if one is lost. */
const tenths = (shape: number[]) => floats(shape, () => 0.1)

const one = (title: string, operands: Case['operands'], compute: Case['compute'], bound?: number): Case => ({
  kernel: '',
  title,
  operands,
  compute,
  ...(bound === undefined ? {} : { bound }),
})

const folds = (['sum', 'max', 'min'] as const).flatMap((kind) => [
  one(`${kind} of few rows of whole numbers`, [integers([3, 70], 9, -9)], (x) => tf[kind](x, 0), 0),
  one(`${kind} of many whole numbers`, [integers([20000], -5, -900)], (x) => tf[kind](x), 0),
  one(`${kind} of many rows of whole numbers`, [integers([2000, 16], -5, -900)], (x) => tf[kind](x, 0), 0),
])

const longSums = [
  one('a sum that cannot be cut', [tenths([100003])], (x) => tf.sum(x)),
  one('sums of rows that cannot be cut', [tenths([33, 10007])], (x) => tf.sum(x, 1)),
  one('a sum of a prime number of rows', [tenths([10007, 21])], (x) => tf.sum(x, 0)),
  one('a sum of few rows more than a multiple', [tenths([129, 80])], (x) => tf.sum(x, 0)),
  one('the extremes of long rows', [floats([2, 5003])], (x) => [tf.max(x, 1), tf.min(x, 1), tf.mean(x, 1)]),
  one('a long product', [tenths([2, 20000]), tenths([20000, 3])], (a, b) => tf.matMul(a, b), 2e-5),
]

const sameOperands = [
  one('images that are their own filter', [floats([3, 3, 3, 3])], (x) => conv(x, x)),
  one('images that are the bias, too', [floats([1, 2, 2, 2]), floats([3, 3, 2, 8])], (x, w) =>
    tf.add(conv(x, w), tf.reshape(x, [8])),
  ),
  one('the gradient of images that are their own filter', [floats([3, 3, 3, 3])], (x) =>
    tf.grad((y: tf.Tensor) => tf.sum(tf.square(conv(y, y))))(x),
  ),
]

const edges = numbers(4 * 4 * 16).map((x, i) => (i % 7 === 0 ? -infinite : i % 11 === 0 ? infinite : x))
const steps = [
  one(
    'a convolution times the step of infinite numbers',
    [given(edges, [1, 4, 4, 16]), floats([3, 3, 3, 16])],
    (x, w) => tf.mul(conv(tf.slice(tf.zerosLike(x), [0, 0, 0, 0], [1, 4, 4, 3]), w), tf.step(x)),
  ),
  one(
    'a convolution times the step of what is not a number',
    [
      given(
        edges.map((x) => (x > 1 ? none : x)),
        [1, 4, 4, 16],
      ),
    ],
    (x) => tf.mul(conv(tf.onesLike(x), tf.ones([1, 1, 16, 16])), tf.step(x)),
  ),
  one('the gradient of a pool times the step of minus infinity', [given(edges, [1, 4, 4, 16])], (x) =>
    tf.mul(tf.grad((y: tf.Tensor) => tf.sum(pool(y)))(x), tf.step(x)),
  ),
]

const others = [
  one('few long rows that cannot be cut', [floats([3, 5003]), floats([5003])], (x, y) => tf.add(x, y)),
  one('whether few long rows are larger', [floats([3, 5003]), floats([5003], undefined, 3)], (x, y) =>
    tf.greater(x, y),
  ),
  one('roots of minus infinity', [given(Array(8).fill(-infinite)), given([0.5, -0.5, 3, 2, -3, -2, 1, 0])], (x, y) =>
    tf.pow(x, y),
  ),
  one('a choice among few long rows', [bools([3, 5003]), floats([3, 5003]), floats([5003])], (c, x, y) =>
    tf.where(c, x, y),
  ),
]

const windows: [image: [number, number, number, number], size: number, strides: number, pad: 'valid' | 'same'][] = [
  [[3, 4, 6, 3], 2, 2, 'valid'],
  [[2, 7, 5, 16], 3, 2, 'valid'],
  [[5, 7, 7, 21], 3, 2, 'same'],
  [[1, 9, 9, 80], 2, 3, 'valid'],
]

const averages = windows.flatMap(([image, size, strides, pad]) => {
  const title = `means of windows of ${size}, strides ${strides}, pad ${pad}, of ${image.join(' x ')}`
  const mean = (x: tf.Tensor) => tf.avgPool(x as Image, size, strides, pad)
  const gradient = one(`the gradient of ${title}`, [floats(image)], (x) =>
    tf.grad((y: tf.Tensor) => tf.sum(tf.square(mean(y))))(x),
  )
  // Where a window reaches over the border, that of tfjs divides by all its cells, not by those inside.
  return [one(title, [floats(image)], mean), ...(pad === 'valid' ? [gradient] : [])]
})

const cases = [...folds, ...longSums, ...sameOperands, ...steps, ...averages, ...others]

describe.skipIf(whyNotHere() !== undefined)('machine code', () => {
  describe.each([1, 2, 3])('on %i threads', (threads) => {
    let engine: MachineEngine

    beforeAll(async () => {
      engine = await startMachine({ threads, onFallback: () => {} })
    })

    afterAll(() => engine.dispose())

    it.each(cases.map((one) => [one.title, one] as const))('computes %s', async (_, one) => {
      await tf.setBackend('cpu')
      const wanted = outcomesOf(one)
      await tf.setBackend('machine')
      engine.resetStats()
      const got = outcomesOf(one)
      for (const [i, outcome] of wanted.entries())
        expect(distance(got[i]!, outcome)).toBeLessThanOrEqual(one.bound ?? 2e-6)
      const { runs, programRuns } = engine.stats()
      expect(programRuns).toBe(runs)
    })

    it("gives back in a mean's gradient what its windows over the border took", () => {
      tf.tidy(() => {
        const x = tf.randomNormal([4, 7, 5, 19], 0, 1, 'float32', 3) as Image
        const y = tf.randomNormal([4, 4, 3, 19], 0, 1, 'float32', 4)
        const taken = (images: tf.Tensor) => tf.sum(tf.mul(tf.avgPool(images as Image, 3, 2, 1), y))
        const given = tf.sum(tf.mul(x, tf.grad(taken)(x)))
        expect(given.dataSync()[0]).toBeCloseTo(taken(x).dataSync()[0]!, 3)
      })
    })

    it('leaves what has many thousands of classes to others', () => {
      const hot = tf.oneHot(tf.tensor1d([3, 150_000], 'int32'), 180_000)
      expect([...tf.sum(hot, 1).dataSync()]).toEqual([1, 1])
    })
  })

  it('takes no more memory step by step where the runtime gives promises', async () => {
    const runtime = { ...(await openRuntime(1)), synchronous: false }
    const computer = new MachineComputer(1, new OnnxComputer(runtime))
    const engine = await startRecording({ name: 'machine', traces, computer })
    const state = tf.variable(tf.fill([500, 500], 1))
    for (let i = 0; i < 150; i++) {
      tf.tidy(() => state.assign(tf.add(tf.mul(state, 0.5), 0.5)))
      const sum = tf.sum(state)
      expect((await sum.data())[0]).toBe(250_000)
      sum.dispose()
    }
    // 150 states would be 150 MB.
    expect(computer.memoryBytes()).toBe(2 ** 26)
    engine.dispose()
  })

  it('ends right after a program has run', async () => {
    for (let i = 0; i < 20; i++) {
      const engine = await startMachine({ threads: 3, onFallback: () => {} })
      const sum = tf.tidy(() => tf.sum(tf.matMul(tf.ones([64, 64]), tf.fill([64, 64], 2))).dataSync()[0])
      engine.dispose()
      expect(sum).toBe(2 * 64 ** 3)
    }
  })
})
