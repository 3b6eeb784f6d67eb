import { type Static, Type } from 'typebox'
import type { ImageShape } from './dataset.ts'
import type { Dice } from './dice.ts'

const sigma = (value: number, description: string) =>
  Type.Number({ minimum: 0.05, maximum: 20, default: value, description })

/** Each pixel takes the mean of those around it, weighed by a Gaussian. */
export const blurSchema = Type.Object(
  {
    probability: Type.Number({ minimum: 0, maximum: 1, default: 0.5, description: 'Of being applied.' }),
    smallest: sigma(0.1, 'Smallest standard deviation, in pixels.'),
    largest: sigma(2, 'Largest standard deviation, in pixels.'),
  },
  { additionalProperties: false, description: 'Gaussian blur.' },
)

export type Blur = Static<typeof blurSchema>

/** Weights at distance 0, 1, ... to three deviations; with their mirror they add up to 1. */
export function gaussian(deviation: number): Float64Array {
  const weights = Float64Array.from({ length: Math.ceil(3 * deviation) + 1 }, (_, distance) =>
    Math.exp(-0.5 * (distance / deviation) ** 2),
  )
  const sum = weights.reduce((total, weight, distance) => total + (distance === 0 ? weight : 2 * weight), 0)
  return weights.map((weight) => weight / sum)
}

/** A line of numbers, `step` apart, blurred along itself; beyond its ends they go on as they end. */
function blurLine(
  padded: Float64Array,
  reach: number,
  weights: Float64Array,
  out: Float32Array,
  at: number,
  step: number,
) {
  const length = padded.length - 2 * reach
  for (let i = 0, to = at; i < length; i++, to += step) {
    const centre = i + reach
    let value = padded[centre]! * weights[0]!
    for (let distance = 1; distance <= reach; distance++)
      value += (padded[centre - distance]! + padded[centre + distance]!) * weights[distance]!
    out[to] = value
  }
}

/** Blurs one image [h, w, c] in place, along rows and then along columns. */
function blurImage(pixels: Float32Array, start: number, [height, width, channels]: ImageShape, deviation: number) {
  const weights = gaussian(deviation)
  const reach = weights.length - 1
  const along = (length: number, step: number, lines: number, begin: (line: number) => number) => {
    const padded = new Float64Array(length + 2 * reach)
    for (let line = 0; line < lines; line++) {
      const first = begin(line)
      for (let i = 0, at = first; i < length; i++, at += step) padded[reach + i] = pixels[at]!
      padded.fill(padded[reach]!, 0, reach)
      padded.fill(padded[reach + length - 1]!, reach + length)
      blurLine(padded, reach, weights, pixels, first, step)
    }
  }
  const row = width * channels
  along(width, channels, height * channels, (line) => start + Math.floor(line / channels) * row + (line % channels))
  along(height, row, row, (line) => start + line)
}

/** Blurs one image in place, or leaves it as it is. */
export function blurSometimes(pixels: Float32Array, start: number, shape: ImageShape, wanted: Blur, dice: Dice): void {
  const applied = dice.uniform() < wanted.probability
  const deviation = wanted.smallest + (wanted.largest - wanted.smallest) * dice.uniform()
  if (applied) blurImage(pixels, start, shape, deviation)
}
