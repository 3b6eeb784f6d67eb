import type { ImageShape } from './dataset.ts'
import type { Dice } from './dice.ts'

/** Distance to the edge of a figure of radius 1 at (u, v): below 0 inside. */
type Figure = (u: number, v: number) => number

/** The outlines, in the order of the first classes. */
export const figures: readonly Figure[] = [
  /* disc */ (u, v) => Math.sqrt(u * u + v * v) - 0.9,
  /* square */ (u, v) => Math.max(Math.abs(u), Math.abs(v)) - 0.75,
  /* triangle */ (u, v) => Math.max(-v, v * 0.5 + Math.abs(u) * 0.866) - 0.5,
  /* ring */ (u, v) => Math.abs(Math.sqrt(u * u + v * v) - 0.68) - 0.22,
  /* cross */ (u, v) => {
    const a = Math.abs(u)
    const b = Math.abs(v)
    return Math.min(Math.max(a - 0.28, b - 0.95), Math.max(a - 0.95, b - 0.28))
  },
  /* bar */ (u, v) => Math.max(Math.abs(u) - 0.95, Math.abs(v) - 0.28),
  /* crescent */ (u, v) => Math.max(Math.sqrt(u * u + v * v) - 0.9, 0.7 - Math.sqrt((u - 0.45) * (u - 0.45) + v * v)),
  /* frame */ (u, v) => Math.abs(Math.max(Math.abs(u), Math.abs(v)) - 0.62) - 0.18,
]

/** Whether (u, v) lies in a dark part. */
type Texture = (u: number, v: number) => boolean

const stripes =
  (count: number): Texture =>
  (u) =>
    (Math.floor((u + 1) * count) & 1) === 1
const checks =
  (count: number): Texture =>
  (u, v) =>
    ((Math.floor((u + 1) * count) + Math.floor((v + 1) * count)) & 1) === 1
const rings =
  (count: number): Texture =>
  (u, v) =>
    (Math.floor(Math.sqrt(u * u + v * v) * 2 * count) & 1) === 1

/** What the figures are filled with. */
export const textures: readonly Texture[] = [
  () => false,
  stripes(2),
  checks(2),
  rings(2),
  stripes(4),
  checks(4),
  rings(4),
  /* half */ (_u, v) => v > 0,
]

/** How many paints there are: hues in colour, tones in grey. */
export const paints = 16

/** Red, green and blue in [0, 1] of a hue in [0, 1), full value, saturation 0.7. */
function hueColour(hue: number): [number, number, number] {
  const channel = (n: number) => {
    const k = (n + hue * 6) % 6
    return 1 - 0.7 * Math.max(0, Math.min(k, 4 - k, 1))
  }
  return [channel(5), channel(3), channel(1)]
}

function paintColour(paint: number, channels: number): readonly number[] {
  return channels === 3 ? hueColour(paint / paints) : [0.45 + (0.55 * paint) / (paints - 1)]
}

interface Placed {
  /** Centre and radius in pixels. */
  x: number
  y: number
  radius: number
  rotation: number
  colour: readonly number[]
}

/** Draws one figure over what is there; its edge is antialiased over one pixel. */
function stamp(out: Float32Array, shape: ImageShape, at: Placed, figure: Figure, texture: Texture): void {
  const [height, width, channels] = shape
  const cos = Math.cos(at.rotation) / at.radius
  const sin = Math.sin(at.rotation) / at.radius
  const reach = at.radius * 1.5 + 1
  const top = Math.max(0, Math.floor(at.y - reach))
  const bottom = Math.min(height - 1, Math.ceil(at.y + reach))
  const left = Math.max(0, Math.floor(at.x - reach))
  const right = Math.min(width - 1, Math.ceil(at.x + reach))
  for (let y = top; y <= bottom; y++)
    for (let x = left; x <= right; x++) {
      const dx = x + 0.5 - at.x
      const dy = y + 0.5 - at.y
      const u = cos * dx + sin * dy
      const v = cos * dy - sin * dx
      const cover = Math.min(1, 0.5 - figure(u, v) * at.radius)
      if (cover <= 0) continue
      const light = texture(u, v) ? 0.4 : 1
      const pixel = (y * width + x) * channels
      for (let c = 0; c < channels; c++) out[pixel + c] = out[pixel + c]! * (1 - cover) + at.colour[c]! * light * cover
    }
}

interface Drawing {
  figure: number
  texture: number
  paint: number
  x: number
  y: number
  scale: number
  rotation: number
  clutter: number
  ground: number
}

/** Draws an image [h, w, c] of bytes into `out`: ground, clutter, figure, noise. Blobs and noise come from `dice`. */
export function drawFigure(out: Uint8Array, shape: ImageShape, drawing: Drawing, noise: number, dice: Dice): void {
  const [height, width, channels] = shape
  const side = Math.min(height, width)
  const canvas = new Float32Array(out.length).fill(drawing.ground)
  for (let i = 0; i < drawing.clutter; i++) {
    const blob = {
      x: dice.uniform() * width,
      y: dice.uniform() * height,
      radius: side * (0.04 + 0.06 * dice.uniform()),
      rotation: 0,
      colour: paintColour(dice.below(paints), channels),
    }
    stamp(canvas, shape, blob, figures[dice.below(2)]!, textures[0]!)
  }
  const placed = {
    x: width / 2 + drawing.x * side,
    y: height / 2 + drawing.y * side,
    radius: drawing.scale * side,
    rotation: drawing.rotation,
    colour: paintColour(drawing.paint, channels),
  }
  stamp(canvas, shape, placed, figures[drawing.figure]!, textures[drawing.texture]!)
  for (let i = 0; i < out.length; i++) {
    const grain = noise > 0 ? (2 * dice.uniform() - 1) * noise : 0
    out[i] = Math.min(255, Math.max(0, Math.round((canvas[i]! + grain) * 255)))
  }
}
