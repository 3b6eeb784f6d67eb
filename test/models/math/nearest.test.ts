import { beforeAll, describe, expect, it } from 'vitest'
import { chooseEngine } from '../../../src/engine/choose.ts'
import { rollDice } from '../../../src/models/dice.ts'
import { accuracy, nearest, vote } from '../../../src/models/math/nearest.ts'
import type { Rows } from '../../../src/models/math/rows.ts'
import { tf } from '../../../src/tf.ts'

beforeAll(async () => {
  await chooseEngine('auto')
})

const dice = rollDice(1)
const draw = (count: number, width: number): Rows => ({
  data: Float32Array.from({ length: count * width }, () => dice.normal()),
  width,
})
const rowsOf = (numbers: number[][]): Rows => ({ data: Float32Array.from(numbers.flat()), width: numbers[0]!.length })

/** All cosines, sorted. */
function reference(queries: Rows, references: Rows, k: number): number[][] {
  const row = ({ data, width }: Rows, i: number) => [...data.subarray(i * width, (i + 1) * width)]
  const dot = (a: number[], b: number[]) => a.reduce((sum, value, i) => sum + value * b[i]!, 0)
  const cosine = (a: number[], b: number[]) => dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b))
  const size = references.data.length / references.width
  return Array.from({ length: queries.data.length / queries.width }, (_, q) =>
    Array.from({ length: size }, (_, i) => ({ i, s: cosine(row(queries, q), row(references, i)) }))
      .sort((a, b) => b.s - a.s)
      .slice(0, k)
      .map(({ i }) => i),
  )
}

describe('the nearest rows', () => {
  it('are those that sorting all cosines finds', async () => {
    const [queries, references] = [draw(17, 5), draw(60, 5)]
    for (const k of [1, 7, 59, 60]) {
      const found = await nearest(queries, references, k)
      expect([...found.indices]).toEqual(reference(queries, references, k).flat())
    }
  })

  it('come in the order of their indices where they are as near', async () => {
    const references = rowsOf([
      [0, 1],
      [3, 0],
      [1, 0],
      [0, -2],
      [2, 0],
      [0, 5],
    ])
    const found = await nearest(rowsOf([[1, 0]]), references, 5)
    expect([...found.indices]).toEqual([1, 2, 4, 0, 3])
    const few = await nearest(rowsOf([[1, 0]]), references, 2)
    expect([...few.indices]).toEqual([1, 2])
  })

  it('are all there are where more are asked for', async () => {
    const found = await nearest(draw(3, 4), draw(5, 4), 200)
    expect(found.k).toBe(5)
    for (let q = 0; q < 3; q++) expect([...found.indices.subarray(q * 5, q * 5 + 5)].sort()).toEqual([0, 1, 2, 3, 4])
  })

  it('are never the query itself when one is left out', async () => {
    const rows = rowsOf([
      [1, 0],
      [1, 0],
      [0, 1],
    ])
    const found = await nearest(rows, rows, 10, { leaveOneOut: true })
    expect(found.k).toBe(2)
    expect([...found.indices]).toEqual([1, 2, 0, 2, 0, 1])
    const lone = await nearest(rowsOf([[1, 2]]), rowsOf([[1, 2]]), 3, { leaveOneOut: true })
    expect(lone.k).toBe(0)
  })

  it('give a row of zeros the cosine 0', async () => {
    const found = await nearest(rowsOf([[0, 0]]), rowsOf([[1, 2]]), 1)
    expect([...found.similarities]).toEqual([0])
  })

  it('stop when they are asked to, tell their progress, and leave no tensor', async () => {
    const before = tf.memory().numTensors
    const shares: number[] = []
    await nearest(draw(4, 3), draw(4, 3), 1, { onProgress: (share) => shares.push(share) })
    expect(shares.at(-1)).toBe(1)
    const stop = AbortSignal.abort(new Error('enough'))
    await expect(nearest(draw(4, 3), draw(4, 3), 1, { stop })).rejects.toThrow('enough')
    expect(tf.memory().numTensors).toBe(before)
  })
})

describe('the vote of the neighbours', () => {
  const found = { k: 3, indices: Int32Array.of(2, 0, 1), similarities: Float32Array.of(0.9, 0.85, 0.84) }

  it('weighs each by exp(cosine / temperature)', () => {
    // exp(0.9 / 0.1) = 8103 for class 2 against exp(8.5) + exp(8.4) = 9361 for class 1.
    expect([...vote(found, [1, 1, 2], 3, 3, 0.1)]).toEqual([1])
    expect([...vote(found, [1, 1, 2], 3, 2, 0.1)]).toEqual([2])
    expect([...vote(found, [1, 1, 2], 3, 3, 0.01)]).toEqual([2])
  })

  it('counts all where k is larger than what was found, and does not overflow', () => {
    expect([...vote(found, [1, 1, 2], 3, 50, 100)]).toEqual([1])
    expect([...vote(found, [1, 1, 2], 3, 3, 1e-6)]).toEqual([2])
  })

  it('gives a tie to the lower class', () => {
    const tie = { k: 2, indices: Int32Array.of(0, 1), similarities: Float32Array.of(0.5, 0.5) }
    expect([...vote(tie, [3, 1], 4, 2, 0.1)]).toEqual([1])
  })

  it('is right in the share of equal entries', () => {
    expect(accuracy([1, 2, 3, 4], [1, 0, 3, 0])).toBe(0.5)
  })
})
