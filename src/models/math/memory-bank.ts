import type { Dice } from '../dice.ts'

/** One remembered feature for every training image: [size, dimension], row-major, changed in place. */
export interface MemoryBank {
  readonly rows: Float32Array
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

/** A bank of random rows of length 1 (coordinates drawn evenly, then normalised). */
export function randomBank(size: number, dimension: number, dice: Dice): MemoryBank {
  const rows = Float32Array.from({ length: size * dimension }, () => 2 * dice.uniform() - 1)
  for (let i = 0; i < size; i++) normalise(rows.subarray(i * dimension, (i + 1) * dimension))
  return { rows, size, dimension }
}

/** The rows of the bank at `indices`, [indices, dimension], copied. */
export function readBank({ rows, dimension }: MemoryBank, indices: ArrayLike<number>): Float32Array {
  const out = new Float32Array(indices.length * dimension)
  for (let i = 0; i < indices.length; i++) {
    const start = indices[i]! * dimension
    out.set(rows.subarray(start, start + dimension), i * dimension)
  }
  return out
}

/**
 * M_i <- normalised (momentum M_i + (1 - momentum) f_i) for the images of a batch; features [batch, dimension]. Of an
 * image that is in the batch twice the last feature counts, as with an indexed copy.
 */
export function updateBank(
  bank: MemoryBank,
  indices: ArrayLike<number>,
  features: Float32Array,
  momentum: number,
): void {
  const { rows, dimension } = bank
  const done = new Set<number>()
  for (let i = indices.length - 1; i >= 0; i--) {
    const index = indices[i]!
    if (done.has(index)) continue
    done.add(index)
    const row = rows.subarray(index * dimension, (index + 1) * dimension)
    for (let c = 0; c < dimension; c++) row[c] = momentum * row[c]! + (1 - momentum) * features[i * dimension + c]!
    normalise(row)
  }
}
