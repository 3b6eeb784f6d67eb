import { beforeAll, describe, expect, it } from 'vitest'
import { chooseEngine } from '../../../src/engine/choose.ts'
import { InvalidDefinition } from '../../../src/errors.ts'
import { rollDice } from '../../../src/models/dice.ts'
import { buildDecoder, planDecoder } from '../../../src/models/nets/decoder.ts'
import { conv, norm, pool, relu, residual } from '../../../src/models/nets/kinds.ts'
import type { Layer } from '../../../src/models/nets/layer.ts'
import { buildSequence, planSequence } from '../../../src/models/nets/sequence.ts'
import { type Tensor4D, tf } from '../../../src/tf.ts'

beforeAll(async () => {
  await chooseEngine('auto')
})

const convolution = (name: string, channels: number, kernel = 3, stride = 1, padding = 1): Layer[] => [
  conv({ name, channels, kernel, stride, padding, bias: true, drawing: 'he' }),
  relu(`relu-${name}`),
]

/** Macro-layers as VGG's: two convolutions of 4, two of 6. */
const vggLike: Layer[] = [
  ...convolution('conv1_1', 4),
  ...convolution('conv1_2', 4),
  pool('pool1', 'max', 2, 2),
  ...convolution('conv2_1', 6),
  ...convolution('conv2_2', 6),
  pool('pool2', 'max', 2, 2),
]

/** As AlexNet begins. */
const alexnetLike: Layer[] = [
  ...convolution('conv1', 7, 11, 4, 2),
  pool('pool1', 'max', 3, 2),
  ...convolution('conv2', 5, 5, 1, 2),
  pool('pool2', 'max', 3, 2),
]

const faultOf = (layers: Layer[], depth: number | 'all' = 'all') => {
  try {
    planDecoder(planSequence(layers, [16, 16, 3]), [16, 16, 3], depth)
  } catch (error) {
    if (error instanceof InvalidDefinition) return error.faults[0]!.detail
    throw error
  }
  return undefined
}

describe('the mirror of a net', () => {
  it('has its convolutions the other way round, each with a relu but the last to the pixels', () => {
    const net = planSequence(vggLike, [16, 16, 3])
    const { layers, weights, multiplyAdds } = planDecoder(net, [16, 16, 3])
    expect(layers.map(({ pool, code, source }) => [pool, code, source])).toEqual([
      ['pool1', 'pool1', 'relu-conv1_2'],
      ['pool2', 'pool2', 'relu-conv2_2'],
    ])
    const steps = layers.map(({ deconvs }) =>
      deconvs.map(({ name, input, output, relu }) => [name, input[2], output[2], relu]),
    )
    expect(steps).toEqual([
      [
        ['conv1_2', 4, 4, true],
        ['conv1_1', 4, 3, false],
      ],
      [
        ['conv2_2', 6, 6, true],
        ['conv2_1', 6, 4, true],
      ],
    ])
    expect(weights).toBe(9 * (4 * 4 + 4 * 3 + 6 * 6 + 6 * 4) + (4 + 3 + 6 + 4))
    expect(multiplyAdds).toBe(9 * (256 * (4 * 4 + 4 * 3) + 64 * (6 * 6 + 6 * 4)))
  })

  it('reads the code after the norm and relu that follow a pool', () => {
    const layers = [
      ...convolution('conv1', 4),
      pool('pool1', 'max', 2, 2),
      norm('norm1'),
      relu('block1'),
      ...convolution('conv2', 4),
      pool('pool2', 'max', 2, 2),
    ]
    const plan = planDecoder(planSequence(layers, [16, 16, 3]), [16, 16, 3])
    expect(plan.layers.map(({ code, source }) => [code, source])).toEqual([
      ['block1', 'relu-conv1'],
      ['pool2', 'relu-conv2'],
    ])
  })

  it("has three convolutions for a strided one at the image, as the authors' of AlexNet", () => {
    const net = planSequence(alexnetLike, [63, 63, 3])
    const [first] = planDecoder(net, [63, 63, 3]).layers
    expect(
      first!.deconvs.map(({ window, input, output, relu }) => [window.kernel, window.stride, input, output, relu]),
    ).toEqual([
      [5, 1, [15, 15, 7], [15, 15, 7], true],
      [11, 4, [15, 15, 7], [63, 63, 4], true],
      [5, 1, [63, 63, 4], [63, 63, 3], false],
    ])
  })

  it.each([
    ['VGG', vggLike, 16],
    ['AlexNet, whose pools overlap', alexnetLike, 63],
  ] as const)('decodes to the shapes of what it mirrors, with a gradient for every weight: %s', (_, layers, side) => {
    const net = buildSequence([...layers], [side, side, 3], 3)
    const decoder = buildDecoder(planDecoder(net.plan, [side, side, 3]), 'he', rollDice(4))
    tf.tidy(() => {
      const values = Float32Array.from({ length: 2 * side * side * 3 }, (_, i) => Math.sin(i) ** 2)
      const images = tf.tensor4d(values, [2, side, side, 3])
      const wanted = decoder.plan.layers.flatMap(({ code, source }) => [code, source])
      const taps = net.forward(images, wanted, false) as Record<string, Tensor4D>
      const run = (switches: 'known' | 'fixed') => {
        let code = taps.pool2!
        for (const layer of [1, 0]) {
          const { source, output } = decoder.plan.layers[layer]!
          code = decoder.decode(layer, code, taps[source]!, switches)
          expect(code.shape).toEqual([2, ...output])
        }
        return code
      }
      for (const switches of ['known', 'fixed'] as const) {
        const { grads } = tf.variableGrads(
          () => tf.mean(tf.square(tf.sub(run(switches), images))),
          Object.values(decoder.weights),
        )
        expect(Object.keys(grads)).toHaveLength(Object.keys(decoder.weights).length)
        for (const [name, weight] of Object.entries(decoder.weights)) {
          expect(grads[weight.name]!.shape, name).toEqual(weight.shape)
          expect(Math.max(...grads[weight.name]!.abs().dataSync()), name).toBeGreaterThan(0)
        }
      }
    })
    tf.dispose([net.weights, net.memory, decoder.weights])
  })

  it('has the gradient of a strided transposed convolution that differences find', () => {
    const net = planSequence(alexnetLike, [63, 63, 3])
    const decoder = buildDecoder(planDecoder(net, [63, 63, 3]), 'he', rollDice(4))
    const filter = decoder.weights['decoder/conv1/filter']!
    const shape: [number, number, number, number] = [1, 15, 15, 7]
    const values = (seed: number, size: number) => Float32Array.from({ length: size }, (_, i) => Math.sin(seed + 3 * i))
    const loss = () => {
      const code = tf.tensor4d(values(1, 7 * 7 * 7), [1, 7, 7, 7])
      const source = tf.tensor4d(values(2, 15 * 15 * 7), shape)
      return tf.sum(tf.square(decoder.decode(0, code, source, 'known')))
    }
    tf.tidy(() => {
      const gradient = tf.variableGrads(loss as never, [filter]).grads[filter.name]!
      const direction = tf.div(gradient, tf.norm(gradient))
      const at = (length: number) => {
        const before = tf.clone(filter)
        filter.assign(tf.add(filter, tf.mul(direction, length)))
        const value = loss().dataSync()[0]!
        filter.assign(before)
        return value
      }
      const slope = (at(0.01) - at(-0.01)) / 0.02
      const expected = tf.norm(gradient).dataSync()[0]!
      expect(slope / expected).toBeCloseTo(1, 2)
    })
    tf.dispose(decoder.weights)
  })

  it('is refused where there are no pools, other pools, shortcuts before them, or not as many', () => {
    expect(faultOf(convolution('conv1', 4))).toMatch(/mirror of maximum pools, and this net has none/)
    expect(faultOf([...convolution('conv1', 4), pool('pool1', 'average', 2, 2)])).toMatch(/this net has none/)
    const block = residual('block1', convolution('inner', 3), [])
    expect(faultOf([block, pool('pool1', 'max', 2, 2)])).toMatch(/layer block1 \(residual\) has no mirror/)
    expect(faultOf(vggLike, 3)).toMatch(/at most 2 would be right/)
    const mixed = [...vggLike.slice(0, 5), block, pool('pool2', 'max', 2, 2)]
    expect(faultOf(mixed)).toMatch(/or a depth of 1/)
    expect(faultOf(mixed, 1)).toBeUndefined()
  })
})
