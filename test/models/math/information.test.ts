import { describe, expect, it } from 'vitest'
import { rollDice } from '../../../src/models/dice.ts'
import {
  adjustedRand,
  cheapestAssignment,
  entropy,
  matchedAccuracy,
  mutualInformation,
} from '../../../src/models/math/information.ts'

const dice = rollDice(5)
const draw = (count: number, below: number) => Int32Array.from({ length: count }, () => dice.below(below))

/** By its definition: the mean over cells of log p(a, b) / (p(a) p(b)). */
function information(a: ArrayLike<number>, b: ArrayLike<number>): number {
  const n = a.length
  const share = (wanted: (i: number) => boolean) => Array.from({ length: n }, (_, i) => i).filter(wanted).length / n
  let sum = 0
  for (const x of new Set(Array.from(a)))
    for (const y of new Set(Array.from(b))) {
      const both = share((i) => a[i] === x && b[i] === y)
      if (both > 0) sum += both * Math.log(both / (share((i) => a[i] === x) * share((i) => b[i] === y)))
    }
  return sum
}

describe('normalised mutual information', () => {
  it('is 1 for labellings that are the same but for their names, by either mean', () => {
    const labels = draw(300, 7)
    const renamed = labels.map((label) => (3 * label + 2) % 7)
    for (const mean of ['geometric', 'arithmetic'] as const) {
      expect(mutualInformation(labels, labels, mean)).toBeCloseTo(1, 12)
      expect(mutualInformation(labels, renamed, mean)).toBeCloseTo(1, 12)
    }
  })

  it('is about 0 for labellings drawn independently', () => {
    expect(mutualInformation(draw(20_000, 10), draw(20_000, 10))).toBeLessThan(0.002)
  })

  it('is 0, and a number, where one labelling has a single label, or none', () => {
    const labels = draw(50, 4)
    const same = new Int32Array(50).fill(2)
    expect(mutualInformation(labels, same)).toBe(0)
    expect(mutualInformation(same, same)).toBe(0)
    expect(mutualInformation([], [])).toBe(0)
    expect(mutualInformation(labels, same.fill(-1))).toBe(0)
  })

  it('is the mutual information over the mean of the entropies', () => {
    const [a, b] = [draw(200, 5), draw(200, 3)].map((labels) => labels.map((label, i) => (i % 3 === 0 ? 0 : label)))
    const shared = information(a!, b!)
    const [own, other] = [information(a!, a!), information(b!, b!)]
    expect(mutualInformation(a!, b!)).toBeCloseTo(shared / Math.sqrt(own * other), 12)
    expect(mutualInformation(a!, b!, 'arithmetic')).toBeCloseTo((2 * shared) / (own + other), 12)
    expect(mutualInformation(b!, a!)).toBeCloseTo(mutualInformation(a!, b!), 12)
  })

  it('leaves out what has no label', () => {
    const labels = Int32Array.from([0, 0, 1, 1, -1, -1])
    expect(mutualInformation(labels, [3, 3, 5, 5, 3, 5])).toBeCloseTo(1, 12)
  })
})

describe('entropy', () => {
  it('is log n of n cases seen alike, and 0 of one or none', () => {
    expect(entropy([4, 4, 4, 0])).toBeCloseTo(Math.log(3), 12)
    expect(entropy([9, 0])).toBe(0)
    expect(entropy([0, 0])).toBe(0)
  })
})

describe('the adjusted Rand index', () => {
  it('is that of the worked example in hand calculation', () => {
    // Pairs together in both: 2; in each of them 4; of 15 pairs.
    const expected = (4 * 4) / 15
    expect(adjustedRand([0, 0, 0, 1, 1, 2], [0, 0, 1, 2, 2, 2])).toBeCloseTo((2 - expected) / (4 - expected), 12)
  })

  it('is 1 for the same groups, about 0 for independent ones, and a number where there is one group', () => {
    const labels = draw(20_000, 6)
    expect(
      adjustedRand(
        labels,
        labels.map((label) => 5 - label),
      ),
    ).toBe(1)
    expect(Math.abs(adjustedRand(labels, draw(20_000, 6)))).toBeLessThan(0.002)
    expect(adjustedRand([0, 0, 0], [0, 1, 1])).toBe(0)
    expect(adjustedRand([0, 0, 0], [4, 4, 4])).toBe(1)
    expect(adjustedRand([], [])).toBe(0)
  })
})

describe('the cheapest assignment', () => {
  it('costs as little as the best of all permutations', () => {
    const size = 5
    const permutations = (left: number[]): number[][] =>
      left.length === 0
        ? [[]]
        : left.flatMap((one) => permutations(left.filter((other) => other !== one)).map((rest) => [one, ...rest]))
    for (let round = 0; round < 20; round++) {
      const costs = Float64Array.from({ length: size * size }, () => dice.normal())
      const priceOf = (columns: ArrayLike<number>) =>
        Array.from(columns).reduce((sum, column, row) => sum + costs[row * size + column]!, 0)
      const found = cheapestAssignment(costs, size)
      expect([...found].sort()).toEqual([0, 1, 2, 3, 4])
      expect(priceOf(found)).toBeCloseTo(Math.min(...permutations([0, 1, 2, 3, 4]).map(priceOf)), 10)
    }
  })
})

describe('the accuracy of matched clusters', () => {
  it('is 1 up to permutation, and gives each class to one cluster only', () => {
    const labels = draw(100, 4)
    expect(
      matchedAccuracy(
        labels.map((label) => (label + 1) % 4),
        labels,
      ),
    ).toBe(1)
    // Two clusters of the same class: one of them finds no class of its own.
    expect(matchedAccuracy([0, 0, 0, 1, 1], [7, 7, 7, 7, 7])).toBe(0.6)
    expect(matchedAccuracy([], [])).toBe(0)
  })

  it('may give a cluster a class that is not its most frequent one', () => {
    // Cluster 0: 5 x a, 4 x b; cluster 1: 5 x a. Best: 0 -> b, 1 -> a.
    const clusters = [...Array(9).fill(0), ...Array(5).fill(1)]
    const labels = [...Array(5).fill(0), ...Array(4).fill(1), ...Array(5).fill(0)]
    expect(matchedAccuracy(clusters, labels)).toBeCloseTo(9 / 14, 12)
  })
})
