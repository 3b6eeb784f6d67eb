import type { Node } from '../../graph/node.ts'
import { type Quad, quad, type Window } from '../../graph/window.ts'
import type { Found, Side } from './side.ts'

/** Numbers under windows: which of the two is across and which within is the caller's. */
interface Unfolded {
  /** Statements for a pixel of the convolution's results, and for a place in its window. */
  pixel(name: string, place: string): string
  cell(name: string, place: string): string
  find(pixel: string, cell: string): Found
}

/** Images [n, h, w, c] as a convolution with results [n, oh, ow] sees them, `unit` channels at once. */
function unfold(
  images: Quad,
  [outHeight, outWidth]: readonly [number, number],
  window: Window,
  unit: number,
): Unfolded {
  const [, height, width, channels] = images
  const { kernel, strides, dilations, pads } = window
  const deep = channels / unit
  const inside =
    pads.every((pad) => pad <= 0) &&
    (outHeight - 1) * strides[0] + (kernel[0] - 1) * dilations[0] < height &&
    (outWidth - 1) * strides[1] + (kernel[1] - 1) * dilations[1] < width
  return {
    // Numbers without a sign: what is above or left of an image is far beyond its other side.
    pixel: (name, place) => `let ${name}_p = ${place};
let ${name}_t = ${name}_p / ${outWidth}u;
let ${name}_y = (${name}_t % ${outHeight}u) * ${strides[0]}u - ${unsigned(pads[0])};
let ${name}_x = (${name}_p % ${outWidth}u) * ${strides[1]}u - ${unsigned(pads[1])};
let ${name}_at = (((${name}_t / ${outHeight}u) * ${height}u + ${name}_y) * ${width}u + ${name}_x) * ${deep}u;`,
    cell: (name, place) => `let ${name}_p = ${place};
let ${name}_t = ${name}_p / ${deep}u;
let ${name}_y = (${name}_t / ${kernel[1]}u) * ${dilations[0]}u;
let ${name}_x = (${name}_t % ${kernel[1]}u) * ${dilations[1]}u;
let ${name}_at = (${name}_y * ${width}u + ${name}_x) * ${deep}u + ${name}_p % ${deep}u;`,
    find: (pixel, cell) => ({
      place: `${pixel}_at + ${cell}_at`,
      ...(inside ? {} : { valid: `${pixel}_y + ${cell}_y < ${height}u && ${pixel}_x + ${cell}_x < ${width}u` }),
    }),
  }
}

/** A whole number as one without sign, which wraps. */
export const unsigned = (number: number) => `${number < 0 ? 2 ** 32 + number : number}u`

/** Rows are pixels, the inner places a window's cells and channels. */
export function pixelsByCells(x: Node, [, outHeight, outWidth]: Quad, window: Window): Side {
  const images = quad(x.shape)
  const four = images[3] % 4 === 0 ? 'inner' : undefined
  const { pixel, cell, find } = unfold(images, [outHeight, outWidth], window, four ? 4 : 1)
  return { node: x, four, next: 'inner', settle: pixel, step: cell, find }
}

/** Rows are a window's cells and channels, the inner places pixels. */
export function cellsByPixels(x: Node, [, outHeight, outWidth]: Quad, window: Window): Side {
  const images = quad(x.shape)
  const four = images[3] % 4 === 0 ? 'across' : undefined
  const { pixel, cell, find } = unfold(images, [outHeight, outWidth], window, four ? 4 : 1)
  return {
    ...{ node: x, four, next: 'across' },
    settle: cell,
    step: pixel,
    find: (across, inner) => find(inner, across),
  }
}
