import { afterEach, describe, expect, it } from 'vitest'
import type { ImageShape } from '../../../src/data/dataset.ts'
import { chooseEngine } from '../../../src/engine/choose.ts'
import { startMachine, whyNotHere } from '../../../src/engine/machine/index.ts'
import { rollDice } from '../../../src/models/dice.ts'
import { nets } from '../../../src/models/nets/index.ts'
import type { NetFamily } from '../../../src/models/nets/net.ts'
import { type Scalar, type Tensor, type Tensor4D, tf } from '../../../src/tf.ts'
import { defaultsOf } from '../tiny.ts'

type Given = Record<string, unknown>

interface Case {
  name: keyof typeof nets
  given: Given
  shape: ImageShape
  /** Whether batch norm uses the batch's statistics. */
  training: boolean
}

const cases: Case[] = [
  { name: 'alexnet', given: { widths: [8, 12, 16, 16, 8], dense: [20, 12] }, shape: [63, 63, 3], training: true },
  {
    name: 'alexnet',
    given: { widths: [8, 12, 16, 16, 8], groups: 1, norm: 'batch', input: 'sobel', dense: [20] },
    shape: [64, 65, 3],
    training: true,
  },
  { name: 'vgg', given: { width: 2, norm: 'batch', dense: [16] }, shape: [32, 32, 1], training: false },
  { name: 'resnet', given: { width: 4, stem: 'cifar' }, shape: [16, 16, 3], training: true },
  { name: 'resnet', given: { depth: 50, width: 2 }, shape: [32, 32, 3], training: false },
  {
    name: 'small',
    given: {
      widths: [4, 6],
      convs: [2, 1],
      order: 'norm-relu-pool',
      pool: 'average',
      globalMean: true,
      dense: [8],
      dropout: 0.3,
    },
    shape: [13, 13, 1],
    training: true,
  },
]

/** The loss of a batch, the gradients of all weights by name, and what was remembered before and after. */
function takeStep({ name, given, shape, training }: Case) {
  const family = nets[name] as unknown as NetFamily
  const net = family.build(defaultsOf(family.parameters, given), shape, 3)
  const memory = () => Object.values(net.memory).map((value) => [...value.dataSync()])
  const before = memory()
  const numbers = Float32Array.from(
    { length: 6 * shape.reduce((a, b) => a * b, 1) },
    (_, i) => (Math.sin(i * i) + 1) / 2,
  )
  const found = tf.tidy(() => {
    const images = tf.tensor4d(numbers, [6, ...shape]) as Tensor4D
    const { value, grads } = tf.variableGrads(() => {
      const { [net.plan.top]: y } = net.forward(images, [net.plan.top], training, rollDice(4))
      const weights = Float32Array.from({ length: y!.size }, (_, i) => Math.sin(i + 1))
      return tf.sum(tf.mul(y!, tf.tensor(weights, y!.shape))) as Scalar
    }, Object.values(net.weights))
    const named: Record<string, Tensor> = { loss: value }
    for (const [weight, variable] of Object.entries(net.weights)) {
      // What a norm takes off again has no gradient but what rounding leaves.
      const cancelled = weight.endsWith('/bias') && given.norm === 'batch' && weight.startsWith('conv')
      if (!cancelled) named[weight] = grads[variable.name]!
    }
    return named
  })
  const values = Object.fromEntries(Object.entries(found).map(([key, tensor]) => [key, tensor.dataSync().slice()]))
  const result = { values, before, after: memory() }
  tf.dispose([found, net.weights, net.memory])
  return result
}

/** How far apart all gradients are together, as a share of their length. */
function distance(values: Record<string, ArrayLike<number>>, wanted: Record<string, ArrayLike<number>>): number {
  let [apart, length] = [0, 0]
  for (const [name, own] of Object.entries(wanted))
    for (let i = 0; i < own.length; i++) {
      apart += (values[name]![i]! - own[i]!) ** 2
      length += own[i]! ** 2
    }
  return Math.sqrt(apart / length)
}

describe('a step of each family', () => {
  let dispose = () => {}
  afterEach(() => {
    dispose()
    dispose = () => {}
  })

  it.each(cases)('is the same on each engine: $name, $given', async (one) => {
    await chooseEngine('wasm', { threads: 1 })
    const wanted = takeStep(one)
    expect(Object.values(wanted.values).every((numbers) => numbers.every(Number.isFinite))).toBe(true)
    if (!one.training) expect(wanted.after).toEqual(wanted.before)
    else if (wanted.before.length > 0) expect(wanted.after).not.toEqual(wanted.before)
    await chooseEngine('onnx', { threads: 2 })
    expect(distance(takeStep(one).values, wanted.values)).toBeLessThan(1e-3)
    if (whyNotHere() !== undefined) return
    const engine = await startMachine({ threads: 2 })
    dispose = () => engine.dispose()
    expect(distance(takeStep(one).values, wanted.values)).toBeLessThan(1e-3)
    expect(engine.unwritten).toEqual({})
  })
})
