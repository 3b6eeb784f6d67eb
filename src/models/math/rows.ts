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
