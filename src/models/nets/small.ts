import { type Static, Type } from 'typebox'
import type { ImageShape } from '../../data/dataset.ts'
import { InvalidDefinition } from '../../errors.ts'
import { denseSchema, dropoutSchemas, fullyConnected } from './fully-connected.ts'
import { input, inputSchema } from './input.ts'
import { conv, flatten, globalMean, norm, pool, relu } from './kinds.ts'
import type { Layer } from './layer.ts'
import { defineNet } from './net.ts'
import { buildSequence, planSequence } from './sequence.ts'

const parameters = Type.Object(
  {
    widths: Type.Array(Type.Integer({ minimum: 1, maximum: 1024, description: 'Channels of one layer.' }), {
      minItems: 1,
      maxItems: 8,
      default: [16, 32, 64],
      description: 'Channels of each layer, from the image on; every layer halves height and width.',
    }),
    convs: Type.Array(Type.Integer({ minimum: 1, maximum: 4, description: 'Convolutions of one layer.' }), {
      minItems: 1,
      maxItems: 8,
      default: [1],
      description: 'Convolutions of each layer, one after the other; the last number counts for all further layers.',
    }),
    order: Type.Union([Type.Literal('pool-norm-relu'), Type.Literal('norm-relu-pool')], {
      default: 'pool-norm-relu',
      description: "What follows a layer's last convolution: pooling first is as good and costs less.",
    }),
    pool: Type.Union([Type.Literal('max'), Type.Literal('average')], {
      default: 'max',
      description: 'What a layer keeps of 2 x 2 cells.',
    }),
    norm: Type.Union([Type.Literal('batch'), Type.Literal('none')], {
      default: 'batch',
      description: 'Batch norm after each convolution, or none (each then has a bias).',
    }),
    globalMean: Type.Boolean({
      default: false,
      description: 'Whether only the mean of each channel goes on from the last layer, not the flat activations.',
    }),
    dense: denseSchema([]),
    ...dropoutSchemas(0, 'before'),
    input: inputSchema,
  },
  { additionalProperties: false },
)

type Parameters = Static<typeof parameters>

/** One layer, numbered from 1: convolutions, each but the last with norm and relu, then the rest in its order. */
function stage(own: Parameters, number: number): Layer[] {
  const { widths, convs, order } = own
  const count = convs[Math.min(number, convs.length) - 1]!
  const normed = own.norm === 'batch'
  const pooled = pool(`pool${number}`, own.pool, 2, 2)
  const layers: Layer[] = []
  for (let i = 1; i <= count; i++) {
    const name = count === 1 ? `${number}` : `${number}_${i}`
    const last = i === count
    layers.push(
      conv({
        name: `conv${name}`,
        channels: widths[number - 1]!,
        kernel: 3,
        padding: 1,
        bias: !normed,
        drawing: 'he',
        dice: count === 1 ? number : name,
      }),
    )
    if (last && order === 'pool-norm-relu') layers.push(pooled)
    if (normed) layers.push(norm(`norm${name}`))
    layers.push(relu(last && order === 'pool-norm-relu' ? `block${number}` : `relu${name}`))
    if (last && order === 'norm-relu-pool') layers.push(pooled)
  }
  return layers
}

function layersOf(own: Parameters): Layer[] {
  const stages = own.widths.flatMap((_, i) => stage(own, i + 1))
  const above = own.globalMean ? globalMean('mean') : flatten('flat')
  return [input(own.input), ...stages, above, ...fullyConnected(own, own.widths.length + 1, 'he')]
}

function assertLargeEnough({ widths }: Parameters, [height, width]: ImageShape): void {
  const smallest = Math.min(height, width)
  if (smallest >= 2 ** widths.length) return
  const deepest = Math.floor(Math.log2(smallest))
  const detail = `${widths.length} layers, each of which halves the image, need at least ${2 ** widths.length} pixels a side; images of ${height} x ${width} allow ${deepest === 1 ? '1 layer' : `${deepest} layers`}`
  throw new InvalidDefinition([{ pointer: '/widths', detail }])
}

/** Convolution 3x3, max pooling 2x2, batch norm and relu, once a width, or another arrangement of them. */
export const small = defineNet({
  name: 'small',
  title: 'Small convolutional net',
  paper: 'Simonyan and Zisserman, 2015 (3x3 filters); Ioffe and Szegedy, 2015 (batch norm)',
  parameters,
  plan(own, imageShape) {
    assertLargeEnough(own, imageShape)
    return planSequence(layersOf(own), imageShape)
  },
  build: (own, imageShape, seed) => buildSequence(layersOf(own), imageShape, seed),
})
