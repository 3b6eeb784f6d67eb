import { describe, expect, it } from 'vitest'
import { startMachine, whyNotHere } from '../../../src/engine/machine/index.ts'
import { tf } from '../../../src/tf.ts'
import { distance, numbers, type Outcome } from '../onnx/parity.ts'

interface Shape {
  title: string
  a: number[]
  b: number[]
  turned?: [boolean, boolean]
  bias?: boolean
}

const shapes: Shape[] = [
  { title: 'of long rows, made side by side', a: [30, 48], b: [48, 1600] },
  { title: 'of long rows with a rest', a: [7, 40], b: [40, 1307] },
  { title: 'with a memory bank', a: [33, 24], b: [2100, 24], turned: [false, true] },
  { title: 'of a long inner side', a: [5, 2500], b: [2500, 70] },
  { title: 'of left rows a page apart', a: [20, 1024], b: [1024, 48] },
  { title: 'with the left side turned', a: [300, 65], b: [300, 40], turned: [true, false] },
  { title: 'with both sides turned', a: [90, 31], b: [50, 90], turned: [true, true] },
  { title: 'with a bias and a relu', a: [40, 100], b: [100, 130], bias: true },
  { title: 'in a batch', a: [9, 13, 40], b: [9, 40, 33] },
  { title: 'in a batch, turned', a: [5, 40, 13], b: [5, 33, 40], turned: [true, true] },
]

function outcome({ a, b, turned = [false, false], bias }: Shape): Outcome {
  const make = (shape: number[], seed: number) =>
    tf.tensor(
      numbers(
        shape.reduce((x, y) => x * y, 1),
        seed,
      ),
      shape,
    )
  const result = tf.tidy(() => {
    const product = tf.matMul(make(a, 1), make(b, 2), ...turned)
    return bias ? tf.relu(tf.add(product, make([product.shape.at(-1)!], 3))) : product
  })
  const found = { shape: result.shape, dtype: result.dtype, values: result.dataSync().slice() }
  result.dispose()
  return found
}

describe.skipIf(whyNotHere())('products as machine code', () => {
  it.each(shapes.flatMap((shape) => [1, 2, 3].map((threads) => [shape.title, threads, shape] as const)))(
    'are those of tfjs: %s, on %i threads',
    async (_title, threads, shape) => {
      await tf.setBackend('cpu')
      const wanted = outcome(shape)
      const engine = await startMachine({ threads })
      const got = outcome(shape)
      expect([engine.stats().programRuns, engine.unwritten]).toEqual([1, {}])
      engine.dispose()
      expect(distance(got, wanted)).toBeLessThan(2e-6)
    },
  )
})
