import { tf } from '../../tf.ts'
import type { Attributes, Heap, Info, Kernel } from '../kernel.ts'

type Quad = [number, number, number, number]
type Convolution = ReturnType<typeof convolution>

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

/** The padding around images [n, h, w, c]. */
function paddings({ padInfo }: Convolution): [number, number][] {
  return [
    [0, 0],
    [padInfo.top, padInfo.bottom],
    [padInfo.left, padInfo.right],
    [0, 0],
  ]
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

/** dy of `count` images from `first` on, [(image, y, x), o] with x over `width` places: 0 beyond the output's width. */
function widen(dy: Info, info: Convolution, first: number, count: number, width: number, heap: Heap): Info {
  const { outHeight, outWidth, outChannels } = info
  const wide = heap.allocate([count * outHeight * width, outChannels])
  if (width > outWidth) heap.floats(wide).fill(0)
  copyRows(heap, dy, wide, (copy) => {
    for (let row = 0; row < count * outHeight; row++)
      copy((first * outHeight + row) * outWidth * outChannels, row * width * outChannels, outWidth * outChannels)
  })
  return wide
}

/** dW[i, j, c, o] = sum over images and outputs of the input under cell (i, j) times dy: columns x dy. */
function filterGradient(x: Info, dy: Info, info: Convolution, heap: Heap): Info {
  const { batchSize, filterHeight, filterWidth, inChannels, outHeight, outChannels } = info
  const padded = heap.stock('PadV2', { x }, { paddings: paddings(info), constantValue: 0 })
  const width = padded.shape[2]!
  const images = heap.stock('Transpose', { x: padded }, { perm: [3, 0, 1, 2] })
  heap.free(padded)
  const cells = filterHeight * filterWidth * inChannels
  const chunk = Math.max(1, Math.floor(columnLimit / (cells * outHeight * width)))
  const gradient = heap.allocate([filterHeight, filterWidth, inChannels, outChannels])
  heap.floats(gradient).fill(0)
  for (let first = 0; first < batchSize; first += chunk) {
    const count = Math.min(chunk, batchSize - first)
    const columns = unfold(images, info, first, count, heap)
    const part = widen(dy, info, first, count, width, heap)
    const product = heap.stock('BatchMatMul', { a: columns, b: part }, { transposeA: false, transposeB: false })
    const sum = heap.floats(gradient)
    const term = heap.floats(product)
    for (let i = 0; i < sum.length; i++) sum[i]! += term[i]!
    for (const done of [columns, part, product]) heap.free(done)
  }
  heap.free(images)
  return gradient
}

/** The same for any stride: a convolution of the images with dy as filter, batch and channels swapped. */
function stridedFilterGradient(x: Info, dy: Info, info: Convolution, heap: Heap): Info {
  const { filterHeight, filterWidth, inChannels, outChannels } = info
  const images = heap.stock('Transpose', { x }, { perm: [3, 1, 2, 0] })
  const filter = heap.stock('Transpose', { x: dy }, { perm: [1, 2, 0, 3] })
  const dilations = [info.strideHeight, info.strideWidth]
  const attributes = { strides: 1, pad: paddings(info), dilations, dataFormat: 'NHWC' }
  const product = heap.stock('Conv2D', { x: images, filter }, attributes)
  const size = [inChannels, filterHeight, filterWidth, outChannels]
  // Where the stride does not divide, the last rows and columns of the images were seen by no output.
  const cut = heap.stock('Slice', { x: product }, { begin: [0, 0, 0, 0], size })
  const gradient = heap.stock('Transpose', { x: cut }, { perm: [1, 2, 0, 3] })
  for (const done of [images, filter, product, cut]) heap.free(done)
  return gradient
}

export const conv2DBackpropFilter: Kernel = (inputs, attributes, heap) => {
  const { x, dy } = inputs as { x: Info; dy: Info }
  const info = convolution(x.shape, attributes.filterShape as number[], attributes)
  const plain = info.strideHeight === 1 && info.strideWidth === 1
  return plain ? filterGradient(x, dy, info, heap) : stridedFilterGradient(x, dy, info, heap)
}

/** At stride 1 a convolution of dy with the filter turned by 180 degrees, in and out channels swapped. */
export const conv2DBackpropInput: Kernel = (inputs, attributes, heap) => {
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
