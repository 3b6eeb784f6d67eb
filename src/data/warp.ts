import type { Box } from './crop.ts'
import type { ImageShape } from './dataset.ts'

/** Which pixels of a source a view shows, and how bright. */
export interface Placing {
  /** The part of the source that fills the view. */
  box: Box
  /** Pixels of the view by which what is shown lies lower, and further right; what enters is black. */
  dy: number
  dx: number
  /** Left and right change places, before the shift. */
  flipped: boolean
  /** Radians, about the middle of the view; what the source does not have is black. */
  angle: number
  /** Value of each byte, [256] from `table` on. */
  tables: Float32Array
  table: number
  /** Of pixel (y, x): level (1 + slopeY (2y/(h-1) - 1) + slopeX (2x/(w-1) - 1)). */
  level: number
  slopeY: number
  slopeX: number
}

/** Draws into `out` from `offset` the view of the source at `from` in `bytes`. */
type Warp = (bytes: Uint8Array, from: number, out: Float32Array, offset: number, placing: Placing) => void

/** A place within [0, length - 1]. */
function between(place: number, length: number): number {
  return place < 0 ? 0 : place > length - 1 ? length - 1 : place
}

function rise(slope: number, at: number, length: number): number {
  return length > 1 ? slope * ((2 * at) / (length - 1) - 1) : 0
}

function cut(value: number): number {
  return value > 1 ? 1 : value < 0 ? 0 : value
}

/** For one or three channels. Columns of the view as neighbouring columns of the source, whose rows are interpolated once each and kept. */
function warpUpright(shape: ImageShape, source: ImageShape): Warp {
  const [height, width, channels] = shape
  const row = width * channels
  const sourceRow = source[1] * channels
  const [lows, highs] = [new Int32Array(width), new Int32Array(width)]
  const weights = new Float64Array(width)
  const factors = new Float64Array(width)
  const kept = [new Float32Array(row), new Float32Array(row)] as const
  const keptRows = [-1, -1]

  function placeColumns({ box, dx, flipped, level, slopeX }: Placing): void {
    for (let x = 0; x < width; x++) {
      const shown = flipped ? width - 1 - (x - dx) : x - dx
      const place = between(box.left + ((shown + 0.5) * box.width) / width - 0.5, source[1])
      const low = Math.floor(place)
      lows[x] = low * channels
      highs[x] = Math.min(low + 1, source[1] - 1) * channels
      weights[x] = place - low
      factors[x] = level * rise(slopeX, x, width)
    }
  }

  function interpolateRow(y: number, bytes: Uint8Array, from: number, { tables, table }: Placing): Float32Array {
    const slot = y & 1
    const into = kept[slot]!
    if (keptRows[slot] === y) return into
    keptRows[slot] = y
    const line = from + y * sourceRow
    for (let x = 0, at = 0; x < width; x++) {
      const low = line + lows[x]!
      const high = line + highs[x]!
      const weight = weights[x]!
      const value = tables[table + bytes[low]!]!
      into[at++] = value + (tables[table + bytes[high]!]! - value) * weight
      if (channels !== 3) continue
      // Without a loop in the loop, a fifth faster.
      const green = tables[table + bytes[low + 1]!]!
      const blue = tables[table + bytes[low + 2]!]!
      into[at++] = green + (tables[table + bytes[high + 1]!]! - green) * weight
      into[at++] = blue + (tables[table + bytes[high + 2]!]! - blue) * weight
    }
    return into
  }

  return (bytes, from, out, offset, placing) => {
    const { box, dy, dx, level, slopeY } = placing
    placeColumns(placing)
    keptRows.fill(-1)
    const [first, end] = [Math.max(0, dx), Math.min(width, width + dx)]
    for (let y = 0; y < height; y++) {
      const start = offset + y * row
      const shown = y - dy
      if (shown < 0 || shown >= height || first >= end) {
        out.fill(0, start, start + row)
        continue
      }
      const place = between(box.top + ((shown + 0.5) * box.height) / height - 0.5, source[0])
      const low = Math.floor(place)
      const weight = place - low
      const upper = interpolateRow(low, bytes, from, placing)
      const lower = weight === 0 ? upper : interpolateRow(low + 1, bytes, from, placing)
      const factor = level * (1 + rise(slopeY, y, height))
      out.fill(0, start, start + first * channels)
      out.fill(0, start + end * channels, start + row)
      for (let x = first, at = first * channels; x < end; x++) {
        const gain = factor + factors[x]!
        for (const stop = at + channels; at < stop; at++) {
          const value = upper[at]!
          out[start + at] = cut((value + (lower[at]! - value) * weight) * gain)
        }
      }
    }
  }
}

/** The same with a rotation, pixel by pixel. */
function warpTurned(shape: ImageShape, source: ImageShape): Warp {
  const [height, width, channels] = shape
  const [tall, wide] = source
  return (bytes, from, out, offset, placing) => {
    const { box, dy, dx, flipped, angle, tables, table, level, slopeY, slopeX } = placing
    const [cos, sin] = [Math.cos(angle), Math.sin(angle)]
    const [midY, midX] = [(height - 1) / 2, (width - 1) / 2]
    let at = offset
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++, at += channels) {
        const v = y - dy
        const u = flipped ? width - 1 - (x - dx) : x - dx
        const sourceY = box.top + ((cos * (v - midY) - sin * (u - midX) + midY + 0.5) * box.height) / height - 0.5
        const sourceX = box.left + ((sin * (v - midY) + cos * (u - midX) + midX + 0.5) * box.width) / width - 0.5
        const inside = v >= 0 && v < height && u >= 0 && u < width
        if (!inside || sourceY < -0.5 || sourceY > tall - 0.5 || sourceX < -0.5 || sourceX > wide - 0.5) {
          out.fill(0, at, at + channels)
          continue
        }
        const fromY = between(sourceY, tall)
        const fromX = between(sourceX, wide)
        const top = Math.floor(fromY)
        const left = Math.floor(fromX)
        const below = top + 1 < tall ? wide * channels : 0
        const right = left + 1 < wide ? channels : 0
        const gain = level * (1 + rise(slopeY, y, height) + rise(slopeX, x, width))
        for (let c = 0; c < channels; c++) {
          const corner = from + (top * wide + left) * channels + c
          const upper = tables[table + bytes[corner]!]!
          const lower = tables[table + bytes[corner + below]!]!
          const inUpper = upper + (tables[table + bytes[corner + right]!]! - upper) * (fromX - left)
          const inLower = lower + (tables[table + bytes[corner + below + right]!]! - lower) * (fromX - left)
          out[at + c] = cut((inUpper + (inLower - inUpper) * (fromY - top)) * gain)
        }
      }
    }
  }
}

/** Views of `shape` from images of `source`, interpolated between neighbouring pixels. */
export function warpFrom(shape: ImageShape, source: ImageShape): Warp {
  const upright = warpUpright(shape, source)
  const turned = warpTurned(shape, source)
  return (bytes, from, out, offset, placing) =>
    (placing.angle === 0 ? upright : turned)(bytes, from, out, offset, placing)
}
