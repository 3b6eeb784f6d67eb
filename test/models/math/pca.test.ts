import { beforeAll, describe, expect, it } from 'vitest'
import { chooseEngine } from '../../../src/engine/choose.ts'
import { rollDice } from '../../../src/models/dice.ts'
import { eigenSymmetric } from '../../../src/models/math/eigen.ts'
import { principalComponents, project, whiteningFloor } from '../../../src/models/math/pca.ts'
import type { Rows } from '../../../src/models/math/rows.ts'
import { tf } from '../../../src/tf.ts'

beforeAll(async () => {
  await chooseEngine('auto')
})

/** Points with another spread along each of some directions that are not the axes; the mean is not 0. */
function drawPoints(count: number, width: number, spread: (direction: number) => number, seed = 1): Rows {
  const dice = rollDice(seed)
  const mixing = Array.from({ length: width * width }, () => dice.normal() / Math.sqrt(width))
  const data = new Float32Array(count * width)
  for (let i = 0; i < count; i++) {
    const own = Array.from({ length: width }, (_, direction) => spread(direction) * dice.normal())
    for (let c = 0; c < width; c++)
      data[i * width + c] =
        3 + 0.1 * dice.normal() + own.reduce((sum, value, j) => sum + value * mixing[j * width + c]!, 0)
  }
  return { data, width }
}

/** The covariance matrix in plain loops. */
function covarianceOf({ data, width }: Rows): Float64Array {
  const count = data.length / width
  const mean = Array.from({ length: width }, (_, c) => {
    let sum = 0
    for (let i = 0; i < count; i++) sum += data[i * width + c]!
    return sum / count
  })
  const found = new Float64Array(width * width)
  for (let i = 0; i < count; i++)
    for (let a = 0; a < width; a++)
      for (let b = 0; b < width; b++)
        found[a * width + b]! += ((data[i * width + a]! - mean[a]!) * (data[i * width + b]! - mean[b]!)) / count
  return found
}

const largestDifference = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  Array.from(a, (value, i) => Math.abs(value - b[i]!)).reduce((x, y) => Math.max(x, y), 0)

const identity = (n: number) => Float64Array.from({ length: n * n }, (_, i) => (i % (n + 1) === 0 ? 1 : 0))

describe('eigenvalues of a symmetric matrix', () => {
  it.each([1, 2, 3, 20, 57])('belong to vectors at right angles that the matrix only stretches, of %i', (n) => {
    const dice = rollDice(n)
    const half = Float64Array.from({ length: n * n }, () => dice.normal())
    const matrix = half.map((value, i) => value + half[(i % n) * n + Math.floor(i / n)]!)
    const { values, vectors } = eigenSymmetric(matrix, n)
    const row = (a: Float64Array, i: number) => [...a.subarray(i * n, (i + 1) * n)]
    const dot = (a: number[], b: number[]) => a.reduce((sum, value, i) => sum + value * b[i]!, 0)
    for (let i = 0; i < n; i++) {
      const vector = row(vectors, i)
      const image = Array.from({ length: n }, (_, r) => dot(row(matrix, r), vector))
      expect(
        largestDifference(
          image,
          vector.map((value) => values[i]! * value),
        ),
      ).toBeLessThan(1e-9)
      const products = Array.from({ length: n }, (_, j) => dot(vector, row(vectors, j)))
      expect(
        largestDifference(
          products,
          products.map((_, j) => (i === j ? 1 : 0)),
        ),
      ).toBeLessThan(1e-11)
      if (i > 0) expect(values[i]!).toBeLessThanOrEqual(values[i - 1]!)
    }
  })

  it('are the diagonal of a diagonal matrix, repeated ones too', () => {
    expect([...eigenSymmetric([2, 0, 0, 0, 5, 0, 0, 0, 2], 3).values]).toEqual([5, 2, 2])
    expect([...eigenSymmetric(new Float64Array(16), 4).values]).toEqual([0, 0, 0, 0])
  })
})

describe('principal components', () => {
  it.each([
    ['all of a narrow matrix', 24, 24],
    ['a few of a narrow matrix', 40, 5],
    ['a few of a wide matrix, by subspace iteration', 300, 12],
  ])('are those of the covariance matrix: %s', async (_title, width, count) => {
    const points = drawPoints(400, width, (direction) => 3 * 0.8 ** direction + 0.05)
    const wanted = eigenSymmetric(covarianceOf(points), width)
    const found = await principalComponents(points, count, rollDice(1))
    for (let i = 0; i < count; i++)
      expect(Math.abs(found.variances[i]! - wanted.values[i]!) / wanted.values[0]!).toBeLessThan(1e-5)
    const trace = wanted.values.reduce((sum, value) => sum + value, 0)
    expect(found.variance / trace).toBeCloseTo(1, 4)
    const kept = Math.min(count, 5)
    const { data } = found.directions
    expect(largestDifference(data.subarray(0, kept * width), wanted.vectors)).toBeLessThan(2e-2)
  })

  it.each([
    ['narrow', 30, 30],
    ['wide', 280, 40],
  ])('whiten the points they were found on: %s', async (_title, width, count) => {
    const points = drawPoints(500, width, (direction) => 1 / (1 + direction))
    const components = await principalComponents(points, count, rollDice(2))
    const white = await project(points, components, { whiten: true })
    expect(largestDifference(covarianceOf(white), identity(count))).toBeLessThan(1e-3)
  })

  it('do not blow up directions without variance', async () => {
    const { data } = drawPoints(200, 3, () => 1)
    // The last number repeats the first: one direction has no variance but rounding.
    const points = { data: Float32Array.from({ length: 800 }, (_, i) => data[3 * (i >> 2) + ((i % 4) % 3)]!), width: 4 }
    const components = await principalComponents(points, 4, rollDice(3))
    const white = await project(points, components, { whiten: true })
    const most = Math.sqrt(components.variances[3]! / components.variances[0]! / whiteningFloor)
    for (let i = 3; i < white.data.length; i += 4) expect(Math.abs(white.data[i]!)).toBeLessThan(0.1 + 10 * most)
    const same = { data: new Float32Array(40).fill(0.3), width: 4 }
    const none = await principalComponents(same, 2, rollDice(3))
    expect(none.variances[0]).toBeLessThan(1e-9)
    const projected = await project(same, none, { whiten: true, unitRows: true })
    expect(projected.data.every(Number.isFinite)).toBe(true)
  })

  it('give rows of length 1 where that is wanted', async () => {
    const points = drawPoints(50, 6, () => 1)
    const components = await principalComponents(points, 4, rollDice(4))
    const { data } = await project(points, components, { whiten: true, unitRows: true })
    for (let i = 0; i < data.length; i += 4) expect(Math.hypot(...data.subarray(i, i + 4))).toBeCloseTo(1, 5)
  })

  it('leave no tensor behind, stop when told to, and refuse what cannot be', async () => {
    const before = tf.memory().numTensors
    const points = drawPoints(60, 300, () => 1)
    const watch = { stop: AbortSignal.abort(new Error('enough')) }
    await expect(principalComponents(points, 4, rollDice(5), watch)).rejects.toThrow('enough')
    const components = await principalComponents(points, 4, rollDice(5))
    await expect(project(points, components, watch)).rejects.toThrow('enough')
    await expect(principalComponents(points, 301, rollDice(5))).rejects.toThrow('301 components of 300 numbers')
    points.data[605] = Number.NaN
    await expect(principalComponents(points, 4, rollDice(5))).rejects.toThrow('number 5 of row 2 is NaN')
    expect(tf.memory().numTensors).toBe(before)
  })
})
