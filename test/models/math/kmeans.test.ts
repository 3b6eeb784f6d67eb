import { beforeAll, describe, expect, it } from 'vitest'
import { chooseEngine } from '../../../src/engine/choose.ts'
import { rollDice } from '../../../src/models/dice.ts'
import { kMeans } from '../../../src/models/math/kmeans.ts'
import type { Rows } from '../../../src/models/math/rows.ts'
import { tf } from '../../../src/tf.ts'

beforeAll(async () => {
  await chooseEngine('auto')
})

const rowsOf = (numbers: number[][]): Rows => ({ data: Float32Array.from(numbers.flat()), width: numbers[0]!.length })
const listOf = ({ data, width }: Rows) =>
  Array.from({ length: data.length / width }, (_, i) => [...data.subarray(i * width, (i + 1) * width)])

/** Points around some centres, in turn. */
function drawClouds(count: number, width: number, clouds: number, offset = 0, seed = 1): Rows {
  const dice = rollDice(seed)
  const centres = Array.from({ length: clouds * width }, () => 4 * dice.normal())
  const value = (i: number) => offset + centres[(Math.floor(i / width) % clouds) * width + (i % width)]! + dice.normal()
  return { data: Float32Array.from({ length: count * width }, (_, i) => value(i)), width }
}

const distance = (a: readonly number[], b: readonly number[]) => a.reduce((sum, x, i) => sum + (x - b[i]!) ** 2, 0)

/** Lloyd's iterations in a few lines: assignments and inertia before each update and at the end. */
function lloyd(points: number[][], start: number[][], iterations: number) {
  let centroids = start
  const inertia: number[] = []
  const nearest = (point: number[]) => {
    const distances = centroids.map((centroid) => distance(point, centroid))
    return distances.indexOf(Math.min(...distances))
  }
  const look = () => {
    const found = points.map(nearest)
    inertia.push(points.reduce((sum, point, i) => sum + distance(point, centroids[found[i]!]!), 0))
    return found
  }
  for (let i = 0; i < iterations; i++) {
    const found = look()
    centroids = centroids.map((centroid, j) => {
      const own = points.filter((_, i) => found[i] === j)
      return own.length === 0 ? centroid : centroid.map((_, c) => own.reduce((s, p) => s + p[c]!, 0) / own.length)
    })
  }
  return { assignments: look(), inertia, centroids }
}

const expectClose = (got: ArrayLike<number>, wanted: readonly number[], share: number) => {
  expect(got.length).toBe(wanted.length)
  for (const [i, value] of wanted.entries())
    expect(Math.abs(got[i]! - value) / Math.max(1, Math.abs(value))).toBeLessThan(share)
}

describe('k-means', () => {
  it.each([
    ['far from each other', 0, 1e-5],
    ['far from zero too', 3000, 1e-3],
  ])('does what Lloyd says with points %s', async (_title, offset, tolerance) => {
    const rows = drawClouds(600, 7, 9, offset)
    const points = listOf(rows)
    const start = points.slice(20, 32)
    const wanted = lloyd(points, start, 6)
    const found = await kMeans(rows, { k: 12, iterations: 6, start: rowsOf(start), dice: rollDice(1) })
    expect([...found.assignments]).toEqual(wanted.assignments)
    expectClose(found.inertia, wanted.inertia, tolerance)
    expectClose(found.centroids.data, wanted.centroids.flat(), tolerance)
    expect([...found.counts]).toEqual(wanted.centroids.map((_, j) => wanted.assignments.filter((a) => a === j).length))
  })

  it.each(['points', 'plus-plus'] as const)('never lets the inertia rise from %s', async (start) => {
    const rows = drawClouds(2000, 5, 6)
    const { inertia, counts, empties } = await kMeans(rows, { k: 40, iterations: 30, start, dice: rollDice(2) })
    for (let i = 1; i < inertia.length; i++) expect(inertia[i]!).toBeLessThanOrEqual(inertia[i - 1]! * (1 + 1e-6))
    expect(counts.reduce((sum, count) => sum + count, 0)).toBe(2000)
    expect(empties).toBe(0)
  })

  it('splits a large cluster where one is empty', async () => {
    const rows = drawClouds(500, 3, 2)
    const far = [1e4, 1e4, 1e4]
    const start = rowsOf([listOf(rows)[0]!, far, far.map((x) => x + 1), far.map((x) => -x)])
    const { counts, splits, empties, inertia } = await kMeans(rows, { k: 4, iterations: 20, start, dice: rollDice(3) })
    expect(splits).toBeGreaterThanOrEqual(3)
    expect(empties).toBe(0)
    expect(Math.min(...counts)).toBeGreaterThan(20)
    for (let i = 1; i < inertia.length; i++) expect(inertia[i]!).toBeLessThanOrEqual(inertia[i - 1]! * (1 + 1e-6))
  })

  it('ends with all distinct points found where there are more clusters, and counts those left empty', async () => {
    const distinct = [
      [0, 0],
      [5, 1],
      [2, 8],
      [-4, 3],
      [9, 9],
    ]
    const rows = rowsOf(Array.from({ length: 200 }, (_, i) => distinct[i % 5]!))
    const { inertia, empties, splits, counts, allEqual } = await kMeans(rows, {
      k: 12,
      iterations: 40,
      dice: rollDice(4),
    })
    expect(inertia.at(-1)!).toBeLessThan(1e-4)
    expect(empties).toBe(7)
    expect(splits).toBeGreaterThan(0)
    expect([...counts].sort((a, b) => b - a).slice(0, 5)).toEqual([40, 40, 40, 40, 40])
    expect(allEqual).toBe(false)
  })

  it('says that all points are the same', async () => {
    const rows = rowsOf(Array.from({ length: 20 }, () => [0.1, 0.2, 0.7]))
    for (const start of ['points', 'plus-plus'] as const) {
      const { allEqual, counts, inertia } = await kMeans(rows, { k: 3, iterations: 5, start, dice: rollDice(5) })
      expect([allEqual, Math.max(...counts)]).toEqual([true, 20])
      expect(inertia.at(-1)).toBeLessThan(1e-6)
    }
  })

  it('gives each point a cluster where there are as many', async () => {
    const rows = drawClouds(30, 4, 30)
    const { counts, inertia } = await kMeans(rows, { k: 30, iterations: 3, dice: rollDice(6) })
    expect([...counts]).toEqual(new Array(30).fill(1))
    expect(inertia.at(-1)).toBeLessThan(1e-3)
  })

  it('comes near to all points by mini-batches', async () => {
    const rows = drawClouds(4000, 6, 8)
    const start = rowsOf(listOf(rows).slice(0, 8))
    const all = await kMeans(rows, { k: 8, iterations: 30, start, dice: rollDice(7) })
    const few = await kMeans(rows, { k: 8, iterations: 60, start, batch: 200, dice: rollDice(7) })
    expect(few.inertia.at(-1)!).toBeLessThan(1.05 * all.inertia.at(-1)!)
    expect(few.inertia[0]! / all.inertia[0]!).toBeCloseTo(1, 0)
    expect(few.counts.reduce((sum, count) => sum + count, 0)).toBe(4000)
  })

  it('finds the same with the same dice, and leaves no tensor behind', async () => {
    const rows = drawClouds(900, 5, 5)
    const before = tf.memory().numTensors
    const options = { k: 20, iterations: 8, start: 'plus-plus', batch: 300 } as const
    const [first, again] = [
      await kMeans(rows, { ...options, dice: rollDice(8) }),
      await kMeans(rows, { ...options, dice: rollDice(8) }),
    ]
    const other = await kMeans(rows, { ...options, dice: rollDice(9) })
    expect(again).toEqual(first)
    expect(other.assignments).not.toEqual(first.assignments)
    expect(tf.memory().numTensors).toBe(before)
  })

  it('refuses more clusters than points, and points that are no numbers, saying which', async () => {
    const rows = drawClouds(10, 3, 2)
    await expect(kMeans(rows, { k: 11, iterations: 1, dice: rollDice(1) })).rejects.toThrow('11 clusters of 10 points')
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
      const data = rows.data.slice()
      data[3 * 7 + 2] = bad
      const broken = kMeans({ data, width: 3 }, { k: 2, iterations: 1, dice: rollDice(1) })
      await expect(broken).rejects.toThrow(`number 2 of row 7 is ${bad}`)
    }
  })

  it('tells how far it is, and stops when told to', async () => {
    const rows = drawClouds(200, 3, 4)
    const shares: number[] = []
    const stop = new AbortController()
    const onProgress = (share: number) => {
      shares.push(share)
      if (shares.length === 3) stop.abort(new Error('enough'))
    }
    const running = kMeans(rows, { k: 5, iterations: 9, dice: rollDice(1), onProgress, stop: stop.signal })
    await expect(running).rejects.toThrow('enough')
    expect(shares).toEqual([0.1, 0.2, 0.3])
    await kMeans(rows, { k: 5, iterations: 2, dice: rollDice(1), onProgress: (share) => shares.push(share) })
    expect(shares.at(-1)).toBe(1)
  })

  it('does the same on an engine that stores all products', async () => {
    const rows = drawClouds(400, 6, 9)
    const options = { k: 12, iterations: 5, start: rowsOf(listOf(rows).slice(20, 32)) } as const
    const wanted = await kMeans(rows, { ...options, dice: rollDice(1) })
    await chooseEngine('onnx')
    const found = await kMeans(rows, { ...options, dice: rollDice(1) })
    expect([...found.assignments]).toEqual([...wanted.assignments])
    expectClose(found.inertia, wanted.inertia, 1e-5)
  })
})
