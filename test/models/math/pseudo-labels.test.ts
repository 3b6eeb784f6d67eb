import { describe, expect, it } from 'vitest'
import { rollDice } from '../../../src/models/dice.ts'
import { countClusters, visitEvenly } from '../../../src/models/math/pseudo-labels.ts'

/** Clusters of very unequal size: 1, 2, 40, 157 points, two without any, and 10 points without one. */
const clusters = Float32Array.from([
  ...Array(1).fill(0),
  ...Array(2).fill(2),
  ...Array(40).fill(3),
  ...Array(157).fill(5),
  ...Array(10).fill(-1),
])
const k = 6

const visitsOf = (epoch: number) => visitEvenly(clusters, k, rollDice(3).for(epoch))
const countVisits = (visits: Int32Array) =>
  countClusters(
    Array.from(visits, (i) => clusters[i]!),
    k,
  )

describe('visiting clusters evenly', () => {
  it('visits as many images as there are, each cluster as often as any other but for one', () => {
    for (let epoch = 0; epoch < 20; epoch++) {
      const visits = visitsOf(epoch)
      expect(visits).toHaveLength(clusters.length)
      const counts = [...countVisits(visits)].filter((count) => count > 0)
      expect(counts).toHaveLength(4)
      expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1)
    }
  })

  it('skips clusters without images and images without a cluster', () => {
    const visits = visitsOf(0)
    expect(countVisits(visits)[1]).toBe(0)
    expect(countVisits(visits)[4]).toBe(0)
    expect(Array.from(visits, (i) => clusters[i]!)).not.toContain(-1)
  })

  it('draws different images from a cluster that has enough of them', () => {
    const large = Array.from(visitsOf(0)).filter((i) => clusters[i] === 5)
    expect(new Set(large).size).toBe(large.length)
  })

  it('favours no cluster in the long run', () => {
    const totals = new Float64Array(k)
    const epochs = 200
    for (let epoch = 0; epoch < epochs; epoch++)
      for (const [cluster, count] of countVisits(visitsOf(epoch)).entries()) totals[cluster]! += count
    for (const cluster of [0, 2, 3, 5]) expect(totals[cluster]! / epochs).toBeCloseTo(clusters.length / 4, 0)
  })

  it('is the same from the same dice, another for another epoch, and not in order of clusters', () => {
    expect(visitsOf(1)).toEqual(visitsOf(1))
    expect(visitsOf(1)).not.toEqual(visitsOf(2))
    const first = Array.from(visitsOf(1).subarray(0, 40), (i) => clusters[i]!)
    expect(new Set(first).size).toBe(4)
  })

  it('refuses where no image is in a cluster', () => {
    expect(() => visitEvenly(new Float32Array(4).fill(-1), 2, rollDice(1))).toThrow('no point is in a cluster')
  })
})
