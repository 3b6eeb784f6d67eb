import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import { chooseEngine } from '../../../src/engine/choose.ts'
import { rollDice } from '../../../src/models/dice.ts'
import {
  drawRows,
  fillBank,
  type MemoryBank,
  newBank,
  readBank,
  tooManyRows,
  updateBank,
} from '../../../src/models/math/memory-bank.ts'
import { tf } from '../../../src/tf.ts'

beforeAll(async () => {
  await chooseEngine('auto')
})

afterEach(() => tf.disposeVariables())

const randomBank = (size: number, dimension: number, seed: number) =>
  newBank(drawRows(size, dimension, rollDice(seed)), dimension)
const row = (bank: MemoryBank, i: number) => [...tf.tidy(() => readBank(bank, Int32Array.of(i)).dataSync())]
const update = (bank: MemoryBank, indices: number[], features: number[], momentum: number) =>
  tf.tidy(() =>
    updateBank(bank, Int32Array.from(indices), tf.tensor2d(features, [indices.length, bank.dimension]), momentum),
  )
const length = (values: number[]) => Math.hypot(...values)
const unit = (values: number[]) => values.map((value) => value / length(values))
const expectClose = (found: number[], wanted: number[]) =>
  found.forEach((value, c) => {
    expect(value).toBeCloseTo(wanted[c]!, 6)
  })

describe('the memory bank', () => {
  it('starts with rows of length 1', () => {
    const bank = randomBank(20, 6, 1)
    for (let i = 0; i < 20; i++) expect(length(row(bank, i))).toBeCloseTo(1, 6)
  })

  it('changes the slots of the batch only, and keeps them at length 1', () => {
    const bank = randomBank(5, 3, 2)
    const before = [0, 1, 2, 3, 4].map((i) => row(bank, i))
    const tensors = tf.memory().numTensors
    update(bank, [3, 1], [...unit([1, 2, 3]), ...unit([-1, 0, 1])], 0.5)
    expect(tf.memory().numTensors).toBe(tensors)
    for (const i of [0, 2, 4]) expect(row(bank, i)).toEqual(before[i])
    const expected = (i: number, feature: number[]) => unit(before[i]!.map((m, c) => 0.5 * m + 0.5 * feature[c]!))
    expectClose(row(bank, 3), expected(3, unit([1, 2, 3])))
    expectClose(row(bank, 1), expected(1, unit([-1, 0, 1])))
  })

  it('replaces at momentum 0, stays at momentum 1, and leaves a row of zeros one', () => {
    const bank = randomBank(2, 3, 3)
    const before = row(bank, 1)
    update(bank, [1], [0, 1, 0], 1)
    expectClose(row(bank, 1), before)
    update(bank, [1], [0, 1, 0], 0)
    expect(row(bank, 1)).toEqual([0, 1, 0])
    update(bank, [1], [0, 0, 0], 0)
    expect(row(bank, 1)).toEqual([0, 0, 0])
  })

  it('takes the last feature of an image that is in the batch twice', () => {
    const [once, twice] = [randomBank(2, 3, 4), randomBank(2, 3, 4)]
    update(once, [0], [0, 0, 1], 0.5)
    update(twice, [0, 1, 0], [1, 0, 0, 0, 1, 0, 0, 0, 1], 0.5)
    expect(row(twice, 0)).toEqual(row(once, 0))
  })

  it('does not change the rows that it was made of, nor those that it was filled with', () => {
    const made = drawRows(4, 3, rollDice(5))
    const [kept, other] = [made.slice(), drawRows(4, 3, rollDice(6))]
    const given = other.slice()
    const bank = newBank(made, 3)
    const touch = () => {
      for (let i = 0; i < 3; i++) update(bank, [2], [0, 1, 0], 0)
      expect(row(bank, 2)).toEqual([0, 1, 0])
    }
    touch()
    fillBank(bank, given)
    expect(row(bank, 2)).toEqual([...other.subarray(6, 9)])
    touch()
    expect([made, given]).toEqual([kept, other])
  })
})

describe('what one tensor holds', () => {
  it('is told with what would fit, of rows or of numbers', () => {
    expect(tooManyRows(10, 8, { bytes: 320, of: 'it' })).toBeUndefined()
    expect(tooManyRows(10, 8, { bytes: 319, of: 'it' })?.cure).toBe(
      '7 numbers for each would fit, or at most 9 training images of 8 numbers',
    )
    expect(tooManyRows(80, 2, { bytes: 319, of: 'it' })?.cure).toBe('at most 39 training images of 2 numbers would fit')
  })
})
