import type { ImageShape } from './dataset.ts'
import type { Dice } from './dice.ts'

/** How one view of an image is drawn, from (seed, step, index); a view that names nothing is the image as it is. */
export interface Augmentation {
  /** Largest shift in pixels, both axes; what enters is black. */
  shift?: number
  /** Probability of a horizontal flip. */
  flip?: number
  /** gamma = e^U(-g, g). */
  gamma?: number
  /** Strength of a linear light gradient, U(-l, l) across the image along each axis. */
  light?: number
  /** gain = 1 + U(-g, g). */
  gain?: number
}

const gammaSteps = 64

/** Draws one view of the image at `from` in `bytes` into `out` at `offset`. */
export type DrawView = (bytes: Uint8Array, from: number, out: Float32Array, offset: number, dice: Dice) => void

/**
 * (byte / 255)^gamma for 64 gammas evenly spaced in the exponent, middles of equal shares of e^U(-g, g): Math.pow for
 * every pixel costs more than all the rest. Without gamma, one row of byte / 255. [steps, 256]
 */
function gammaTables(strength: number): Float32Array {
  const steps = strength === 0 ? 1 : gammaSteps
  const tables = new Float32Array(steps * 256)
  for (let row = 0; row < steps; row++) {
    const gamma = Math.exp(strength * ((2 * row + 1) / steps - 1))
    for (let byte = 0; byte < 256; byte++) tables[row * 256 + byte] = (byte / 255) ** gamma
  }
  return tables
}

/**
 * A function that draws views of images [h, w, c]: shift and flip, then gamma, then light and gain, cut to [0, 1]
 * (methods 12.4). The light at pixel (y, x) is 1 + a (2y/(h-1) - 1) + b (2x/(w-1) - 1) with a, b from U(-l, l) / 2.
 * Numbers are drawn in one order whatever the strengths are, so that views that differ in one strength differ in it
 * alone.
 */
export function drawViews(shape: ImageShape, view: Augmentation): DrawView {
  const [height, width, channels] = shape
  const { shift = 0, flip = 0, gamma = 0, light = 0, gain = 0 } = view
  const tables = gammaTables(gamma)
  const steps = tables.length / 256
  const row = width * channels
  return (bytes, from, out, offset, dice) => {
    const dy = dice.below(2 * shift + 1) - shift
    const dx = dice.below(2 * shift + 1) - shift
    const flipped = dice.uniform() < flip
    const table = dice.below(steps) * 256
    const slopeY = (dice.uniform() - 0.5) * light
    const slopeX = (dice.uniform() - 0.5) * light
    const level = 1 + (2 * dice.uniform() - 1) * gain
    const riseX = width > 1 ? (2 * slopeX * level) / (width - 1) : 0
    const stride = flipped ? -channels : channels
    for (let y = 0; y < height; y++) {
      let at = offset + y * row
      const sourceY = y - dy
      if (sourceY < 0 || sourceY >= height) {
        out.fill(0, at, at + row)
        continue
      }
      let factor = level * (1 + (height > 1 ? slopeY * ((2 * y) / (height - 1) - 1) : 0) - (width > 1 ? slopeX : 0))
      const line = from + sourceY * row
      let source = line + (flipped ? width - 1 + dx : -dx) * channels
      for (let x = 0; x < width; x++) {
        const inside = source >= line && source < line + row
        for (let c = 0; c < channels; c++) {
          const value = inside ? tables[table + bytes[source + c]!]! * factor : 0
          out[at++] = value > 1 ? 1 : value < 0 ? 0 : value
        }
        source += stride
        factor += riseX
      }
    }
  }
}
