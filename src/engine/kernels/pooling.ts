import { tf } from '../../tf.ts'
import type { Kernel } from '../kernel.ts'

type Quad = [number, number, number, number]
type Pooling = ReturnType<typeof tf.backend_util.computePool2DInfo>

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
export const maxPoolGrad: Kernel = (inputs, attributes, heap) => {
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
