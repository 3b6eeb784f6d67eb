import { Type } from 'typebox'
import type { ImageShape } from '../../data/dataset.ts'
import { InvalidDefinition } from '../../errors.ts'
import { type Tensor, type Tensor4D, tf, type Variable } from '../../tf.ts'
import { type Dice, rollDice } from '../dice.ts'
import { type Norm, normaliseBatch, normaliseRunning } from '../layers/norm.ts'
import { defineNet, type LayerPlan, type Net, type NetPlan } from './net.ts'

const parameters = Type.Object(
  {
    widths: Type.Array(Type.Integer({ minimum: 1, maximum: 1024, description: 'Channels of one layer.' }), {
      minItems: 1,
      maxItems: 8,
      default: [16, 32, 64],
      description: 'Channels of each layer, from the image on; every layer halves height and width.',
    }),
  },
  { additionalProperties: false },
)

const filter3x3 = { kernel: 3, stride: 1, padding: [1, 1] } as const
const halving = { pool: 'max', kernel: 2, stride: 2, padding: [0, 0] } as const

/** One layer by shape: conv 3x3 to [height, width, channels], then pool, norm and relu. */
interface Layer {
  name: number
  height: number
  width: number
  from: number
  channels: number
}

function layersOf(widths: readonly number[], [height, width, channels]: ImageShape): Layer[] {
  return widths.map((own, i) => ({
    name: i + 1,
    height: Math.floor(height / 2 ** i),
    width: Math.floor(width / 2 ** i),
    from: i === 0 ? channels : widths[i - 1]!,
    channels: own,
  }))
}

function plan(widths: readonly number[], imageShape: ImageShape): NetPlan {
  const smallest = Math.min(imageShape[0], imageShape[1])
  if (smallest < 2 ** widths.length) {
    const deepest = Math.floor(Math.log2(smallest))
    const detail = `${widths.length} layers, each of which halves the image, need at least ${2 ** widths.length} pixels a side; images of ${imageShape[0]} x ${imageShape[1]} allow ${deepest === 1 ? '1 layer' : `${deepest} layers`}`
    throw new InvalidDefinition([{ pointer: '/widths', detail }])
  }
  const layers = layersOf(widths, imageShape)
  const taps: Record<string, readonly number[]> = {}
  let weights = 0
  let memoryBytes = 0
  let multiplyAdds = 0
  const planned: LayerPlan[] = []
  for (const { name, height, width, from, channels } of layers) {
    const pooled = [Math.floor(height / 2), Math.floor(width / 2), channels]
    const filtered = [height, width, channels]
    planned.push(
      { kind: 'conv', name: `conv${name}`, input: [height, width, from], output: filtered, ...filter3x3 },
      { kind: 'pool', name: `pool${name}`, input: filtered, output: pooled, ...halving },
      { kind: 'norm', name: `norm${name}`, input: pooled, output: pooled },
      { kind: 'relu', name: `block${name}`, input: pooled, output: pooled },
    )
    taps[`conv${name}`] = filtered
    taps[`pool${name}`] = pooled
    taps[`block${name}`] = pooled
    taps.flat = [pooled.reduce((a, b) => a * b, 1)]
    weights += 9 * from * channels + 2 * channels
    memoryBytes += 4 * 2 * channels
    multiplyAdds += height * width * 9 * from * channels
  }
  const { flat, ...others } = taps
  planned.push({ kind: 'flatten', name: 'flat', input: planned.at(-1)!.output, output: flat! })
  return {
    taps: { ...others, flat: flat! },
    top: 'flat',
    layers: planned,
    weights,
    memoryBytes,
    multiplyAdds,
    abilities: ['pools'],
  }
}

/** He et al., 2015: normal with variance 2 / (inputs of one output), so that relu keeps the scale. */
function drawFilter(from: number, channels: number, dice: Dice): Variable {
  const deviation = Math.sqrt(2 / (9 * from))
  const values = Float32Array.from({ length: 9 * from * channels }, () => deviation * dice.normal())
  return tf.tidy(() => tf.variable(tf.tensor4d(values, [3, 3, from, channels])))
}

function drawNorm(channels: number): Norm {
  return tf.tidy(() => ({
    scale: tf.variable(tf.ones([channels])),
    offset: tf.variable(tf.zeros([channels])),
    mean: tf.variable(tf.zeros([channels]), false),
    variance: tf.variable(tf.ones([channels]), false),
  }))
}

function build(widths: readonly number[], imageShape: ImageShape, seed: number): Net {
  const netPlan = plan(widths, imageShape)
  const dice = rollDice(seed).for('net')
  const layers = layersOf(widths, imageShape).map(({ name, from, channels }) => ({
    name,
    filter: drawFilter(from, channels, dice.for(name)),
    norm: drawNorm(channels),
  }))
  const weights: Record<string, Variable> = {}
  const memory: Record<string, Variable> = {}
  for (const { name, filter, norm } of layers) {
    weights[`conv${name}/filter`] = filter
    weights[`norm${name}/scale`] = norm.scale
    weights[`norm${name}/offset`] = norm.offset
    memory[`norm${name}/mean`] = norm.mean
    memory[`norm${name}/variance`] = norm.variance
  }
  const forward = (images: Tensor4D, wanted: readonly string[], training: boolean): Record<string, Tensor> => {
    const taps: Record<string, Tensor> = {}
    const missing = new Set(wanted)
    let x = images
    const tap = (name: string, value: Tensor) => {
      if (missing.delete(name)) taps[name] = value
    }
    for (const { name, filter, norm } of layers) {
      if (missing.size === 0) break
      const filtered = tf.conv2d(x, filter as never, 1, 'same')
      const pooled = tf.maxPool(filtered, 2, 2, 'valid')
      x = training ? normaliseBatch(pooled, norm) : normaliseRunning(pooled, norm)
      tap(`conv${name}`, filtered)
      tap(`pool${name}`, pooled)
      tap(`block${name}`, x)
    }
    if (missing.has('flat')) tap('flat', tf.reshape(x, [x.shape[0], -1]))
    if (missing.size > 0) throw new RangeError(`the net has no tap ${[...missing].join(', ')}`)
    return taps
  }
  return { plan: netPlan, weights, memory, forward }
}

/** Convolution 3x3, max pooling 2x2, batch norm and relu, once a width: pooling first is as good and costs less. */
export const small = defineNet({
  name: 'small',
  title: 'Small convolutional net',
  paper: 'Simonyan and Zisserman, 2015 (3x3 filters); Ioffe and Szegedy, 2015 (batch norm)',
  parameters,
  plan: ({ widths }, imageShape) => plan(widths, imageShape),
  build: ({ widths }, imageShape, seed) => build(widths, imageShape, seed),
})
