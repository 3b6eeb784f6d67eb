import { describe, expect, it } from 'vitest'
import { type Augmentation, drawViews } from '../../src/data/augment.ts'
import type { ImageShape } from '../../src/data/dataset.ts'
import { type Dice, rollDice } from '../../src/data/dice.ts'

/** Dice that fall as they are told: below(n) takes from `whole`, uniform() from `shares`. */
function loaded(whole: number[], shares: number[]): Dice {
  const take = (list: number[]) => list.shift() ?? 0
  return { ...rollDice(0), below: () => take(whole), uniform: () => take(shares) } as Dice
}

function draw(shape: ImageShape, view: Augmentation, bytes: number[], dice: Dice): number[] {
  const out = new Float32Array(bytes.length + 2).fill(-1)
  drawViews(shape, view)(Uint8Array.from([0, ...bytes]), 1, out, 1, dice)
  expect([out[0], out.at(-1)]).toEqual([-1, -1])
  return [...out.subarray(1, -1)]
}

const row = [51, 102, 153, 204]
const middle = [0.5, 0.5, 0.5, 0.5]

function expectClose(found: number[], wanted: number[]) {
  expect(found).toHaveLength(wanted.length)
  for (const [i, value] of found.entries()) expect(value).toBeCloseTo(wanted[i]!, 6)
}

describe('a view of an image', () => {
  it('is the image in [0, 1] where nothing is asked for', () => {
    expectClose(draw([2, 2, 1], {}, row, rollDice(3)), [0.2, 0.4, 0.6, 0.8])
  })

  it('is shifted, with black coming in', () => {
    // below(5) - 2: one row down, one column to the left.
    expectClose(draw([2, 2, 1], { shift: 2 }, row, loaded([3, 1, 0], [...middle])), [0, 0, 0.4, 0])
    expectClose(draw([2, 2, 1], { shift: 2 }, row, loaded([2, 3, 0], [...middle])), [0, 0.2, 0, 0.6])
    expectClose(draw([2, 2, 1], { shift: 2 }, row, loaded([0, 0, 0], [...middle])), [0, 0, 0, 0])
  })

  it('is flipped within its row, channels together, and shifted after that', () => {
    expectClose(draw([1, 4, 1], { flip: 0.5 }, row, loaded([0, 0, 0], [0.4, 0.5, 0.5, 0.5])), [0.8, 0.6, 0.4, 0.2])
    expectClose(draw([1, 4, 1], { flip: 0.5 }, row, loaded([0, 0, 0], [0.6, 0.5, 0.5, 0.5])), [0.2, 0.4, 0.6, 0.8])
    expectClose(draw([1, 2, 2], { flip: 1 }, row, loaded([0, 0, 0], [0, 0.5, 0.5, 0.5])), [0.6, 0.8, 0.2, 0.4])
    const shifted = draw([1, 4, 1], { flip: 1, shift: 1 }, row, loaded([1, 2, 0], [0, 0.5, 0.5, 0.5]))
    expectClose(shifted, [0, 0.8, 0.6, 0.4])
  })

  it('is bent by gamma from a table of 64', () => {
    const [low, high] = [Math.exp(-63 / 64), Math.exp(63 / 64)]
    const powers = (gamma: number) => [0.2, 0.4, 0.6, 0.8].map((value) => value ** gamma)
    expectClose(draw([2, 2, 1], { gamma: 1 }, row, loaded([0, 0, 0], [...middle])), powers(low))
    expectClose(draw([2, 2, 1], { gamma: 1 }, row, loaded([0, 0, 63], [...middle])), powers(high))
  })

  it('is lit by a slope along each axis and by a gain, cut at 1', () => {
    const slope = draw([1, 3, 1], { light: 0.5 }, [100, 100, 100], loaded([0, 0, 0], [1, 0.5, 1, 0.5]))
    expectClose(
      slope,
      [0.75, 1, 1.25].map((factor) => (100 / 255) * factor),
    )
    const down = draw([2, 1, 1], { light: 0.5 }, [100, 100], loaded([0, 0, 0], [1, 0, 0.5, 0.5]))
    expectClose(
      down,
      [1.25, 0.75].map((factor) => (100 / 255) * factor),
    )
    expectClose(draw([1, 2, 1], { gain: 0.4 }, [100, 255], loaded([0, 0, 0], [1, 0.5, 0.5, 1])), [140 / 255, 1])
  })

  it('is the same from the same dice and another from others', () => {
    const view = { shift: 2, flip: 0.5, gamma: 1, light: 0.5, gain: 0.4 }
    const image = Array.from({ length: 64 }, (_, i) => i * 4)
    const dice = rollDice(7).for('augment', 3)
    expect(draw([8, 8, 1], view, image, dice.for(5))).toEqual(draw([8, 8, 1], view, image, dice.for(5)))
    expect(draw([8, 8, 1], view, image, dice.for(5))).not.toEqual(draw([8, 8, 1], view, image, dice.for(6)))
  })

  it('spreads as it is told: shifts and flips are even, gain stays in its range', () => {
    const counts = { flips: 0, left: 0, gains: [] as number[] }
    const drawView = drawViews([1, 3, 1], { shift: 1, flip: 0.5 })
    const drawGain = drawViews([1, 1, 1], { gain: 0.4 })
    const out = new Float32Array(3)
    for (let i = 0; i < 3000; i++) {
      drawView(Uint8Array.of(50, 100, 200), 0, out, 0, rollDice(i))
      if (out.includes(Math.fround(50 / 255)) && out.includes(Math.fround(100 / 255)))
        counts.flips += out.indexOf(Math.fround(100 / 255)) < out.indexOf(Math.fround(50 / 255)) ? 1 : 0
      counts.left += out[1] === 0 ? 1 : 0
      drawGain(Uint8Array.of(100), 0, out, 0, rollDice(i))
      counts.gains.push((out[0]! * 255) / 100)
    }
    expect(Math.min(...counts.gains)).toBeGreaterThan(0.59)
    expect(Math.max(...counts.gains)).toBeLessThan(1.41)
    expect(counts.gains.reduce((a, b) => a + b) / 3000).toBeCloseTo(1, 1)
    // Of six cases (dx -1, 0, 1; flipped or not) and a third with dy 0, each is as likely as the others.
    expect(counts.left / 3000).toBeCloseTo(2 / 3, 1)
    expect(counts.flips / 3000).toBeCloseTo(1 / 9, 1)
  })
})
