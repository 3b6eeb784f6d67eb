import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Node, Nodes, whole } from '../../../src/engine/graph/node.ts'
import { convolve } from '../../../src/engine/webgpu/kernels/convolution.ts'
import { filterGradient } from '../../../src/engine/webgpu/kernels/filter-gradient.ts'
import { inputGradient } from '../../../src/engine/webgpu/kernels/input-gradient.ts'
import { hasSwiftShader, onlySwiftShader } from '../../swiftshader.ts'
import { numbers } from '../onnx/parity.ts'
import { type Convolution, convolutionOf, difference, eachProduct } from './plain.ts'
import { RawDevice } from './raw.ts'

const sizeOf = (shape: readonly number[]) => shape.reduce((size, side) => size * side, 1)
const floats = (shape: readonly number[], seed: number) => Float32Array.from(numbers(sizeOf(shape), seed))

const convolutions: [string, Convolution][] = [
  ['of a pixel', convolutionOf([1, 1, 1, 1], [1, 1, 1])],
  ['of pixels by themselves', convolutionOf([2, 3, 5, 4], [1, 1, 8])],
  ['of pixels by themselves, one channel', convolutionOf([3, 5, 3, 1], [1, 1, 17])],
  ['with a window and zeros around', convolutionOf([2, 5, 7, 8], [3, 3, 16], [1, 1], [1, 1, 1, 1])],
  ['of colours', convolutionOf([2, 9, 6, 3], [5, 3, 5], [1, 1], [2, 1, 2, 1])],
  ['without zeros around', convolutionOf([1, 6, 5, 4], [3, 2, 3])],
  ['with strides', convolutionOf([2, 8, 7, 4], [3, 3, 4], [2, 2], [0, 1, 1, 1])],
  ['with strides wider than the window', convolutionOf([1, 7, 8, 4], [1, 1, 4], [2, 3])],
  ['with strides that differ', convolutionOf([1, 7, 9, 3], [2, 5, 4], [3, 2], [1, 2, 0, 2])],
  ['with dilations', convolutionOf([1, 9, 8, 4], [3, 3, 5], [1, 1], [2, 3, 2, 3], [2, 3])],
  ['with strides and dilations', convolutionOf([2, 9, 11, 1], [3, 2, 4], [2, 4], [1, 0, 2, 1], [2, 6])],
  ['with more zeros around than its window needs', convolutionOf([1, 3, 4, 2], [2, 2, 3], [1, 1], [3, 2, 2, 4])],
]

describe.skipIf(!hasSwiftShader)('convolutions as shaders', () => {
  let device: RawDevice
  beforeAll(async () => {
    onlySwiftShader()
    device = await RawDevice.open()
  })
  afterAll(() => device.close())

  const compute = (made: Node, given: [Node, Float32Array][]) => device.compute(made, new Map(given))

  it.each(convolutions)('are those of plain loops, and so are their gradients: %s', async (_title, own) => {
    const { images, filter, window, results } = own
    const nodes = new Nodes(1)
    const [x, w, dy] = [images, filter, results].map((shape, i) => nodes.leaf(i, shape, 'float32')) as [
      Node,
      Node,
      Node,
    ]
    const [xs, ws, ds] = [floats(images, 1), floats(filter, 2), floats(results, 3)]
    const wanted = [results, images, filter].map((shape) => new Float64Array(sizeOf(shape)))
    const [y, dx, dw] = wanted as [Float64Array, Float64Array, Float64Array]
    eachProduct(own, (i, j, k) => {
      y[k]! += xs[i]! * ws[j]!
      dx[i]! += ds[k]! * ws[j]!
      dw[j]! += xs[i]! * ds[k]!
    })
    const [filters, pixels, gradients]: [Node, Float32Array][] = [
      [w, ws],
      [x, xs],
      [dy, ds],
    ]
    const forward = await compute(convolve(nodes, x, whole(w), window, results), [filters!, pixels!])
    expect(difference(forward, y), 'results').toBeLessThan(1e-5)
    const back = inputGradient(nodes, dy, whole(w), filter, window, images)
    expect(difference(await compute(back, [filters!, gradients!]), dx), 'input gradient').toBeLessThan(1e-5)
    const turned = filterGradient(nodes, x, dy, window, filter)
    expect(difference(await compute(turned, [pixels!, gradients!]), dw), 'filter gradient').toBeLessThan(1e-5)
  })
})
