import { beforeAll, describe, expect, it } from 'vitest'
import type { ImageShape } from '../../../src/data/dataset.ts'
import { chooseEngine } from '../../../src/engine/choose.ts'
import { InvalidDefinition } from '../../../src/errors.ts'
import { beforeRelu } from '../../../src/models/nets/net.ts'
import { small } from '../../../src/models/nets/small.ts'
import { type Tensor4D, tf } from '../../../src/tf.ts'
import { buildSmall, defaultsOf } from '../tiny.ts'

beforeAll(async () => {
  await chooseEngine('auto')
})

const planSmall = (given: Record<string, unknown>, shape: ImageShape) =>
  small.plan(defaultsOf(small.parameters, given) as never, shape)

const cases: { widths: number[]; shape: ImageShape }[] = [
  { widths: [16, 32, 64], shape: [28, 28, 1] },
  { widths: [5], shape: [2, 3, 3] },
  { widths: [4, 6, 8], shape: [13, 9, 2] },
]

describe('the small net', () => {
  it.each(cases)('is what its plan says: $widths on $shape', ({ widths, shape }) => {
    const plan = planSmall({ widths }, shape)
    const net = buildSmall({ widths }, shape, 1)
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
    const plan = planSmall({ widths: [16, 32, 64] }, [28, 28, 1])
    expect(plan.weights).toBe(9 * 1 * 16 + 9 * 16 * 32 + 9 * 32 * 64 + 2 * (16 + 32 + 64))
    expect(plan.multiplyAdds).toBe(28 * 28 * 9 * 16 + 14 * 14 * 9 * 16 * 32 + 7 * 7 * 9 * 32 * 64)
    expect(plan.top).toBe('flat')
    expect(plan.taps.flat).toEqual([576])
  })

  it('refuses images that it would halve away, and says how many layers they allow', () => {
    const build = () => planSmall({ widths: [4, 4, 4, 4, 4] }, [28, 40, 1])
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
      const net = buildSmall({ widths: [8] }, [8, 8, 1], seed)
      const filter = net.weights['conv1/filter']!.dataSync()
      tf.dispose([net.weights, net.memory])
      return filter
    }
    expect(filterOf(5)).toEqual(filterOf(5))
    expect(filterOf(5)).not.toEqual(filterOf(6))
  })

  it('knows its taps by name only', () => {
    const net = buildSmall({ widths: [2] }, [4, 4, 1], 1)
    const images = tf.zeros([1, 4, 4, 1]) as Tensor4D
    expect(() => tf.tidy(() => net.forward(images, ['conv2'], false))).toThrow('conv2')
    tf.dispose([images, net.weights, net.memory])
  })

  it.each([false, true])('shows what comes before each relu, and the same after it (training: %s)', (training) => {
    const net = buildSmall({ widths: [3, 5], input: 'sobel' }, [8, 8, 1], 1)
    const images = tf.randomUniform([3, 8, 8, 1], 0, 1, 'float32', 7) as Tensor4D
    tf.tidy(() => {
      const alone = net.forward(images, ['block1', 'flat'], training)
      const both = net.forward(images, ['input', 'norm1', 'block1', 'flat'], training)
      const before = both.norm1!.dataSync()
      expect(Math.min(...before)).toBeLessThan(0)
      const after = alone.block1!.dataSync()
      for (const [i, value] of before.entries()) expect(after[i]).toBeCloseTo(Math.max(0, value), 5)
      const flat = both.flat!.dataSync()
      for (const [i, value] of alone.flat!.dataSync().entries()) expect(flat[i]).toBeCloseTo(value, 5)
      expect(both.input!.shape).toEqual([3, 8, 8, 2])
    })
    tf.dispose([images, net.weights, net.memory])
  })

  it('is arranged as asked', () => {
    const given = {
      widths: [4, 6],
      convs: [2, 1],
      order: 'norm-relu-pool',
      pool: 'average',
      globalMean: true,
      dense: [10],
      dropout: 0.5,
    }
    const plan = planSmall(given, [12, 12, 3])
    expect(plan.layers.map(({ name }) => name).join(' ')).toBe(
      'input conv1_1 norm1_1 relu1_1 conv1_2 norm1_2 relu1_2 pool1 conv2 norm2 relu2 pool2 mean dropout2 fc3 relu3',
    )
    expect(plan.abilities).toEqual([])
    expect(plan.weights).toBe(9 * 3 * 4 + 9 * 4 * 4 + 9 * 4 * 6 + 2 * (4 + 4 + 6) + 6 * 10 + 10)
    expect(beforeRelu(plan, plan.top)).toBe('fc3')
    const plain = planSmall({ widths: [4], norm: 'none' }, [12, 12, 3])
    expect(plain.layers.map(({ name }) => name).join(' ')).toBe('input conv1 pool1 block1 flat')
    expect(plain.weights).toBe(9 * 3 * 4 + 4)
    expect(beforeRelu(plain, plain.top)).toBe('pool1')
  })

  it('gives a tap of its own to each layer, even where one hands on what it was given', () => {
    const net = buildSmall({ widths: [2], dense: [3], dropout: 0.5, dropoutAt: 'after' }, [4, 4, 1], 1)
    const images = tf.ones([1, 4, 4, 1]) as Tensor4D
    const taps = tf.tidy(() => net.forward(images, ['input', 'relu2', 'dropout2'], false))
    tf.dispose(taps.input!)
    tf.dispose(taps.relu2!)
    expect([...taps.dropout2!.shape]).toEqual([1, 3])
    expect(taps.dropout2!.dataSync()).toHaveLength(3)
    expect([...images.dataSync()]).toEqual(Array(16).fill(1))
    tf.dispose([images, taps, net.weights, net.memory])
  })
})
