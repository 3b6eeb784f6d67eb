import { tf } from '../tf.ts'
import type { Attributes, Info, Kernel } from './kernel.ts'

type Quad = [number, number, number, number]

/** Numbers in the columns of a convolution's input that are unfolded at once: 32 MiB. */
const columnLimit = 2 ** 23

function convolution(shape: readonly number[], filter: readonly number[], attributes: Attributes) {
  const { strides, pad, dimRoundingMode } = attributes as {
    strides: number | [number, number]
    pad: 'same' | 'valid' | number
    dimRoundingMode?: 'floor' | 'round' | 'ceil'
  }
  return tf.backend_util.computeConv2DInfo(shape as Quad, filter as Quad, strides, 1, pad, dimRoundingMode)
}

/**
 * Writes the columns of images [c, n, h, w] from image `first` on: out[(i, j, c), (image, y, x)] is what the filter's
 * cell (i, j) sees at output (y, x), 0 in the padding.
 */
function unfold(
  images: Float32Array,
  out: Float32Array,
  info: ReturnType<typeof convolution>,
  first: number,
  count: number,
): void {
  const { batchSize, inChannels, inHeight, inWidth, outHeight, outWidth, strideHeight, strideWidth, padInfo } = info
  let at = 0
  for (let i = 0; i < info.filterHeight; i++)
    for (let j = 0; j < info.filterWidth; j++) {
      const left = j - padInfo.left
      const from = Math.min(outWidth, Math.max(0, Math.ceil(-left / strideWidth)))
      const to = Math.max(from, Math.min(outWidth, Math.floor((inWidth - 1 - left) / strideWidth) + 1))
      for (let c = 0; c < inChannels; c++)
        for (let image = first; image < first + count; image++)
          for (let y = 0; y < outHeight; y++, at += outWidth) {
            const row = y * strideHeight + i - padInfo.top
            if (row < 0 || row >= inHeight) {
              for (let x = 0; x < outWidth; x++) out[at + x] = 0
              continue
            }
            for (let x = 0; x < from; x++) out[at + x] = 0
            let source = ((c * batchSize + image) * inHeight + row) * inWidth + left + from * strideWidth
            for (let x = from; x < to; x++, source += strideWidth) out[at + x] = images[source]!
            for (let x = to; x < outWidth; x++) out[at + x] = 0
          }
    }
}

/** dW[i, j, c, o] = sum over images and outputs of the input under cell (i, j) times dy: columns x dy. */
const conv2DBackpropFilter: Kernel = (inputs, attributes, heap) => {
  const x = inputs.x!
  const dy = inputs.dy!
  const info = convolution(x.shape, attributes.filterShape as number[], attributes)
  const { batchSize, outHeight, outWidth, outChannels } = info
  const cells = info.filterHeight * info.filterWidth * info.inChannels
  const places = outHeight * outWidth
  const chunk = Math.max(1, Math.min(batchSize, Math.floor(columnLimit / (cells * places))))
  const images = heap.stock('Transpose', { x }, { perm: [3, 0, 1, 2] })
  const filter = heap.allocate([info.filterHeight, info.filterWidth, info.inChannels, outChannels])
  heap.floats(filter).fill(0)
  for (let first = 0; first < batchSize; first += chunk) {
    const count = Math.min(chunk, batchSize - first)
    const columns = heap.allocate([cells, count * places])
    unfold(heap.floats(images), heap.floats(columns), info, first, count)
    const part = heap.stock(
      'Slice',
      { x: { ...dy, shape: [batchSize, places * outChannels] } },
      { begin: [first, 0], size: [count, places * outChannels] },
    )
    const b = { ...part, shape: [count * places, outChannels] }
    const product = heap.stock('BatchMatMul', { a: columns, b }, { transposeA: false, transposeB: false })
    const sum = heap.floats(filter)
    const term = heap.floats(product)
    for (let i = 0; i < sum.length; i++) sum[i]! += term[i]!
    for (const done of [columns, part, product]) heap.free(done)
  }
  heap.free(images)
  return filter
}

/** At stride 1 a convolution of dy with the filter turned by 180 degrees, in and out channels swapped. */
const conv2DBackpropInput: Kernel = (inputs, attributes, heap) => {
  const dy = inputs.dy!
  const filter = inputs.filter!
  const info = convolution(attributes.inputShape as number[], filter.shape, attributes)
  const { filterHeight, filterWidth, padInfo } = info
  const pad = [
    [0, 0],
    [filterHeight - 1 - padInfo.top, filterHeight - 1 - padInfo.bottom],
    [filterWidth - 1 - padInfo.left, filterWidth - 1 - padInfo.right],
    [0, 0],
  ]
  const stride = Math.max(info.strideHeight, info.strideWidth)
  const plain = stride === 1 && attributes.dataFormat !== 'NCHW' && pad.flat().every((side) => side >= 0)
  if (!plain) return heap.stock('Conv2DBackpropInput', inputs, attributes)
  const turned = heap.stock('Reverse', { x: filter }, { dims: [0, 1] })
  const swapped = heap.stock('Transpose', { x: turned }, { perm: [0, 1, 3, 2] })
  const convolve = { strides: 1, pad, dilations: 1, dataFormat: 'NHWC' }
  const dx = heap.stock('Conv2D', { x: dy, filter: swapped }, convolve)
  heap.free(turned)
  heap.free(swapped)
  return dx
}

/** Each gradient goes to the first largest cell of its window, as in the cpu backend. */
const maxPoolGrad: Kernel = (inputs, attributes, heap) => {
  const input = inputs.input!
  const { filterSize, strides, pad, dimRoundingMode } = attributes as {
    filterSize: number | [number, number]
    strides: number | [number, number]
    pad: 'same' | 'valid' | number
    dimRoundingMode?: 'floor' | 'round' | 'ceil'
  }
  const info = tf.backend_util.computePool2DInfo(input.shape as Quad, filterSize, strides, 1, pad, dimRoundingMode)
  const dx = heap.allocate(input.shape)
  const [x, dy, out] = [heap.floats(input), heap.floats(inputs.dy!), heap.floats(dx)]
  out.fill(0)
  const { inHeight, inWidth, inChannels: channels, outHeight, outWidth, strideHeight, strideWidth } = info
  let at = 0
  for (let image = 0; image < info.batchSize; image++)
    for (let y = 0; y < outHeight; y++) {
      const top = y * strideHeight - info.padInfo.top
      const rows = Math.min(inHeight, top + info.filterHeight)
      for (let column = 0; column < outWidth; column++) {
        const left = column * strideWidth - info.padInfo.left
        const columns = Math.min(inWidth, left + info.filterWidth)
        for (let c = 0; c < channels; c++, at++) {
          let best = -1
          let largest = Number.NEGATIVE_INFINITY
          for (let row = Math.max(0, top); row < rows; row++)
            for (let cell = Math.max(0, left); cell < columns; cell++) {
              const place = ((image * inHeight + row) * inWidth + cell) * channels + c
              const value = x[place]!
              if (best < 0 || value > largest) {
                best = place
                largest = value
              }
            }
          out[best]! += dy[at]!
        }
      }
    }
  return dx
}

/** The backend multiplies fast only where nothing is transposed: transpose first. */
const batchMatMul: Kernel = (inputs, attributes, heap) => {
  const spent: Info[] = []
  const transposed = (x: Info): Info => {
    const perm = x.shape.map((_, axis) => axis)
    perm.push(...perm.splice(-2).reverse())
    const done = heap.stock('Transpose', { x }, { perm })
    spent.push(done)
    return done
  }
  const a = attributes.transposeA ? transposed(inputs.a!) : inputs.a!
  const b = attributes.transposeB ? transposed(inputs.b!) : inputs.b!
  const product = heap.stock('BatchMatMul', { a, b }, { transposeA: false, transposeB: false })
  for (const x of spent) heap.free(x)
  return product
}

/** A sum over leading axes is ones x numbers; the stock kernel transposes all of them first. */
const sum: Kernel = (inputs, attributes, heap) => {
  const x = inputs.x!
  const axes = tf.util.parseAxisParam(attributes.axis as number[], x.shape).sort((a, b) => a - b)
  const leading = axes.length < x.shape.length && axes.every((axis, i) => axis === i)
  const rows = tf.util.sizeFromShape(x.shape.slice(0, axes.length))
  const rest = x.shape.slice(axes.length)
  const columns = tf.util.sizeFromShape(rest)
  if (!leading || axes.length === 0 || x.dtype !== 'float32' || rows * columns === 0)
    return heap.stock('Sum', inputs, attributes)
  const ones = heap.allocate([1, rows])
  heap.floats(ones).fill(1)
  const b = { ...x, shape: [rows, columns] }
  const total = heap.stock('BatchMatMul', { a: ones, b }, { transposeA: false, transposeB: false })
  heap.free(ones)
  return { ...total, shape: attributes.keepDims ? [...axes.map(() => 1), ...rest] : rest }
}

/** out[s] = sum of the rows of x whose segment is s; a negative segment counts nowhere. */
const unsortedSegmentSum: Kernel = (inputs, attributes, heap) => {
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
const identity: Kernel = (inputs, _attributes, heap) => {
  const x = inputs.x!
  return x.dtype === 'string' ? heap.stock('Identity', inputs) : heap.share(x, x.shape)
}

/** Kernels that the wasm backend lacks, or has in a form too slow for training, composed from those it has. */
export const gradientKernels: Record<string, Kernel> = {
  BatchMatMul: batchMatMul,
  Conv2DBackpropFilter: conv2DBackpropFilter,
  Conv2DBackpropInput: conv2DBackpropInput,
  Identity: identity,
  MaxPoolGrad: maxPoolGrad,
  Sum: sum,
  UnsortedSegmentSum: unsortedSegmentSum,
}
