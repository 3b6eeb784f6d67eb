import { type Static, Type } from 'typebox'
import type { Fault } from '../errors.ts'
import { blurSchema, blurSometimes } from './blur.ts'
import { jitterColours, jitterSchema, turnGrey } from './colour.ts'
import { cropSchema, drawBox, eraseSchema } from './crop.ts'
import type { ImageShape } from './dataset.ts'
import type { Dice } from './dice.ts'
import { warpFrom } from './warp.ts'

const amount = (maximum: number, description: string) =>
  Type.Optional(Type.Number({ minimum: 0, maximum, description }))

/** How one view of an image is drawn, from (seed, step, index); a view that names nothing is the image as it is. */
export const augmentationSchema = Type.Object(
  {
    shift: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: 1024,
        description: 'Largest shift in pixels, both axes; what enters is black.',
      }),
    ),
    flip: amount(1, 'Probability of a horizontal flip.'),
    gamma: amount(5, 'gamma = e^U(-g, g).'),
    light: amount(2, 'Strength of a linear light gradient, U(-l, l) across the image along each axis.'),
    gain: amount(1, 'gain = 1 + U(-g, g).'),
    crop: Type.Optional(cropSchema),
    rotation: amount(180, 'Largest rotation in degrees, either way; what enters is black.'),
    jitter: Type.Optional(jitterSchema),
    grey: amount(1, 'Probability of losing all colour.'),
    blur: Type.Optional(blurSchema),
    erase: Type.Optional(eraseSchema),
  },
  { additionalProperties: false, description: 'How a view of an image is drawn; one that names nothing is the image.' },
)

export type Augmentation = Static<typeof augmentationSchema>

const gammaSteps = 64

/**
 * Draws one view of the image at `from` in `bytes` into `out` at `offset`. `place` is that of the view among those of
 * the batch, 0 where absent.
 */
export type DrawView = (
  bytes: Uint8Array,
  from: number,
  out: Float32Array,
  offset: number,
  dice: Dice,
  place?: number,
) => void

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

/** Where and how bright an image is shown: what the first seven numbers of its dice say. */
interface Roll {
  dy: number
  dx: number
  flipped: boolean
  /** Where the table of its gamma begins. */
  table: number
  slopeY: number
  slopeX: number
  level: number
}

/** Numbers are drawn in one order whatever the strengths are, so that views that differ in one differ in it alone. */
function rollPlain({ shift = 0, flip = 0, light = 0, gain = 0 }: Augmentation, steps: number, dice: Dice): Roll {
  return {
    dy: dice.below(2 * shift + 1) - shift,
    dx: dice.below(2 * shift + 1) - shift,
    flipped: dice.uniform() < flip,
    table: dice.below(steps) * 256,
    slopeY: (dice.uniform() - 0.5) * light,
    slopeX: (dice.uniform() - 0.5) * light,
    level: 1 + (2 * dice.uniform() - 1) * gain,
  }
}

/** Pixels moved as a whole, without interpolation. */
function drawPlain(shape: ImageShape, tables: Float32Array) {
  const [height, width, channels] = shape
  const row = width * channels
  return (bytes: Uint8Array, from: number, out: Float32Array, offset: number, roll: Roll) => {
    const { dy, dx, flipped, table, slopeY, slopeX, level } = roll
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

/** What happens to a view once its pixels are in their places: colours, blur, erasing. */
function finishView(shape: ImageShape, { jitter, grey = 0, blur, erase }: Augmentation) {
  const [height, width, channels] = shape
  const size = height * width * channels
  return (out: Float32Array, offset: number, dice: Dice) => {
    if (jitter) jitterColours(out, offset, offset + size, channels, jitter, dice.for('jitter'))
    if (grey > 0 && dice.for('grey').uniform() < grey) turnGrey(out, offset, offset + size)
    if (blur) blurSometimes(out, offset, shape, blur, dice.for('blur'))
    if (!erase) return
    const eraseDice = dice.for('erase')
    if (eraseDice.uniform() >= erase.probability) return
    const box = drawBox(height, width, erase, eraseDice)
    for (let y = box.top; y < box.top + box.height; y++) {
      const start = offset + (y * width + box.left) * channels
      out.fill(0, start, start + box.width * channels)
    }
  }
}

/**
 * A function that draws views of images [h, w, c], cut to [0, 1] after every change: crop, rotation, flip and shift,
 * then gamma, then light and gain (methods 12.4), then jitter, grey, blur and erasing. The light at pixel (y, x) is
 * 1 + a (2y/(h-1) - 1) + b (2x/(w-1) - 1) with a, b from U(-l, l) / 2. Crop, rotation and what comes after gain draw
 * from dice of their own. A view with a crop is drawn from images of the shape `source`, any other from ones of `shape`.
 */
export function drawViews(shape: ImageShape, view: Augmentation, source: ImageShape = shape): DrawView {
  const { crop, rotation = 0 } = view
  const tables = gammaTables(view.gamma ?? 0)
  const steps = tables.length / 256
  const plain = drawPlain(shape, tables)
  const finished = view.jitter || view.grey || view.blur || view.erase
  const finish = finishView(shape, view)
  const [height, width] = crop ? source : shape
  const warp = warpFrom(shape, crop ? source : shape)
  const whole = { top: 0, left: 0, height, width }
  return (bytes, from, out, offset, dice, place = 0) => {
    const roll = rollPlain(view, steps, dice)
    if (!crop && rotation === 0 && !finished) return plain(bytes, from, out, offset, roll)
    const own = dice.for('view', place)
    if (crop || rotation > 0) {
      const box = crop ? drawBox(height, width, crop, own.for('crop')) : whole
      const angle = rotation > 0 ? ((2 * own.for('rotation').uniform() - 1) * rotation * Math.PI) / 180 : 0
      warp(bytes, from, out, offset, { ...roll, box, angle, tables })
    } else plain(bytes, from, out, offset, roll)
    finish(out, offset, own)
  }
}

/** What of a view does not fit images of this shape; pointers are relative to the view. */
export function checkView(view: Augmentation, [height, width, channels]: ImageShape): Fault[] {
  const faults: Fault[] = []
  const fault = (pointer: string, detail: string) => faults.push({ pointer, detail })
  const side = Math.min(height, width)
  if ((view.shift ?? 0) >= side)
    fault('/shift', `is ${view.shift}; the images have sides of ${side}: less would be right`)
  if (channels === 1) {
    const grey = 'the images are grey and have no colour to change: 0 would be right'
    if (view.grey) fault('/grey', grey)
    if (view.jitter?.saturation) fault('/jitter/saturation', grey)
    if (view.jitter?.hue) fault('/jitter/hue', grey)
  }
  for (const key of ['crop', 'blur', 'erase'] as const) {
    const range = view[key]
    if (range && range.smallest > range.largest)
      fault(`/${key}/smallest`, `is ${range.smallest}; it should be at most the largest, ${range.largest}`)
  }
  return faults
}
