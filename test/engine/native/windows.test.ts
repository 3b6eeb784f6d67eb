import { beforeAll, describe, expect, it } from 'vitest'
import { around, convolve, pool, type Window } from '../../../src/models/layers/conv.ts'
import { type Tensor4D, tf } from '../../../src/tf.ts'
import { type Case, distance, floats, outcomesOf } from '../onnx/parity.ts'
import { isMissing, startTensorFlow } from './built.ts'

/** As nets have them: paddings by numbers of cells, also where those before and after differ. */
const windows: readonly Window[] = [
  { kernel: 3, stride: 1, padding: [1, 1] },
  { kernel: 3, stride: 2, padding: [0, 1] },
  { kernel: 3, stride: 2, padding: [1, 0] },
  { kernel: 2, stride: 2, padding: [0, 0] },
  { kernel: 5, stride: 1, padding: [2, 2] },
  { kernel: 4, stride: 3, padding: [1, 2] },
]

const images = floats([2, 9, 8, 3])

/** The mean of the cells inside the images by its definition: two convolutions, whose gradients are known. */
function meanByDefinition(x: Tensor4D, window: Window): Tensor4D {
  const { kernel, stride } = window
  const channels = x.shape[3]
  const eye = tf.reshape(tf.eye(channels), [1, 1, channels, channels])
  const own = tf.mul(tf.ones([kernel, kernel, 1, 1]), eye) as Tensor4D
  const sums = tf.conv2d(x, own, stride, around(window) as never)
  return tf.div(sums, tf.conv2d(tf.onesLike(x), own, stride, around(window) as never))
}

async function distanceBetween(ours: Case['compute'], reference: Case['compute'], operands: Case['operands']) {
  const one = { kernel: '', operands, gradient: true }
  await tf.setBackend('cpu')
  const wanted = outcomesOf({ ...one, compute: reference })
  await tf.setBackend('tensorflow')
  const before = tf.memory().numTensors
  const got = outcomesOf({ ...one, compute: ours })
  expect(tf.memory().numTensors).toBe(before)
  return Math.max(...wanted.map((outcome, i) => distance(got[i]!, outcome)))
}

describe.skipIf(isMissing).each(windows)(
  "TensorFlow's own library with $kernel x $kernel every $stride, $padding",
  (window) => {
    beforeAll(startTensorFlow)

    it('convolves, and gives both gradients', async () => {
      const filter = floats([window.kernel, window.kernel, 3, 4], undefined, 7)
      const compute = (x: tf.Tensor, own: tf.Tensor) => convolve(x as Tensor4D, own as Tensor4D, window)
      expect(await distanceBetween(compute, compute, [images, filter])).toBeLessThan(2e-6)
    })

    it('takes the largest of windows, and sends its gradient there', async () => {
      const compute = (x: tf.Tensor) => pool(x as Tensor4D, 'max', window)
      expect(await distanceBetween(compute, compute, [images])).toBeLessThan(2e-6)
    })

    it('sends the gradient of a maximum to the first of equals', async () => {
      const steps = floats([2, 9, 8, 3], Math.round)
      const compute = (x: tf.Tensor) => pool(x as Tensor4D, 'max', window)
      expect(await distanceBetween(compute, compute, [steps])).toBeLessThan(2e-6)
    })

    it('takes the mean of the cells of a window that lie inside the images', async () => {
      const ours = (x: tf.Tensor) => pool(x as Tensor4D, 'average', window)
      const reference = (x: tf.Tensor) => meanByDefinition(x as Tensor4D, window)
      expect(await distanceBetween(ours, reference, [images])).toBeLessThan(2e-6)
    })
  },
)
