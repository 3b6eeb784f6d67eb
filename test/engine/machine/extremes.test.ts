import { describe, expect, it } from 'vitest'
import { startMachine, whyNotHere } from '../../../src/engine/machine/index.ts'
import { type Tensor, type Tensor2D, tf } from '../../../src/tf.ts'
import { numbers } from '../onnx/parity.ts'

const make = (shape: number[], seed: number) =>
  tf.tensor(
    numbers(
      shape.reduce((x, y) => x * y, 1),
      seed,
    ),
    shape,
  )

/** Where rows have their largest number in a product, computed in doubles; of equals the first. */
function largest(a: number[], b: number[], bias: number[] | undefined, [n, d, k]: number[]): number[] {
  return Array.from({ length: n! }, (_, i) => {
    let [best, place] = [Number.NEGATIVE_INFINITY, 0]
    for (let j = 0; j < k!; j++) {
      let sum = bias?.[j] ?? 0
      for (let c = 0; c < d!; c++) sum += a[i * d! + c]! * b[c * k! + j]!
      if (sum > best) [best, place] = [sum, j]
    }
    return place
  })
}

/** On the engine of machine code, without falling to another. */
async function onMachine(threads: number, compute: () => Tensor): Promise<number[]> {
  const engine = await startMachine({ threads })
  try {
    const made = tf.tidy(compute)
    const found = [...made.dataSync()]
    made.dispose()
    expect([engine.stats().programRuns, engine.unwritten]).toEqual([1, {}])
    return found
  } finally {
    engine.dispose()
  }
}

const products: { title: string; sides: [n: number, d: number, k: number]; bias?: boolean; turned?: boolean }[] = [
  { title: 'of a few rows and columns', sides: [3, 5, 7] },
  { title: 'of one column', sides: [40, 6, 1], bias: true },
  { title: 'with a row added', sides: [100, 24, 100], bias: true },
  { title: 'with a rest of rows and of columns', sides: [203, 33, 1003], bias: true },
  { title: 'of more columns than a cache holds at once', sides: [31, 2048, 250], bias: true },
  { title: 'with the right side turned', sides: [130, 40, 260], bias: true, turned: true },
  { title: 'of a single row', sides: [1, 64, 500] },
]

describe.skipIf(whyNotHere())('places of extremes as machine code', () => {
  it.each(products.flatMap((own) => [1, 2, 3].map((threads) => [own.title, threads, own] as const)))(
    'are where rows of a product are largest: %s, on %i threads',
    async (_title, threads, { sides, bias, turned = false }) => {
      const [n, d, k] = sides
      const [a, b, added] = [numbers(n * d, 1), numbers(d * k, 2), bias ? numbers(k, 3) : undefined]
      const found = await onMachine(threads, () => {
        const right = turned ? (tf.transpose(tf.tensor2d(b, [d, k])) as Tensor2D).clone() : tf.tensor2d(b, [d, k])
        const product = tf.matMul(tf.tensor2d(a, [n, d]), right as Tensor2D, false, turned)
        return tf.argMax(added ? tf.add(product, tf.tensor1d(added)) : product, 1)
      })
      expect(found).toEqual(largest(a, b, added, sides))
    },
  )

  it('are the first of equals', async () => {
    const found = await onMachine(2, () => {
      const same = tf.matMul(tf.ones([50, 8]), tf.ones([8, 90]) as Tensor2D)
      const late = tf.tensor1d(Float32Array.from({ length: 90 }, (_, i) => (i >= 37 ? 1 : 0)))
      return tf.concat([tf.argMax(same, 1), tf.argMax(tf.add(same, late), 1)])
    })
    expect(found).toEqual([...new Array(50).fill(0), ...new Array(50).fill(37)])
  })

  it.each([
    ['the largest of rows', 'argMax', [20, 31], 1],
    ['the largest of columns', 'argMax', [20, 31], 0],
    ['the smallest of rows', 'argMin', [9, 70], 1],
    ['the smallest between', 'argMin', [4, 6, 5], 1],
  ] as const)('are those of tfjs: %s', async (_title, kind, shape, axis) => {
    await tf.setBackend('cpu')
    const wanted = [...tf.tidy(() => tf[kind](make([...shape], 5), axis)).dataSync()]
    expect(await onMachine(2, () => tf[kind](make([...shape], 5), axis))).toEqual(wanted)
  })
})
