import { beforeAll, describe, expect, it } from 'vitest'
import { chooseEngine } from '../../../src/engine/choose.ts'
import { rollDice } from '../../../src/models/dice.ts'
import { bySize, powerIterationClusters } from '../../../src/models/math/power-iteration.ts'

beforeAll(async () => {
  await chooseEngine('auto')
})

const options = { neighbours: 5, sigma: 0.2, iterations: 200, alpha: 0.001 }

/** Points around directions at right angles, so many around each; and which direction each belongs to. */
function around(sizes: readonly number[], noise: number, width = 8) {
  const dice = rollDice(11)
  const labels = sizes.flatMap((size, group) => Array(size).fill(group) as number[])
  const rows = labels.map((group) =>
    Array.from({ length: width }, (_, c) => (c === group ? 1 : 0) + noise * dice.normal()),
  )
  return { rows: { data: Float32Array.from(rows.flat()), width }, labels }
}

describe('power iteration clustering', () => {
  it('never puts points of separate groups into one cluster', async () => {
    const { rows, labels } = around([60, 40, 25], 0.05)
    const clusters = await powerIterationClusters(rows, options)
    const groupOf = new Map<number, number>()
    for (const [i, cluster] of clusters.entries()) {
      if (!groupOf.has(cluster)) groupOf.set(cluster, labels[i]!)
      expect(groupOf.get(cluster)).toBe(labels[i])
    }
    expect(groupOf.size).toBeLessThan(40)
  })

  it('finds one cluster in each group that hangs together closely', async () => {
    // Each group a star of points: one in the middle that all others are nearest to.
    const width = 12
    const rows: number[][] = []
    for (let group = 0; group < 3; group++) {
      const centre = Array.from({ length: width }, (_, c) => (c === group ? 1 : 0))
      rows.push(centre)
      for (let c = 3; c < width; c++) rows.push(centre.map((value, i) => (i === c ? 0.1 : value)))
    }
    const data = Float32Array.from(rows.flat())
    const clusters = await powerIterationClusters({ data, width }, { ...options, neighbours: 1 })
    expect(new Set(clusters).size).toBe(3)
    for (const [i, cluster] of clusters.entries()) expect(cluster).toBe(clusters[i - (i % 10)])
  })

  it('lets a point that is alone join the cluster of its first neighbour', async () => {
    const { rows } = around([30, 30], 0.03)
    // So far from all others that no weight is left on its edges.
    rows.data.set([0, 0, 0, 0, 0, 0, 0, 1], 59 * 8)
    const clusters = await powerIterationClusters(rows, options)
    const sizes = new Map<number, number>()
    for (const cluster of clusters) sizes.set(cluster, (sizes.get(cluster) ?? 0) + 1)
    expect(Math.min(...sizes.values())).toBeGreaterThan(1)
  })

  it('gives points that are all the same, or one alone, some cluster', async () => {
    const same = { data: new Float32Array(40).fill(0.5), width: 4 }
    expect((await powerIterationClusters(same, options)).length).toBe(10)
    expect([...(await powerIterationClusters({ data: new Float32Array(4), width: 4 }, options))]).toEqual([0])
  })

  it('numbers clusters by size, the largest first', () => {
    expect([...bySize(Int32Array.from([9, 4, 4, 7, 7, 4]))]).toEqual([2, 0, 0, 1, 1, 0])
  })
})
