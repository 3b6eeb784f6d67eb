import { beforeAll, describe, expect, it } from 'vitest'
import type { ImageShape } from '../../../src/data/dataset.ts'
import { chooseEngine } from '../../../src/engine/choose.ts'
import { InvalidDefinition } from '../../../src/errors.ts'
import { small } from '../../../src/models/nets/small.ts'
import { type Tensor4D, tf } from '../../../src/tf.ts'

beforeAll(async () => {
  await chooseEngine('auto')
})

const cases: { widths: number[]; shape: ImageShape }[] = [
  { widths: [16, 32, 64], shape: [28, 28, 1] },
  { widths: [5], shape: [2, 3, 3] },
  { widths: [4, 6, 8], shape: [13, 9, 2] },
]

describe('the small net', () => {
  it.each(cases)('is what its plan says: $widths on $shape', ({ widths, shape }) => {
    const plan = small.plan({ widths }, shape)
    const net = small.build({ widths }, shape, 1)
    const numbers = (named: Record<string, { size: number }>) =>
      Object.values(named).reduce((sum, { size }) => sum + size, 0)
    expect(numbers(net.weights)).toBe(plan.weights)
    expect(4 * numbers(net.memory)).toBe(plan.memoryBytes)
    const names = Object.keys(plan.taps)
    const images = tf.randomUniform([2, ...shape]) as Tensor4D
    for (const training of [false, true]) {
      const taps = tf.tidy(() => net.forward(images, names, training))
      for (const name of names) expect(taps[name]!.shape).toEqual([2, ...plan.taps[name]!])
      tf.dispose(taps)
    }
    tf.dispose([images, net.weights, net.memory])
  })

  it('counts its weights and multiply-adds exactly', () => {
    const plan = small.plan({ widths: [16, 32, 64] }, [28, 28, 1])
    expect(plan.weights).toBe(9 * 1 * 16 + 9 * 16 * 32 + 9 * 32 * 64 + 2 * (16 + 32 + 64))
    expect(plan.multiplyAdds).toBe(28 * 28 * 9 * 16 + 14 * 14 * 9 * 16 * 32 + 7 * 7 * 9 * 32 * 64)
    expect(plan.top).toBe('flat')
    expect(plan.taps.flat).toEqual([576])
  })

  it('refuses images that it would halve away, and says how many layers they allow', () => {
    const build = () => small.plan({ widths: [4, 4, 4, 4, 4] }, [28, 40, 1])
    expect(build).toThrow(InvalidDefinition)
    try {
      build()
    } catch (error) {
      const [fault] = (error as InvalidDefinition).faults
      expect(fault?.pointer).toBe('/widths')
      expect(fault?.detail).toContain('allow 4 layers')
    }
  })

  it('draws the same weights from the same seed, and others from another', () => {
    const filterOf = (seed: number) => {
      const net = small.build({ widths: [8] }, [8, 8, 1], seed)
      const filter = net.weights['conv1/filter']!.dataSync()
      tf.dispose([net.weights, net.memory])
      return filter
    }
    expect(filterOf(5)).toEqual(filterOf(5))
    expect(filterOf(5)).not.toEqual(filterOf(6))
  })

  it('knows its taps by name only', () => {
    const net = small.build({ widths: [2] }, [4, 4, 1], 1)
    const images = tf.zeros([1, 4, 4, 1]) as Tensor4D
    expect(() => tf.tidy(() => net.forward(images, ['conv2'], false))).toThrow('conv2')
    tf.dispose([images, net.weights, net.memory])
  })
})
