import { gibibytes, TooLarge } from '../../errors.ts'
import { type Largest, largestHere, type Tensor2D, tf, type Variable } from '../../tf.ts'
import type { Dice } from '../dice.ts'

/** One remembered feature for every training image, on the engine. */
export interface MemoryBank {
  /** [size x dimension], row after row. */
  readonly values: Variable
  readonly size: number
  readonly dimension: number
}

function normalise(row: Float32Array): void {
  let squares = 0
  for (const value of row) squares += value * value
  if (squares === 0) return
  const factor = 1 / Math.sqrt(squares)
  for (let i = 0; i < row.length; i++) row[i]! *= factor
}

/** Why so many rows for so many numbers are too many for one tensor, and what would fit; undefined where they are not. */
export function tooManyRows(
  size: number,
  dimension: number,
  { bytes, of }: Largest,
): { why: string; cure: string } | undefined {
  const wanted = 4 * size * dimension
  if (wanted <= bytes) return undefined
  const [fewer, shorter] = [Math.floor(bytes / 4 / dimension), Math.floor(bytes / 4 / size)]
  const why = `${size} rows of ${dimension} numbers take ${gibibytes(wanted, 2)}, and ${of} takes up to ${gibibytes(bytes, 2)} in one piece`
  const images = `at most ${fewer} training images of ${dimension} numbers`
  return { why, cure: shorter > 1 ? `${shorter} numbers for each would fit, or ${images}` : `${images} would fit` }
}

/** Throws TooLarge, with what would fit, where the present engine does not take so many rows; before they are drawn. */
export function admitRows(what: string, size: number, dimension: number): void {
  const found = tooManyRows(size, dimension, largestHere())
  if (found) throw new TooLarge(`${what} does not fit: ${found.why}`, `${found.cure}; or take another GPU, or none`)
}

/** Random rows of length 1 (coordinates drawn evenly, then normalised), row-major. */
export function drawRows(size: number, dimension: number, dice: Dice): Float32Array {
  const rows = Float32Array.from({ length: size * dimension }, () => 2 * dice.uniform() - 1)
  for (let i = 0; i < size; i++) normalise(rows.subarray(i * dimension, (i + 1) * dimension))
  return rows
}

/** A bank of the rows given. */
export function newBank(rows: Float32Array, dimension: number): MemoryBank {
  const values = tf.tidy(() => tf.variable(tf.tensor1d(rows), false))
  return { values, size: rows.length / dimension, dimension }
}

/** Puts these rows in the place of all. */
export function fillBank({ values }: MemoryBank, rows: Float32Array): void {
  tf.tidy(() => values.assign(tf.tensor1d(rows)))
}

/** All rows, [size, dimension]. */
export function rowsOf({ values, size, dimension }: MemoryBank): Tensor2D {
  return tf.reshape(values, [size, dimension])
}

/** The rows at `indices`, [indices, dimension]. */
export function readBank(bank: MemoryBank, indices: Int32Array): Tensor2D {
  return tf.gather(rowsOf(bank), tf.tensor1d(indices, 'int32'))
}

/** For each place of a batch the last one with the same image. */
function lastPlaces(indices: Int32Array): Int32Array {
  const last = new Map<number, number>()
  for (const [place, index] of indices.entries()) last.set(index, place)
  return indices.map((index) => last.get(index)!)
}

/** Squared lengths are no less: a row of zeros stays one. */
const leastSquares = 1e-30

/**
 * M_i <- normalised (momentum M_i + (1 - momentum) f_i) for the images of a batch; features [batch, dimension]. Of an
 * image that is in the batch twice the last feature counts, as with an indexed copy: its places write equal rows.
 * Reads no number.
 */
export function updateBank(bank: MemoryBank, indices: Int32Array, features: Tensor2D, momentum: number): void {
  tf.tidy(() => {
    const latest = tf.gather(features, tf.tensor1d(lastPlaces(indices), 'int32'))
    const mixed = tf.add(tf.mul(readBank(bank, indices), momentum), tf.mul(latest, 1 - momentum))
    const squares = tf.sum(tf.square(mixed), 1, true)
    const rows = tf.mul(mixed, tf.rsqrt(tf.maximum(squares, leastSquares)))
    const places = tf.tensor2d(indices, [indices.length, 1], 'int32')
    bank.values.assign(tf.reshape(tf.tensorScatterUpdate(rowsOf(bank), places, rows), [-1]))
  })
}
