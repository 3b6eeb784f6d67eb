import type { Window } from '../../../src/engine/graph/window.ts'

type Quad = readonly [number, number, number, number]

export interface Convolution {
  images: Quad
  /** [kh, kw, in, out] */
  filter: Quad
  window: Window
  /** [n, oh, ow, out] */
  results: Quad
}

/** A convolution's numbers; `pads` are top, left, bottom, right. */
export function convolutionOf(
  images: Quad,
  [high, broad, out]: readonly [number, number, number],
  strides: readonly [number, number] = [1, 1],
  pads: Quad = [0, 0, 0, 0],
  dilations: readonly [number, number] = [1, 1],
): Convolution {
  const [n, height, width, channels] = images
  const along = (size: number, kernel: number, axis: 0 | 1) =>
    Math.floor((size + pads[axis]! + pads[axis + 2]! - (kernel - 1) * dilations[axis] - 1) / strides[axis]) + 1
  return {
    images,
    filter: [high, broad, channels, out],
    window: { kernel: [high, broad], strides, dilations, pads },
    results: [n, along(height, high, 0), along(width, broad, 1), out],
  }
}

/** Calls for each product of the convolution with the places of its image, filter and result. */
export function eachProduct(
  { images, filter, window, results }: Convolution,
  call: (x: number, w: number, y: number) => void,
): void {
  const [, height, width, channels] = images
  const [high, broad, , out] = filter
  const [n, outHeight, outWidth] = results
  const { strides, dilations, pads } = window
  for (let image = 0; image < n; image++)
    for (let oy = 0; oy < outHeight; oy++)
      for (let ox = 0; ox < outWidth; ox++)
        for (let i = 0; i < high; i++)
          for (let j = 0; j < broad; j++) {
            const y = oy * strides[0] + i * dilations[0] - pads[0]
            const x = ox * strides[1] + j * dilations[1] - pads[1]
            if (y < 0 || y >= height || x < 0 || x >= width) continue
            const from = ((image * height + y) * width + x) * channels
            const to = ((image * outHeight + oy) * outWidth + ox) * out
            for (let c = 0; c < channels; c++)
              for (let o = 0; o < out; o++) call(from + c, ((i * broad + j) * channels + c) * out + o, to + o)
          }
}

export interface Strided {
  numbers: ArrayLike<number>
  strides: readonly number[]
  offset?: number
}

/** A product in double precision. */
export function multiplied(
  left: Strided,
  right: Strided,
  [batch, rows, inner, columns]: readonly [number, number, number, number],
): Float64Array {
  const made = new Float64Array(batch * rows * columns)
  const at = ({ numbers, strides, offset = 0 }: Strided, ...place: number[]) =>
    numbers[place.reduce((sum, by, i) => sum + by * strides[i]!, offset)]!
  for (let b = 0; b < batch; b++)
    for (let r = 0; r < rows; r++)
      for (let c = 0; c < columns; c++) {
        let sum = 0
        for (let k = 0; k < inner; k++) sum += at(left, b, r, k) * at(right, b, k, c)
        made[(b * rows + r) * columns + c] = sum
      }
  return made
}

/** The largest difference, relative to the largest number that was wanted; NaN where kinds of numbers differ. */
export function difference(got: ArrayLike<number>, wanted: ArrayLike<number>): number {
  if (got.length !== wanted.length) return Number.NaN
  let [worst, largest] = [0, 0]
  for (let i = 0; i < wanted.length; i++) {
    if (Object.is(got[i], wanted[i])) continue
    const apart = Math.abs(got[i]! - wanted[i]!)
    if (!(apart <= worst)) worst = apart
    if (Number.isNaN(apart)) return apart
    largest = Math.max(largest, Math.abs(wanted[i]!))
  }
  return worst === 0 ? 0 : worst / largest
}
