import { tf } from '../tf.ts'
import type { Attributes, Heap, Info, Kernel } from './kernel.ts'

type Quad = [number, number, number, number]
type Convolution = ReturnType<typeof convolution>
type Pooling = ReturnType<typeof tf.backend_util.computePool2DInfo>

/** Numbers in the columns of a convolution's input that are unfolded at once: 1 MiB, so that they stay in a cache. */
const columnLimit = 2 ** 18

function convolution(shape: readonly number[], filter: readonly number[], attributes: Attributes) {
  const { strides, pad, dimRoundingMode } = attributes as {
    strides: number | [number, number]
    pad: 'same' | 'valid' | number
    dimRoundingMode?: 'floor' | 'round' | 'ceil'
  }
  return tf.backend_util.computeConv2DInfo(shape as Quad, filter as Quad, strides, 1, pad, dimRoundingMode)
}

/** Moves rows of numbers within the heap: `rows` is called with a function (from, to, length), all in numbers. */
function copyRows(
  heap: Heap,
  from: Info,
  to: Info,
  rows: (copy: (from: number, to: number, n: number) => void) => void,
) {
  const memory = new Float32Array(heap.floats(to).buffer)
  const source = heap.floats(from).byteOffset / 4
  const target = heap.floats(to).byteOffset / 4
  rows((start, place, n) => memory.copyWithin(target + place, source + start, source + start + n))
}

function pad(x: Info, paddings: [number, number][], heap: Heap): Info {
  if (paddings.every(([before, after]) => before === 0 && after === 0)) return heap.share(x, x.shape)
  return heap.stock('PadV2', { x }, { paddings, constantValue: 0 })
}

/**
 * The columns of a convolution of stride 1 for `count` images from `first` on, from padded images [c, n, h, w]:
 * out[(i, j, c), (image, y, x)] is what cell (i, j) of the filter sees at output (y, x). x runs over the whole padded
 * width, so that each image is one run of memory; the places beyond the output's width hold what comes by.
 */
function unfold(padded: Info, info: Convolution, first: number, count: number, heap: Heap): Info {
  const [channels, images, height, width] = padded.shape as Quad
  const { filterHeight, filterWidth, outHeight } = info
  const run = outHeight * width
  const size = channels * images * height * width
  const columns = heap.allocate([filterHeight * filterWidth * channels, count * run])
  copyRows(heap, padded, columns, (copy) => {
    let at = 0
    for (let i = 0; i < filterHeight; i++)
      for (let j = 0; j < filterWidth; j++)
        for (let c = 0; c < channels; c++)
          for (let image = first; image < first + count; image++, at += run) {
            const start = (c * images + image) * height * width + i * width + j
            copy(start, at, Math.min(run, size - start))
          }
  })
  // The last image's run reaches beyond the images by what the filter is wide; those places count nothing.
  const missing = filterWidth - 1
  if (missing > 0) {
    const out = heap.floats(columns)
    const last = (filterHeight - 1) * filterWidth * channels
    for (let row = last; row < columns.shape[0]!; row++)
      for (let i = 1; i <= missing; i++) out[(row + 1) * count * run - i] = 0
  }
  return columns
}

/** dW[i, j, c, o] = sum over images and outputs of the input under cell (i, j) times dy: columns x dy. */
function filterGradient(x: Info, dy: Info, info: Convolution, heap: Heap): Info {
  const { batchSize, outHeight, outWidth, outChannels, padInfo } = info
  const cells = info.filterHeight * info.filterWidth * info.inChannels
  const sides: [number, number][] = [
    [0, 0],
    [padInfo.top, padInfo.bottom],
    [padInfo.left, padInfo.right],
    [0, 0],
  ]
  const wide = pad(x, sides, heap)
  const width = wide.shape[2]!
  const images = heap.stock('Transpose', { x: wide }, { perm: [3, 0, 1, 2] })
  heap.free(wide)
  // Zero where the columns hold what comes by.
  const wideDy = pad(
    dy,
    [
      [0, 0],
      [0, 0],
      [0, width - outWidth],
      [0, 0],
    ],
    heap,
  )
  const places = outHeight * width
  const chunk = Math.max(1, Math.min(batchSize, Math.floor(columnLimit / (cells * places))))
  const gradient = heap.allocate([info.filterHeight, info.filterWidth, info.inChannels, outChannels])
  heap.floats(gradient).fill(0)
  for (let first = 0; first < batchSize; first += chunk) {
    const count = Math.min(chunk, batchSize - first)
    const columns = unfold(images, info, first, count, heap)
    const part = heap.allocate([count * places, outChannels])
    const numbers = places * outChannels
    copyRows(heap, wideDy, part, (copy) => copy(first * numbers, 0, count * numbers))
    const product = heap.stock('BatchMatMul', { a: columns, b: part }, { transposeA: false, transposeB: false })
    const sum = heap.floats(gradient)
    const term = heap.floats(product)
    for (let i = 0; i < sum.length; i++) sum[i]! += term[i]!
    for (const done of [columns, part, product]) heap.free(done)
  }
  heap.free(images)
  heap.free(wideDy)
  return gradient
}

/** The same for any stride: a convolution of the images with dy as filter, batch and channels swapped. */
function stridedFilterGradient(x: Info, dy: Info, info: Convolution, heap: Heap): Info {
  const { filterHeight, filterWidth, inChannels, outChannels, padInfo } = info
  const images = heap.stock('Transpose', { x }, { perm: [3, 1, 2, 0] })
  const filter = heap.stock('Transpose', { x: dy }, { perm: [1, 2, 0, 3] })
  const sides = [
    [0, 0],
    [padInfo.top, padInfo.bottom],
    [padInfo.left, padInfo.right],
    [0, 0],
  ]
  const dilations = [info.strideHeight, info.strideWidth]
  const attributes = { strides: 1, pad: sides, dilations, dataFormat: 'NHWC' }
  const product = heap.stock('Conv2D', { x: images, filter }, attributes)
  const size = [inChannels, filterHeight, filterWidth, outChannels]
  // Where the stride does not divide, the last rows and columns of the images were seen by no output.
  const cut = heap.stock('Slice', { x: product }, { begin: [0, 0, 0, 0], size })
  const gradient = heap.stock('Transpose', { x: cut }, { perm: [1, 2, 0, 3] })
  for (const done of [images, filter, product, cut]) heap.free(done)
  return gradient
}

const conv2DBackpropFilter: Kernel = (inputs, attributes, heap) => {
  const { x, dy } = inputs as { x: Info; dy: Info }
  const info = convolution(x.shape, attributes.filterShape as number[], attributes)
  const plain = info.strideHeight === 1 && info.strideWidth === 1
  return plain ? filterGradient(x, dy, info, heap) : stridedFilterGradient(x, dy, info, heap)
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

/** The common case of pooling 2 x 2 without overlap or padding; odd rows and columns at the end have no gradient. */
function halvingGradient(x: Float32Array, dy: Float32Array, dx: Float32Array, info: Pooling): void {
  const { batchSize, inHeight, inWidth, inChannels: channels, outHeight, outWidth } = info
  const below = inWidth * channels
  let at = 0
  for (let image = 0; image < batchSize; image++)
    for (let y = 0; y < outHeight; y++) {
      const row = (image * inHeight + 2 * y) * below
      for (let column = 0; column < outWidth; column++) {
        const start = row + 2 * column * channels
        for (let first = start; first < start + channels; first++, at++) {
          let best = first
          let largest = x[first]!
          const right = x[first + channels]!
          const under = x[first + below]!
          const across = x[first + below + channels]!
          if (right > largest) {
            largest = right
            best = first + channels
          }
          if (under > largest) {
            largest = under
            best = first + below
          }
          if (across > largest) best = first + below + channels
          dx[best] = dy[at]!
        }
      }
    }
}

function poolingGradient(x: Float32Array, dy: Float32Array, dx: Float32Array, info: Pooling): void {
  const { inHeight, inWidth, inChannels: channels, outHeight, outWidth } = info
  let at = 0
  for (let image = 0; image < info.batchSize; image++)
    for (let y = 0; y < outHeight; y++) {
      const top = y * info.strideHeight - info.padInfo.top
      const rows = Math.min(inHeight, top + info.filterHeight)
      for (let column = 0; column < outWidth; column++) {
        const left = column * info.strideWidth - info.padInfo.left
        const columns = Math.min(inWidth, left + info.filterWidth)
        for (let c = 0; c < channels; c++, at++) {
          let best = -1
          for (let row = Math.max(0, top); row < rows; row++)
            for (let cell = Math.max(0, left); cell < columns; cell++) {
              const place = ((image * inHeight + row) * inWidth + cell) * channels + c
              if (best < 0 || x[place]! > x[best]!) best = place
            }
          dx[best]! += dy[at]!
        }
      }
    }
}

/** Each gradient goes to the first largest cell of its window, as in the cpu backend. */
const maxPoolGrad: Kernel = (inputs, attributes, heap) => {
  const input = inputs.input!
  const {
    filterSize,
    strides,
    pad: padding,
    dimRoundingMode,
  } = attributes as {
    filterSize: number | [number, number]
    strides: number | [number, number]
    pad: 'same' | 'valid' | number
    dimRoundingMode?: 'floor' | 'round' | 'ceil'
  }
  const info = tf.backend_util.computePool2DInfo(input.shape as Quad, filterSize, strides, 1, padding, dimRoundingMode)
  const dx = heap.allocate(input.shape)
  const [x, dy, out] = [heap.floats(input), heap.floats(inputs.dy!), heap.floats(dx)]
  out.fill(0)
  const { filterHeight, filterWidth, strideHeight, strideWidth, padInfo } = info
  const twos = [filterHeight, filterWidth, strideHeight, strideWidth].every((side) => side === 2)
  const inside = Object.values(padInfo).every((side) => typeof side !== 'number' || side === 0)
  if (twos && inside) halvingGradient(x, dy, out, info)
  else poolingGradient(x, dy, out, info)
  return dx
}

function swapLast(x: Info, heap: Heap): Info {
  const perm = x.shape.map((_, axis) => axis)
  perm.push(...perm.splice(-2).reverse())
  return heap.stock('Transpose', { x }, { perm })
}

/**
 * The backend multiplies fast only where nothing is transposed, so that is done first. It also repacks its right
 * factor number by number: a b^T with a large b is therefore made as (b a^T)^T.
 */
const batchMatMul: Kernel = (inputs, attributes, heap) => {
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
const sum: Kernel = (inputs, attributes, heap) => {
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
