import { tf } from '../../tf.ts'
import type { Heap, Info, Kernel } from '../kernel.ts'

function swapLast(x: Info, heap: Heap): Info {
  const perm = x.shape.map((_, axis) => axis)
  perm.push(...perm.splice(-2).reverse())
  return heap.stock('Transpose', { x }, { perm })
}

/**
 * The backend multiplies fast only where nothing is transposed, so that is done first. It also repacks its right
 * factor number by number: a b^T with a large b is therefore made as (b a^T)^T.
 */
export const batchMatMul: Kernel = (inputs, attributes, heap) => {
  const { a, b } = inputs as { a: Info; b: Info }
  const untransposed = { transposeA: false, transposeB: false }
  const turned = attributes.transposeB && !attributes.transposeA && b.shape.at(-2)! > 4 * a.shape.at(-2)!
  if (turned) {
    const right = swapLast(a, heap)
    const product = heap.stock('BatchMatMul', { a: b, b: right }, untransposed)
    const result = swapLast(product, heap)
    heap.free(right)
    heap.free(product)
    return result
  }
  const left = attributes.transposeA ? swapLast(a, heap) : heap.share(a, a.shape)
  const right = attributes.transposeB ? swapLast(b, heap) : heap.share(b, b.shape)
  const product = heap.stock('BatchMatMul', { a: left, b: right }, untransposed)
  heap.free(left)
  heap.free(right)
  return product
}

/**
 * The stock kernel transposes everything before it sums over leading axes; average pooling over all of them but the
 * first does not, and is ten times as fast.
 */
export const sum: Kernel = (inputs, attributes, heap) => {
  const x = inputs.x!
  const axes = tf.util.parseAxisParam(attributes.axis as number[], x.shape).sort((a, b) => a - b)
  const rest = x.shape.slice(axes.length)
  const leading = axes.length > 0 && rest.length > 0 && axes.every((axis, i) => axis === i)
  if (!leading || x.dtype !== 'float32' || x.shape.includes(0)) return heap.stock('Sum', inputs, attributes)
  const width = tf.util.sizeFromShape(rest)
  const [rows, inner] = [x.shape[0]!, tf.util.sizeFromShape(x.shape.slice(1, axes.length))]
  const means = inner === 1 ? heap.share(x, x.shape) : averages({ ...x, shape: [rows, inner, 1, width] }, heap)
  const out = heap.allocate(attributes.keepDims ? [...axes.map(() => 1), ...rest] : rest)
  const numbers = heap.floats({ ...means, shape: [rows, width] })
  const sums = new Float64Array(width)
  for (let start = 0; start < numbers.length; start += width)
    for (let i = 0; i < width; i++) sums[i]! += numbers[start + i]!
  heap.floats(out).set(sums.map((total) => total * inner))
  heap.free(means)
  return out
}

/** The means over axis 1 of x [rows, inner, 1, width]. */
function averages(x: Info, heap: Heap): Info {
  return heap.stock('AvgPool', { x }, { filterSize: [x.shape[1]!, 1], strides: 1, pad: 'valid' })
}

/** out[s] = sum of the rows of x whose segment is s; a negative segment counts nowhere. */
export const unsortedSegmentSum: Kernel = (inputs, attributes, heap) => {
  const x = inputs.x!
  const numSegments = attributes.numSegments as number
  const rank = inputs.segmentIds!.shape.length
  const rest = x.shape.slice(rank)
  const width = tf.util.sizeFromShape(rest)
  const integer = x.dtype === 'int32'
  const out = heap.allocate([numSegments, ...rest], integer ? 'int32' : 'float32')
  const segments = heap.integers(inputs.segmentIds!)
  const [from, to] = integer ? [heap.integers(x), heap.integers(out)] : [heap.floats(x), heap.floats(out)]
  to.fill(0)
  for (let row = 0; row < segments.length; row++) {
    const segment = segments[row]!
    if (segment < 0 || segment >= numSegments) continue
    for (let i = 0; i < width; i++) to[segment * width + i]! += from[row * width + i]!
  }
  return out
}

/** The stock kernel copies, and every tensor saved for a gradient passes through here. */
export const identity: Kernel = (inputs, _attributes, heap) => {
  const x = inputs.x!
  return x.dtype === 'string' ? heap.stock('Identity', inputs) : heap.share(x, x.shape)
}
