import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { shapeFactors, shapes } from '../../src/data/shapes.ts'
import { memoryBytes } from '../../src/experiments/memory-context.ts'

const wanted = {
  images: 1000,
  testImages: 100,
  classes: 8,
  height: 28,
  width: 28,
  channels: 1 as 1 | 3,
  clutter: 2,
  noise: 0.02,
  seed: 0,
}
const open = (changes: Partial<typeof wanted> = {}) => shapes.open({ ...wanted, ...changes }, memoryBytes())
const sum = (data: Uint8Array) => createHash('sha256').update(data).digest('hex').slice(0, 16)

describe('drawn shapes', () => {
  it('are the same on every machine', async () => {
    const { train } = await open()
    expect(sum((await train.read([0, 1, 2, 3, 4, 5, 6, 7])).data)).toMatchInlineSnapshot(`"b4bcdf8ec7b83799"`)
    const colour = await open({ channels: 3, height: 20, width: 33, classes: 1024 })
    expect(sum((await colour.test.read([0, 50])).data)).toMatchInlineSnapshot(`"50ce992798c5a6b4"`)
  })

  it('differ by seed, split and index', async () => {
    const { train, test } = await open()
    const other = await open({ seed: 1 })
    const sums = [await train.read([0]), await train.read([8]), await test.read([0]), await other.train.read([0])].map(
      ({ data }) => sum(data),
    )
    expect(new Set(sums).size).toBe(4)
  })

  it('count without limit in constant memory', async () => {
    const { train } = await open({ images: 100_000_000 })
    expect((await train.read([99_999_999])).labels?.[0]).toBe(99_999_999 % 8)
  })

  it('show the factors that are told: the figure is brightest where it is said to be', async () => {
    const { train } = await open({ clutter: 0, noise: 0 })
    for (let index = 0; index < 64; index += 8) {
      const factors = shapeFactors({ ...wanted, clutter: 0, noise: 0 }, 'train', index)
      expect(factors.label).toBe(0)
      const { data } = await train.read([index])
      let [mass, x, y] = [0, 0, 0]
      for (let i = 0; i < data.length; i++) {
        const light = Math.max(0, data[i]! / 255 - factors.ground - 0.01)
        mass += light
        x += light * ((i % 28) + 0.5)
        y += light * (Math.floor(i / 28) + 0.5)
      }
      // Of a disc; textures move its centre of mass a little.
      expect(Math.abs(x / mass / 28 - 0.5 - factors.x)).toBeLessThan(factors.scale / 2)
      expect(Math.abs(y / mass / 28 - 0.5 - factors.y)).toBeLessThan(factors.scale / 2)
    }
  })

  it('tell classes by figure, then texture, then paint', () => {
    const many = { ...wanted, classes: 1024 }
    const factors = Array.from({ length: 1024 }, (_, i) => shapeFactors(many, 'train', i))
    const kinds = new Set(factors.map(({ figure, texture, paint }) => `${figure} ${texture} ${paint}`))
    expect(kinds.size).toBe(1024)
    expect(factors.every(({ paint }) => paint < 16)).toBe(true)
  })
})
