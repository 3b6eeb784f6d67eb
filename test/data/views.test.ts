import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { type Augmentation, checkView, drawViews } from '../../src/data/augment.ts'
import { gaussian } from '../../src/data/blur.ts'
import { jitterColours } from '../../src/data/colour.ts'
import { drawBox } from '../../src/data/crop.ts'
import type { ImageShape } from '../../src/data/dataset.ts'
import { type Dice, rollDice } from '../../src/data/dice.ts'
import { warpFrom } from '../../src/data/warp.ts'

const numbers = (shape: ImageShape) => shape.reduce((product, side) => product * side, 1)
const noise = (shape: ImageShape) => Uint8Array.from({ length: numbers(shape) }, (_, i) => (i * 7919) % 256)

function draw(shape: ImageShape, view: Augmentation, bytes: Uint8Array, seed: number, source = shape): number[] {
  const out = new Float32Array(numbers(shape) + 2).fill(-1)
  drawViews(shape, view, source)(bytes, 0, out, 1, rollDice(seed))
  expect([out[0], out.at(-1)]).toEqual([-1, -1])
  return [...out.subarray(1, -1)]
}

function expectClose(found: ArrayLike<number>, wanted: ArrayLike<number>, digits = 5) {
  expect(found.length).toBe(wanted.length)
  for (let i = 0; i < wanted.length; i++) expect(found[i]).toBeCloseTo(wanted[i]!, digits)
}

/** Dice whose uniform() falls as told, each with below() 0 and the order as it is. */
function loaded(shares: number[]): Dice {
  const dice: Dice = {
    ...rollDice(0),
    for: () => dice,
    uniform: () => shares.shift() ?? 0,
    below: () => 0,
    permutation: (n) => Int32Array.from({ length: n }, (_, i) => i),
  }
  return dice
}

const all: Augmentation = {
  shift: 2,
  flip: 0.5,
  gamma: 1,
  light: 0.5,
  gain: 0.4,
  crop: { smallest: 0.2, largest: 1, ratio: 4 / 3 },
  rotation: 10,
  jitter: { probability: 1, brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1 },
  grey: 0.2,
  blur: { probability: 0.5, smallest: 0.1, largest: 2 },
  erase: { probability: 0.5, smallest: 0.02, largest: 0.3, ratio: 3 },
}

describe('views as they were drawn before crops', () => {
  it.each([
    [[28, 28, 1], { shift: 2, flip: 0.5, gamma: 1, light: 0.5, gain: 0.4 }, '6c6b7f5df0b85f195793a0897074eee3'],
    [[9, 11, 3], { shift: 3, flip: 0.3, gamma: 0.5, light: 1, gain: 0.2 }, '955b29598f3ded7b62690d6af71d6cdf'],
  ] as const)('are the same bit for bit: %j %j', (shape, view, digest) => {
    const [bytes, out, hash] = [noise(shape), new Float32Array(numbers(shape)), createHash('sha256')]
    const drawView = drawViews(shape, view)
    for (let i = 0; i < 200; i++) {
      drawView(bytes, 0, out, 0, rollDice(i).for('augment', 3, i))
      hash.update(new Uint8Array(out.buffer))
    }
    expect(hash.digest('hex').slice(0, 32)).toBe(digest)
  })
})

describe('a warp', () => {
  const tables = Float32Array.from({ length: 256 }, (_, byte) => byte / 255)
  const still = { dy: 0, dx: 0, flipped: false, angle: 0, tables, table: 0, level: 1, slopeY: 0, slopeX: 0 }

  function warp(shape: ImageShape, source: ImageShape, bytes: number[], placing: object) {
    const out = new Float32Array(numbers(shape))
    const box = { top: 0, left: 0, height: source[0], width: source[1] }
    warpFrom(shape, source)(Uint8Array.from(bytes), 0, out, 0, { ...still, box, ...placing })
    return [...out].map((value) => Math.round(value * 255))
  }

  it('interpolates between the middles of pixels, and goes on at the border as it ends', () => {
    expect(warp([1, 4, 1], [1, 2, 1], [0, 200], {})).toEqual([0, 50, 150, 200])
    expect(warp([4, 1, 1], [2, 1, 1], [0, 200], {})).toEqual([0, 50, 150, 200])
    expect(warp([1, 1, 1], [2, 2, 1], [10, 20, 30, 40], {})).toEqual([25])
  })

  it('shows the box alone, flipped and then shifted', () => {
    const source = [1, 2, 3, 4, 5, 6, 7, 8, 9]
    expect(warp([2, 2, 1], [3, 3, 1], source, { box: { top: 1, left: 1, height: 2, width: 2 } })).toEqual([5, 6, 8, 9])
    expect(warp([2, 2, 1], [2, 2, 1], [1, 2, 3, 4], { flipped: true })).toEqual([2, 1, 4, 3])
    expect(warp([2, 2, 1], [2, 2, 1], [1, 2, 3, 4], { flipped: true, dx: 1 })).toEqual([0, 2, 0, 4])
    expect(warp([2, 2, 1], [2, 2, 1], [1, 2, 3, 4], { dy: -1 })).toEqual([3, 4, 0, 0])
    expect(warp([2, 2, 1], [2, 2, 1], [1, 2, 3, 4], { dx: 2 })).toEqual([0, 0, 0, 0])
    expect(warp([1, 2, 3], [1, 2, 3], [1, 2, 3, 4, 5, 6], { flipped: true })).toEqual([4, 5, 6, 1, 2, 3])
  })

  it('turns about the middle, with black where the image ends', () => {
    expect(warp([3, 3, 1], [3, 3, 1], [1, 2, 3, 4, 5, 6, 7, 8, 9], { angle: Math.PI / 2 })).toEqual(
      // Row 0 shows what is left of the middle, from below.
      [7, 4, 1, 8, 5, 2, 9, 6, 3],
    )
    const turned = warp([5, 5, 1], [5, 5, 1], new Array(25).fill(200), { angle: Math.PI / 4 })
    expect([turned[0], turned[4], turned[12], turned[20], turned[24]]).toEqual([0, 0, 200, 0, 0])
  })

  it.each([0, 0.3])(
    'is the same whether it is turned by next to nothing or not at all, brightness included',
    (slopeX) => {
      const [shape, source] = [
        [6, 5, 3],
        [9, 7, 3],
      ] as const
      const placing = {
        box: { top: 1, left: 2, height: 7, width: 4 },
        dy: 1,
        dx: -1,
        flipped: true,
        level: 0.8,
        slopeX,
      }
      const upright = warp(shape, source, [...noise(source)], placing)
      const turned = warp(shape, source, [...noise(source)], { ...placing, angle: 1e-9 })
      expect(turned).toEqual(upright)
    },
  )
})

describe('a crop', () => {
  it('has an area and a ratio within what is asked, and lies anywhere', () => {
    const tops = new Set<number>()
    for (let seed = 0; seed < 500; seed++) {
      const { top, left, height, width } = drawBox(
        64,
        64,
        { smallest: 0.2, largest: 0.5, ratio: 4 / 3 },
        rollDice(seed),
      )
      const [area, ratio] = [(height * width) / 64 ** 2, width / height]
      expect(area).toBeGreaterThan(0.19)
      expect(area).toBeLessThan(0.52)
      expect(ratio).toBeGreaterThan(0.72)
      expect(ratio).toBeLessThan(1.4)
      expect(Math.min(top, left, 64 - top - height, 64 - left - width)).toBeGreaterThanOrEqual(0)
      tops.add(top)
    }
    expect(tops.size).toBeGreaterThan(25)
  })

  it('is the middle where the image is too long for any', () => {
    const box = drawBox(2, 100, { smallest: 1, largest: 1, ratio: 2 }, rollDice(1))
    expect(box).toEqual({ top: 0, left: 48, height: 2, width: 4 })
  })

  it('is cut out of larger images where there are such', () => {
    const source: ImageShape = [4, 4, 1]
    const crop = { smallest: 0.25, largest: 0.25, ratio: 1 }
    const view = draw(
      [2, 2, 1],
      { crop },
      Uint8Array.from({ length: 16 }, (_, i) => i * 10),
      3,
      source,
    ).map((value) => Math.round(value * 25.5))
    const [first] = view
    // A quarter of the area at the size of the view: the pixels as they are.
    expect(view).toEqual([first!, first! + 1, first! + 4, first! + 5])
  })
})

describe('colours', () => {
  const none = { probability: 1, brightness: 0, contrast: 0, saturation: 0, hue: 0 }
  function change(pixels: number[], wanted: object, shares: number[], channels = 3) {
    const out = Float32Array.from([9, ...pixels])
    jitterColours(out, 1, out.length, channels, { ...none, ...wanted }, loaded(shares))
    expect(out[0]).toBe(9)
    return out.subarray(1)
  }

  it('are brightened, cut at 1', () => {
    expectClose(change([0.2, 0.4, 0.8], { brightness: 0.5 }, [0, 1]), [0.3, 0.6, 1])
  })

  it('go away from the mean grey of the image, or towards it', () => {
    expectClose(change([0.2, 0.6], { contrast: 0.5 }, [0, 0.5, 0], 1), [0.3, 0.5])
    const grey = 0.299 * 0.8 + 0.587 * 0.2
    expectClose(change([0.8, 0.2, 0, 0.8, 0.2, 0], { contrast: 1 }, [0, 0.5, 0]), new Array(6).fill(grey))
  })

  it('fade into their own grey', () => {
    const grey = 0.299 * 0.8 + 0.587 * 0.2 + 0.114 * 0.4
    expectClose(change([0.8, 0.2, 0.4], { saturation: 1 }, [0, 0.5, 0.5, 0]), [grey, grey, grey])
  })

  it('turn on the circle of colours, by thirds from red to green to blue', () => {
    const turn = (pixels: number[], share: number) => change(pixels, { hue: 0.5 }, [0, 0.5, 0.5, 0.5, share])
    expectClose(turn([1, 0, 0], 0.5 + 1 / 3), [0, 1, 0])
    expectClose(turn([1, 0, 0], 0.5 - 1 / 3), [0, 0, 1])
    expectClose(turn([0.1, 0.7, 0.4], 0.5 + 1 / 3), [0.4, 0.1, 0.7])
    expectClose(turn([0.5, 0.5, 0.5], 0.9), [0.5, 0.5, 0.5])
    // There and back again, through every sixth.
    for (let sixth = 0; sixth < 6; sixth++) {
      const there = turn([0.9, 0.3, 0.5], sixth / 6)
      expectClose(turn([...there], 1 - sixth / 6), [0.9, 0.3, 0.5])
    }
  })

  it('stay where the dice say so, and go for good where grey is certain', () => {
    expectClose(change([0.2, 0.4, 0.8], { probability: 0.5, brightness: 0.5 }, [0.5, 1]), [0.2, 0.4, 0.8])
    const [red, green, blue] = draw([1, 1, 3], { grey: 1 }, Uint8Array.of(255, 0, 0), 1)
    expectClose([red!, green!, blue!], [0.299, 0.299, 0.299])
  })
})

describe('blur and erasing', () => {
  it('spread a point by a Gaussian that adds up to 1', () => {
    const weights = gaussian(1)
    expect(weights.reduce((sum, weight, i) => sum + (i === 0 ? weight : 2 * weight), 0)).toBeCloseTo(1, 12)
    expect(weights[1]! / weights[0]!).toBeCloseTo(Math.exp(-0.5), 12)
    const point = new Uint8Array(15 * 15 * 3)
    point[(7 * 15 + 7) * 3 + 1] = 255
    const view = draw([15, 15, 3], { blur: { probability: 1, smallest: 1, largest: 1 } }, point, 2)
    expect(view[(7 * 15 + 7) * 3 + 1]).toBeCloseTo(weights[0]! ** 2, 6)
    expect(view[(8 * 15 + 5) * 3 + 1]).toBeCloseTo(weights[1]! * weights[2]!, 6)
    expect(view.filter((value) => value > 0)).toHaveLength(49)
    const flat = draw([9, 5, 1], { blur: { probability: 1, smallest: 2, largest: 2 } }, new Uint8Array(45).fill(51), 2)
    expectClose(flat, new Array(45).fill(0.2))
  })

  it('make a rectangle black and leave the rest', () => {
    const erase = { probability: 1, smallest: 0.25, largest: 0.25, ratio: 1 }
    const view = draw([8, 8, 3], { erase }, new Uint8Array(192).fill(255), 4)
    const black = [...view.keys()].filter((i) => view[i] === 0)
    expect(black).toHaveLength(16 * 3)
    expect(view.filter((value) => value === 1)).toHaveLength(48 * 3)
  })
})

describe('a view of many parts', () => {
  it('is the same from the same dice, another for each view of a batch, and within [0, 1]', () => {
    const shape: ImageShape = [12, 10, 3]
    const bytes = noise([16, 16, 3])
    const drawView = drawViews(shape, all, [16, 16, 3])
    const at = (place: number, seed = 5) => {
      const out = new Float32Array(360)
      drawView(bytes, 0, out, 0, rollDice(seed), place)
      return out
    }
    expect(at(0)).toEqual(at(0))
    expect(at(0)).not.toEqual(at(1))
    for (let seed = 0; seed < 50; seed++)
      for (const value of at(0, seed)) if (!(value >= 0 && value <= 1)) throw new Error(`${value} at seed ${seed}`)
  })

  it('differs in one strength alone from one that differs in it', () => {
    const shape: ImageShape = [8, 8, 3]
    const bytes = noise(shape)
    const { erase: _, ...rest } = all
    for (let seed = 0; seed < 20; seed++) {
      const [erased, plain] = [draw(shape, all, bytes, seed), draw(shape, rest, bytes, seed)]
      for (const [i, value] of erased.entries()) expect([0, plain[i]]).toContain(value)
      const never = { ...all, blur: { ...all.blur!, probability: 0 } }
      const { blur: __, ...sharp } = all
      expect(draw(shape, never, bytes, seed)).toEqual(draw(shape, sharp, bytes, seed))
    }
  })
})

describe('a view that does not fit', () => {
  it('names what does not and what would', () => {
    const shown = (view: Augmentation, shape: ImageShape) =>
      checkView(view, shape).map(({ pointer, detail }) => `${pointer} ${detail}`)
    expect(shown(all, [28, 28, 3])).toEqual([])
    const grey = 'the images are grey and have no colour to change: 0 would be right'
    expect(shown(all, [28, 28, 1])).toEqual([`/grey ${grey}`, `/jitter/saturation ${grey}`, `/jitter/hue ${grey}`])
    expect(shown({ shift: 28 }, [28, 40, 1])).toEqual([
      '/shift is 28; the images have sides of 28: less would be right',
    ])
    expect(shown({ crop: { smallest: 0.5, largest: 0.2, ratio: 1 } }, [8, 8, 1])).toEqual([
      '/crop/smallest is 0.5; it should be at most the largest, 0.2',
    ])
  })
})
