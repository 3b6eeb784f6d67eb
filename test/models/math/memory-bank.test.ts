import { describe, expect, it } from 'vitest'
import { rollDice } from '../../../src/models/dice.ts'
import { type MemoryBank, randomBank, readBank, updateBank } from '../../../src/models/math/memory-bank.ts'

const row = (bank: MemoryBank, i: number) => [...readBank(bank, [i])]
const length = (values: number[]) => Math.hypot(...values)
const unit = (values: number[]) => values.map((value) => value / length(values))

describe('the memory bank', () => {
  it('starts with rows of length 1', () => {
    const bank = randomBank(20, 6, rollDice(1))
    for (let i = 0; i < 20; i++) expect(length(row(bank, i))).toBeCloseTo(1, 6)
  })

  it('changes the slots of the batch only, and keeps them at length 1', () => {
    const bank = randomBank(5, 3, rollDice(2))
    const before = [0, 1, 2, 3, 4].map((i) => row(bank, i))
    updateBank(bank, [3, 1], Float32Array.from([...unit([1, 2, 3]), ...unit([-1, 0, 1])]), 0.5)
    for (const i of [0, 2, 4]) expect(row(bank, i)).toEqual(before[i])
    const expected = (i: number, feature: number[]) => unit(before[i]!.map((m, c) => 0.5 * m + 0.5 * feature[c]!))
    row(bank, 3).forEach((value, c) => {
      expect(value).toBeCloseTo(expected(3, unit([1, 2, 3]))[c]!, 6)
    })
    row(bank, 1).forEach((value, c) => {
      expect(value).toBeCloseTo(expected(1, unit([-1, 0, 1]))[c]!, 6)
    })
  })

  it('replaces at momentum 0 and stays at momentum 1', () => {
    const bank = randomBank(2, 3, rollDice(3))
    const before = row(bank, 1)
    updateBank(bank, [1], Float32Array.of(0, 1, 0), 1)
    row(bank, 1).forEach((value, c) => {
      expect(value).toBeCloseTo(before[c]!, 6)
    })
    updateBank(bank, [1], Float32Array.of(0, 1, 0), 0)
    expect(row(bank, 1)).toEqual([0, 1, 0])
  })

  it('takes the last feature of an image that is in the batch twice', () => {
    const once = randomBank(2, 3, rollDice(4))
    const twice = randomBank(2, 3, rollDice(4))
    updateBank(once, [0], Float32Array.of(0, 0, 1), 0.5)
    updateBank(twice, [0, 1, 0], Float32Array.of(1, 0, 0, 0, 1, 0, 0, 0, 1), 0.5)
    expect(row(twice, 0)).toEqual(row(once, 0))
  })
})
