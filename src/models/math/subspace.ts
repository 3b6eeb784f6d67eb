import { setImmediate } from 'node:timers/promises'
import { type Tensor2D, tf } from '../../tf.ts'
import type { Dice } from '../dice.ts'
import { eigenSymmetric, signOf } from './eigen.ts'

/** Vectors beyond those that are wanted, which let the last of these settle sooner. */
const spare = 16
const mostTurns = 40
/** It ends when no wanted eigenvalue grows by more than this part in a turn. */
const settled = 1e-4

async function numbersOf(tensor: Tensor2D): Promise<Float32Array> {
  return (await tensor.data()) as Float32Array
}

/** A matrix whose columns are those of `a` scaled, as a tensor; `a` is [rows, n] of doubles. */
function scaledColumns(a: ArrayLike<number>, n: number, scales: ArrayLike<number>): Tensor2D {
  const out = Float32Array.from({ length: a.length }, (_, i) => a[i]! * scales[i % n]!)
  return tf.tensor2d(out, [a.length / n, n]) as Tensor2D
}

/** The inverse of the upper triangle R for which R' R is the matrix: what columns with these products lack. */
function inverseRoot(gram: Float32Array, n: number): Float64Array {
  const low = new Float64Array(n * n)
  for (let i = 0; i < n; i++)
    for (let j = 0; j <= i; j++) {
      let sum = gram[i * n + j]!
      for (let k = 0; k < j; k++) sum -= low[i * n + k]! * low[j * n + k]!
      low[i * n + j] = i === j ? Math.sqrt(Math.max(sum, 1e-12)) : sum / low[j * n + j]!
    }
  // By columns of the lower triangle's inverse, which are rows of what is wanted.
  const inverse = new Float64Array(n * n)
  for (let j = 0; j < n; j++)
    for (let i = j; i < n; i++) {
      let sum = i === j ? 1 : 0
      for (let k = j; k < i; k++) sum -= low[i * n + k]! * inverse[j * n + k]!
      inverse[j * n + i] = sum / low[i * n + i]!
    }
  return inverse
}

/** Columns of nearly length 1 that are nearly at right angles, made exactly so. Disposes of what it is given. */
async function orthonormal(given: Tensor2D): Promise<Tensor2D> {
  const n = given.shape[1]
  const gram = tf.tidy(() => tf.matMul(given, given, true, false) as Tensor2D)
  const inverse = inverseRoot(await numbersOf(gram), n)
  const made = tf.tidy(() => tf.matMul(given, scaledColumns(inverse, n, new Float64Array(n).fill(1))) as Tensor2D)
  tf.dispose([given, gram])
  return made
}

function startingColumns(width: number, n: number, dice: Dice): Tensor2D {
  const scale = 1 / Math.sqrt(width)
  return tf.tensor2d(
    Float32Array.from({ length: width * n }, () => scale * dice.normal()),
    [width, n],
  )
}

/** Column j of [rows, n]. */
const column = (a: ArrayLike<number>, n: number, j: number) =>
  Float32Array.from({ length: a.length / n }, (_, i) => a[i * n + j]!)

function turned(a: Float64Array, n: number): Float64Array {
  return a.map((_, i) => a[(i % n) * n + Math.floor(i / n)]!)
}

/**
 * The first eigenvalues of a symmetric matrix without negative ones, and their vectors as rows: subspace iteration with
 * Rayleigh and Ritz (Halko, Martinsson, Tropp 2011), products through the engine. Whatever it has reached when it ends,
 * the vectors are at right angles and the matrix is diagonal between them.
 */
export async function leadingEigen(
  matrix: Tensor2D,
  wanted: number,
  dice: Dice,
  stop?: AbortSignal,
): Promise<{ values: Float64Array; vectors: Float32Array }> {
  const width = matrix.shape[0]
  const n = Math.min(width, wanted + spare)
  let basis = await orthonormal(startingColumns(width, n, dice))
  let values = new Float64Array(n)
  for (let turn = 0; ; turn++) {
    stop?.throwIfAborted()
    const [image, small] = tf.tidy(() => {
      const image = tf.matMul(matrix, basis) as Tensor2D
      return [image, tf.matMul(basis, image, true, false) as Tensor2D] as const
    })
    const found = eigenSymmetric(symmetric(await numbersOf(small), n), n)
    const rotation = turned(found.vectors, n)
    const grown = found.values.subarray(0, wanted).some((value, i) => value - values[i]! > settled * value)
    values = Float64Array.from(found.values)
    const last = turn === mostTurns || (turn > 0 && !grown) || !(values[0]! > 0)
    const scales = last ? values.map(() => 1) : values.map((value) => 1 / Math.max(value, 1e-7 * values[0]!))
    const next = tf.tidy(() => tf.matMul(last ? basis : image, scaledColumns(rotation, n, scales)) as Tensor2D)
    if (last) {
      const columns = await numbersOf(next)
      tf.dispose([image, small, basis, next])
      return { values: values.slice(0, wanted), vectors: rowsOf(columns, n, wanted) }
    }
    const made = await orthonormal(next)
    tf.dispose([image, small, basis])
    basis = made
    await setImmediate()
  }
}

function symmetric(a: Float32Array, n: number): Float64Array {
  return Float64Array.from(a, (value, i) => (value + a[(i % n) * n + Math.floor(i / n)]!) / 2)
}

function rowsOf(columns: Float32Array, n: number, wanted: number): Float32Array {
  const width = columns.length / n
  const rows = new Float32Array(wanted * width)
  for (let j = 0; j < wanted; j++) {
    const row = column(columns, n, j)
    const sign = signOf(row)
    rows.set(
      row.map((value) => sign * value),
      j * width,
    )
  }
  return rows
}
