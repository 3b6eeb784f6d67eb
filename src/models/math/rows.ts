import { Diverged } from '../../errors.ts'

/** Rows of numbers: [count, width], row-major. */
export interface Rows {
  data: Float32Array
  width: number
}

/** Copies rows, each divided by its length; a row of zeros stays one. */
export function normaliseRows({ data, width }: Rows): Rows {
  const out = new Float32Array(data.length)
  for (let start = 0; start < data.length; start += width) {
    let squares = 0
    for (let i = start; i < start + width; i++) squares += data[i]! * data[i]!
    const factor = squares > 0 ? 1 / Math.sqrt(squares) : 0
    for (let i = start; i < start + width; i++) out[i] = data[i]! * factor
  }
  return { data: out, width }
}

/** The mean row, [width]. */
export function meanRow({ data, width }: Rows): Float32Array {
  const sums = new Float64Array(width)
  for (let i = 0; i < data.length; i++) sums[i % width]! += data[i]!
  const count = data.length / width
  return Float32Array.from(sums, (sum) => sum / count)
}

/** Copies rows with one row taken from each. */
export function subtractRow({ data, width }: Rows, row: Float32Array): Rows {
  return { data: data.map((value, i) => value - row[i % width]!), width }
}

/** Copies the rows at `indices`. */
export function pickRows({ data, width }: Rows, indices: ArrayLike<number>): Rows {
  const out = new Float32Array(indices.length * width)
  for (let i = 0; i < indices.length; i++)
    out.set(data.subarray(indices[i]! * width, (indices[i]! + 1) * width), i * width)
  return { data: out, width }
}

export interface Centre {
  /** The mean row. */
  centre: Float64Array
  /** Sum of squared distances to it. */
  spread: number
}

/** The mean of rows and how far they lie around it. Throws Diverged where one is no number. */
export function centreOf(rows: Rows): Centre {
  const { data, width } = rows
  const count = data.length / width
  const centre = new Float64Array(width)
  let squares = 0
  for (let from = 0; from < data.length; from += width)
    for (let c = 0; c < width; c++) {
      const value = data[from + c]!
      centre[c]! += value
      squares += value * value
    }
  if (!Number.isFinite(squares)) refuseNoNumber(rows)
  let length = 0
  for (let c = 0; c < width; c++) {
    centre[c]! /= count
    length += centre[c]! * centre[c]!
  }
  return { centre, spread: Math.max(0, squares - count * length) }
}

function refuseNoNumber({ data, width }: Rows): never {
  const place = data.findIndex((value) => !Number.isFinite(value))
  throw new Diverged(
    `number ${place % width} of row ${Math.floor(place / width)} is ${data[place]}`,
    'look for what made it: a learning rate that is too high, or damaged data',
  )
}

/** Sum of squared distances to a row. */
export function spreadAbout({ data, width }: Rows, centre: Float64Array): number {
  let sum = 0
  for (let from = 0; from < data.length; from += width)
    for (let c = 0; c < width; c++) sum += (data[from + c]! - centre[c]!) ** 2
  return sum
}

/** Whether all rows are the same. */
export function areEqual({ data, width }: Rows): boolean {
  for (let i = width; i < data.length; i++) if (data[i] !== data[i - width]) return false
  return true
}
