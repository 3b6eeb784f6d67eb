import { type Static, Type } from 'typebox'
import type { Dice } from './dice.ts'

const strength = (most: number, description: string) =>
  Type.Number({ minimum: 0, maximum: most, default: 0, description })

/** Changes of colour, one after the other in a random order. */
export const jitterSchema = Type.Object(
  {
    probability: Type.Number({ minimum: 0, maximum: 1, default: 0.8, description: 'Of being applied.' }),
    brightness: strength(1, 'Times 1 + U(-b, b).'),
    contrast: strength(1, 'Distance from the mean grey of the image, times 1 + U(-c, c).'),
    saturation: strength(1, 'Distance from the own grey of a pixel, times 1 + U(-s, s).'),
    hue: strength(0.5, 'Turned by U(-h, h) of the circle of colours.'),
  },
  { additionalProperties: false, description: 'Random changes of colour, in a random order (colour jitter).' },
)

export type Jitter = Static<typeof jitterSchema>

/** Pixels [n, c] of an image, in [0, 1], from `start` to `end` of an array. */
type Change = (pixels: Float32Array, start: number, end: number, channels: number, amount: number) => void

// What red, green and blue weigh in grey (ITU-R BT.601).
const [redWeight, greenWeight, blueWeight] = [0.299, 0.587, 0.114]

// A declaration: an arrow function that is made inside or between hot loops costs more than what it does.
function cut(value: number): number {
  return value > 1 ? 1 : value < 0 ? 0 : value
}

const brighten: Change = (pixels, start, end, _channels, factor) => {
  for (let i = start; i < end; i++) pixels[i] = cut(pixels[i]! * factor)
}

function meanGrey(pixels: Float32Array, start: number, end: number, channels: number): number {
  let sum = 0
  if (channels === 3)
    for (let i = start; i < end; i += 3)
      sum += redWeight * pixels[i]! + greenWeight * pixels[i + 1]! + blueWeight * pixels[i + 2]!
  else for (let i = start; i < end; i++) sum += pixels[i]!
  return sum / ((end - start) / (channels === 3 ? 3 : 1))
}

const contrast: Change = (pixels, start, end, channels, factor) => {
  const mean = meanGrey(pixels, start, end, channels)
  for (let i = start; i < end; i++) pixels[i] = cut(mean + (pixels[i]! - mean) * factor)
}

const saturate: Change = (pixels, start, end, _channels, factor) => {
  for (let i = start; i < end; i += 3) {
    const red = pixels[i]!
    const green = pixels[i + 1]!
    const blue = pixels[i + 2]!
    const grey = redWeight * red + greenWeight * green + blueWeight * blue
    pixels[i] = cut(grey + (red - grey) * factor)
    pixels[i + 1] = cut(grey + (green - grey) * factor)
    pixels[i + 2] = cut(grey + (blue - grey) * factor)
  }
}

const turnHue: Change = (pixels, start, end, _channels, turn) => {
  for (let i = start; i < end; i += 3) {
    const red = pixels[i]!
    const green = pixels[i + 1]!
    const blue = pixels[i + 2]!
    const most = Math.max(red, green, blue)
    const least = Math.min(red, green, blue)
    const span = most - least
    if (span === 0) continue
    const hue =
      most === red ? (green - blue) / span : most === green ? 2 + (blue - red) / span : 4 + (red - green) / span
    const turned = hue + 6 * turn
    const place = turned - 6 * Math.floor(turned / 6)
    const sixth = Math.min(Math.floor(place), 5)
    const way = place - sixth
    const falling = most - span * way
    const rising = least + span * way
    pixels[i] = sixth === 0 || sixth === 5 ? most : sixth === 1 ? falling : sixth === 4 ? rising : least
    pixels[i + 1] = sixth === 1 || sixth === 2 ? most : sixth === 3 ? falling : sixth === 0 ? rising : least
    pixels[i + 2] = sixth === 3 || sixth === 4 ? most : sixth === 5 ? falling : sixth === 2 ? rising : least
  }
}

const changes = [brighten, contrast, saturate, turnHue]

/** Changes the colours of one image in place; an amount that changes nothing is passed over. */
export function jitterColours(
  pixels: Float32Array,
  start: number,
  end: number,
  channels: number,
  wanted: Jitter,
  dice: Dice,
): void {
  const applied = dice.uniform() < wanted.probability
  const amounts = [
    ...[wanted.brightness, wanted.contrast, wanted.saturation].map((most) => 1 + (2 * dice.uniform() - 1) * most),
    (2 * dice.uniform() - 1) * wanted.hue,
  ]
  const order = dice.permutation(changes.length)
  if (!applied) return
  for (const which of order) {
    const nothing = which === 3 ? 0 : 1
    if (amounts[which] !== nothing) changes[which]!(pixels, start, end, channels, amounts[which]!)
  }
}

/** Every pixel takes its own grey, in place. */
export function turnGrey(pixels: Float32Array, start: number, end: number): void {
  for (let i = start; i < end; i += 3) {
    const grey = redWeight * pixels[i]! + greenWeight * pixels[i + 1]! + blueWeight * pixels[i + 2]!
    pixels[i] = grey
    pixels[i + 1] = grey
    pixels[i + 2] = grey
  }
}
