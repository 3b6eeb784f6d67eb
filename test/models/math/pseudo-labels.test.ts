import { describe, expect, it } from 'vitest'
import { chooseEngine } from '../../../src/engine/choose.ts'
import { rollDice } from '../../../src/models/dice.ts'
import { crossEntropies } from '../../../src/models/math/cross-entropy.ts'
import { countClusters, evenWeights, visitEvenly } from '../../../src/models/math/pseudo-labels.ts'
import { tf } from '../../../src/tf.ts'

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

describe('even weights', () => {
  it('weigh every cluster alike in all, 1 on average, and nothing without a cluster', () => {
    const weights = evenWeights(
      clusters,
      k,
      1,
      clusters.map((_, i) => i),
    )
    expect(weights.reduce((sum, weight) => sum + weight, 0) / clusters.length).toBeCloseTo(1, 5)
    expect(evenWeights(clusters, k, 1, [209, 7, 150, 7])).toEqual(
      Float32Array.from([209, 7, 150, 7], (i) => weights[i]!),
    )
    const totals = new Float64Array(k)
    for (const [i, weight] of weights.entries()) if (clusters[i]! >= 0) totals[clusters[i]!]! += weight
    for (const cluster of [0, 2, 3, 5]) expect(totals[cluster]).toBeCloseTo(clusters.length / 4, 3)
    expect([...weights.subarray(200)]).toEqual(Array(10).fill(0))
  })

  it('lie between none and even with a power below 1', () => {
    const ratio = (power: number) => {
      const [first, last] = evenWeights(clusters, k, power, [0, 199])
      return first! / last!
    }
    expect(ratio(0)).toBe(1)
    expect(ratio(0.5)).toBeCloseTo(Math.sqrt(157), 4)
    expect(ratio(1)).toBeCloseTo(157, 3)
  })
})

describe('the cross-entropy', () => {
  it('is -log softmax at the own place, however far apart the logits are, with its gradient', async () => {
    await chooseEngine('auto')
    const values = [1, 2, 3, -1, 0, 1000, 0, 0, 0]
    const own = Int32Array.from([2, 0, 1])
    const [losses, gradient] = tf.tidy(() => {
      const logits = tf.tensor2d(values, [3, 3])
      const gradient = tf.grad((x) => tf.sum(crossEntropies(x as never, own)))(logits)
      return [[...crossEntropies(logits, own).dataSync()], [...gradient.dataSync()]]
    })
    const sum = Math.E + Math.E ** 2 + Math.E ** 3
    expect(losses[0]).toBeCloseTo(Math.log(sum) - 3, 5)
    expect(losses[1]).toBeCloseTo(1001, 3)
    expect(losses[2]).toBeCloseTo(Math.log(3), 5)
    const expected = [Math.E / sum, Math.E ** 2 / sum, Math.E ** 3 / sum - 1, -1, 0, 1, 1 / 3, 1 / 3 - 1, 1 / 3]
    for (const [i, value] of gradient!.entries()) expect(value).toBeCloseTo(expected[i]!, 5)
  })
})
