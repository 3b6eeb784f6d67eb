import { beforeAll, describe, expect, it } from 'vitest'
import { chooseEngine } from '../../../src/engine/choose.ts'
import { rollDice } from '../../../src/models/dice.ts'
import { dropOut } from '../../../src/models/layers/dropout.ts'
import { tf } from '../../../src/tf.ts'

beforeAll(async () => {
  await chooseEngine('auto')
})

const dropped = (rate: number, seed: number) =>
  tf.tidy(() => dropOut(tf.fill([100, 50], 3), rate, rollDice(seed)).dataSync())

describe('dropout', () => {
  it('leaves the expected share of the numbers, larger by as much', () => {
    const values = dropped(0.25, 1)
    const kept = values.filter((value) => value !== 0)
    // 5,000 throws: three deviations are 92.
    expect(Math.abs(kept.length - 3750)).toBeLessThan(92)
    for (const value of kept) expect(value).toBeCloseTo(4, 5)
  })

  it('falls alike with the same dice, and otherwise with others', () => {
    expect(dropped(0.5, 2)).toEqual(dropped(0.5, 2))
    expect(dropped(0.5, 2)).not.toEqual(dropped(0.5, 3))
  })
})
