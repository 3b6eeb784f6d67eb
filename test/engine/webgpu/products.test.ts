import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { productUnder } from '../../../src/engine/graph/extremes.ts'
import { type Node, Nodes, type ProductSides, rowStrides, whole } from '../../../src/engine/graph/node.ts'
import { extremeColumn } from '../../../src/engine/webgpu/kernels/largest-column.ts'
import { multiply, productOf, productShaders } from '../../../src/engine/webgpu/kernels/product.ts'
import type { Tiling } from '../../../src/engine/webgpu/kernels/tiling.ts'
import { hasSwiftShader, onlySwiftShader } from '../../swiftshader.ts'
import { numbers } from '../onnx/parity.ts'
import { difference, multiplied } from './plain.ts'
import { RawDevice } from './raw.ts'

const floats = (size: number, seed: number) => Float32Array.from(numbers(size, seed))

const products: { sides: ProductSides; turned?: [boolean, boolean]; shared?: boolean }[] = [
  { sides: { batch: 1, rows: 1, inner: 1, columns: 1 } },
  { sides: { batch: 1, rows: 3, inner: 5, columns: 17 } },
  { sides: { batch: 1, rows: 17, inner: 3, columns: 5 }, turned: [true, true] },
  { sides: { batch: 1, rows: 130, inner: 17, columns: 130 } },
  { sides: { batch: 1, rows: 128, inner: 64, columns: 128 } },
  { sides: { batch: 1, rows: 64, inner: 32, columns: 64 }, turned: [true, false] },
  { sides: { batch: 1, rows: 64, inner: 36, columns: 64 }, turned: [false, true] },
  { sides: { batch: 1, rows: 20, inner: 1030, columns: 12 }, turned: [true, true] },
  { sides: { batch: 3, rows: 5, inner: 8, columns: 12 }, turned: [false, true] },
  { sides: { batch: 3, rows: 17, inner: 4, columns: 20 }, shared: true },
  { sides: { batch: 2, rows: 1, inner: 130, columns: 3 } },
]

const wholeNumbers = (size: number, seed: number) => Int32Array.from(numbers(size, seed), (x) => Math.round(1000 * x))

const tiling = (high: number, wide: number, rows: number, columns: number, parts = 1): Tiling => ({
  ...{ high, wide, rows, columns, parts, deep: 8, stages: 2, rolled: false },
})

const tilings: Tiling[] = [
  tiling(128, 128, 8, 8),
  tiling(64, 64, 8, 4, 2),
  { ...tiling(128, 16, 8, 4, 9), deep: 16, stages: 1, rolled: true },
]

describe.skipIf(!hasSwiftShader)('products as shaders', () => {
  let device: RawDevice
  beforeAll(async () => {
    onlySwiftShader()
    device = await RawDevice.open()
  })
  afterAll(() => device.close())

  it.each(products)('are those of plain loops: $sides, turned $turned', async ({ sides, turned, shared }) => {
    const { batch, rows, inner, columns } = sides
    const [turnedLeft, turnedRight] = turned ?? [false, false]
    const left = {
      numbers: floats(batch * rows * inner, 1),
      strides: turnedLeft ? [rows * inner, 1, rows] : [rows * inner, inner, 1],
    }
    const each = shared ? 0 : inner * columns
    const right = {
      numbers: floats(batch * inner * columns, 2),
      strides: turnedRight ? [each, 1, inner] : [each, columns, 1],
    }
    const nodes = new Nodes(1)
    const [a, b] = [nodes.leaf(0, [left.numbers.length], 'float32'), nodes.leaf(1, [right.numbers.length], 'float32')]
    const made = multiply(nodes, { node: a, offset: 0, ...left }, { node: b, offset: 0, ...right }, sides)
    const given = new Map([
      [a, left.numbers],
      [b, right.numbers],
    ])
    const got = await device.compute(made, given)
    expect(difference(got, multiplied(left, right, [batch, rows, inner, columns]))).toBeLessThan(1e-5)
  })

  it('are exact for whole numbers', async () => {
    const [rows, inner, columns] = [5, 9, 7] as const
    const nodes = new Nodes(1)
    const [a, b] = [nodes.leaf(0, [rows, inner], 'int32'), nodes.leaf(1, [inner, columns], 'int32')]
    const [left, right] = [wholeNumbers(rows * inner, 3), wholeNumbers(inner * columns, 4)]
    const seen = (node: Node, wide: number) => ({ node, strides: [0, wide, 1], offset: 0 })
    const made = multiply(nodes, seen(a, inner), seen(b, columns), { batch: 1, rows, inner, columns })
    const got = await device.compute(
      made,
      new Map([
        [a, left],
        [b, right],
      ]),
    )
    const wanted = multiplied({ numbers: left, strides: [0, inner, 1] }, { numbers: right, strides: [0, columns, 1] }, [
      1,
      rows,
      inner,
      columns,
    ])
    expect([...got]).toEqual([...wanted])
  })

  it.each(tilings)('do not depend on how they are cut: $high x $wide, $parts parts', async (tiling) => {
    const [batch, rows, inner, columns] = [1, 130, 34, 132] as const
    const nodes = new Nodes(1)
    const [a, b] = [nodes.leaf(0, [1, rows, inner], 'float32'), nodes.leaf(1, [1, inner, columns], 'float32')]
    const bias = nodes.leaf(2, [columns], 'float32')
    const self = nodes.leaf(3, [1, rows, columns], 'float32')
    const [left, right, added] = [floats(rows * inner, 1), floats(inner * columns, 2), floats(columns, 3)]
    const product = productOf('product', whole(a), whole(b), { batch, rows, inner, columns })
    const shaders = productShaders(self, product, { finish: { bias, relu: true } }, device.facts, tiling)
    const given = new Map([
      [a, left],
      [b, right],
      [bias, added],
    ])
    const got = await device.run(shaders, given, self)
    const sums = multiplied(
      { numbers: left, strides: rowStrides(a.shape) },
      { numbers: right, strides: rowStrides(b.shape) },
      [batch, rows, inner, columns],
    )
    const wanted = sums.map((sum, i) => Math.max(0, sum + added[i % columns]!))
    expect(difference(got, wanted)).toBeLessThan(1e-5)
  })

  it.each([
    ['max', [3, 5, 7], false],
    ['max', [130, 6, 1], true],
    ['min', [33, 17, 203], true],
    ['max', [2, 12, 4000], true],
  ] as const)('say where rows have their %s without being stored: %j', async (kind, [rows, inner, columns], biased) => {
    const nodes = new Nodes(1)
    const [a, b] = [nodes.leaf(0, [1, rows, inner], 'float32'), nodes.leaf(1, [1, inner, columns], 'float32')]
    const bias = nodes.leaf(2, [columns], 'float32')
    // Some columns twice: of equals the first counts.
    const right = floats(inner * columns, 2).map((_, i, all) => all[i - (i % columns) + ((i % columns) >> 1)]!)
    const [left, added] = [floats(rows * inner, 1), new Float32Array(columns).fill(0.5)]
    const made = multiply(nodes, whole(a), whole(b), { batch: 1, rows, inner, columns })
    const shape = [rows, columns]
    const sum = nodes.map('add', [whole(made, shape), { node: bias, strides: [0, 1], offset: 0 }], shape, 'float32')
    const found = extremeColumn(nodes, kind, productUnder(biased ? sum : made, shape)!)
    const given = new Map([
      [a, left],
      [b, right],
      [bias, added],
    ])
    const got = await device.compute(found, given)
    const numbers = multiplied(
      { numbers: left, strides: rowStrides(a.shape) },
      { numbers: right, strides: rowStrides(b.shape) },
      [1, rows, inner, columns],
    )
    const wanted = Array.from({ length: rows }, (_, r) => {
      const row = [...numbers.subarray(r * columns, (r + 1) * columns)]
      return row.indexOf(kind === 'max' ? Math.max(...row) : Math.min(...row))
    })
    expect([...got]).toEqual(wanted)
  })
})
