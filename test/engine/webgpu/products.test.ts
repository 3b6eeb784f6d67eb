import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Nodes, type ProductSides } from '../../../src/engine/graph/node.ts'
import { multiply } from '../../../src/engine/webgpu/kernels/product.ts'
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
})
