import { describe, expect, it } from 'vitest'
import { type MachineEngine, startMachine, whyNotHere } from '../../../src/engine/machine/index.ts'
import { tf } from '../../../src/tf.ts'
import { distance, numbers, type Outcome } from '../onnx/parity.ts'

interface Shape {
  title: string
  images: [number, number, number, number]
  filter: [number, number, number, number]
  strides?: number
  pad?: 'same' | 'valid'
}

const shapes: Shape[] = [
  { title: 'in tiles, of one image in bands', images: [1, 48, 48, 16], filter: [3, 3, 16, 48] },
  { title: 'in tiles, of odd sides', images: [4, 7, 9, 32], filter: [3, 3, 32, 32] },
  { title: 'in tiles, without padding', images: [3, 9, 8, 16], filter: [3, 3, 16, 32], pad: 'valid' },
  { title: 'with a filter in blocks and a rest', images: [2, 6, 6, 32], filter: [5, 5, 32, 80] },
  { title: 'with a gradient of the filter that threads share', images: [3, 5, 5, 80], filter: [2, 2, 80, 216] },
  {
    title: 'with rows of zeros between those of the gradient',
    images: [2, 11, 12, 16],
    filter: [3, 3, 16, 32],
    strides: 2,
  },
  { title: 'of very many channels by few', images: [2, 3, 3, 520], filter: [3, 3, 520, 5] },
  { title: 'of images of 2 x 2, several in a tile', images: [8, 2, 2, 24], filter: [2, 2, 24, 40] },
]

/** Convolution, bias and relu, and the gradients of all that is in it. */
function outcomes({ images, filter, strides = 1, pad = 'same' }: Shape): Outcome[] {
  const make = (shape: number[], seed: number) =>
    tf.tensor(
      numbers(
        shape.reduce((a, b) => a * b, 1),
        seed,
      ),
      shape,
    )
  const tensors = tf.tidy(() => {
    const operands = [make(images, 1), make(filter, 2), make([filter[3]], 3)]
    // A relu before as well, so that the gradient meets its slope.
    const forward = (x: tf.Tensor, w: tf.Tensor, b: tf.Tensor) =>
      tf.relu(tf.add(tf.conv2d(tf.relu(x) as tf.Tensor4D, w as tf.Tensor4D, strides, pad), b))
    const value = forward(...(operands as [tf.Tensor, tf.Tensor, tf.Tensor]))
    const weights = make(value.shape, 4)
    const loss = (...[x, w, b]: tf.Tensor[]) => tf.sum(tf.mul(forward(x!, w!, b!), weights)) as tf.Scalar
    return [value, ...tf.grads(loss)(operands)]
  })
  const found = tensors.map((x) => ({ shape: x.shape, dtype: x.dtype, values: x.dataSync().slice() }))
  tf.dispose(tensors)
  return found
}

describe.skipIf(whyNotHere())('convolutions as machine code', () => {
  // Plain JavaScript takes its time: once for each shape.
  const known = new Map<Shape, Outcome[]>()
  async function wantedOf(shape: Shape): Promise<Outcome[]> {
    await tf.setBackend('cpu')
    const wanted = known.get(shape) ?? outcomes(shape)
    known.set(shape, wanted)
    return wanted
  }

  it.each(shapes.flatMap((shape) => [1, 2, 3].map((threads) => [shape.title, threads, shape] as const)))(
    'are those of tfjs: %s, on %i threads',
    async (_title, threads, shape) => {
      const wanted = await wantedOf(shape)
      const engine: MachineEngine = await startMachine({ threads })
      const got = outcomes(shape)
      const { programRuns, runs } = engine.stats()
      expect([programRuns, engine.unwritten]).toEqual([runs, {}])
      engine.dispose()
      for (const [i, outcome] of wanted.entries()) expect(distance(got[i]!, outcome), `result ${i}`).toBeLessThan(5e-6)
    },
  )
})
