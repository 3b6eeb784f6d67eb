import { type Static, Type } from 'typebox'
import { input, inputSchema } from './input.ts'
import { conv, type DrawingName, drawingSchema, globalMean, norm, pool, relu, residual } from './kinds.ts'
import type { Layer } from './layer.ts'
import { defineNet } from './net.ts'
import { buildSequence, planSequence } from './sequence.ts'

/** Blocks of each stage, and whether a block narrows its channels to a quarter in between. */
const depths = {
  18: { blocks: [2, 2, 2, 2], narrow: false },
  34: { blocks: [3, 4, 6, 3], narrow: false },
  50: { blocks: [3, 4, 6, 3], narrow: true },
  101: { blocks: [3, 4, 23, 3], narrow: true },
} as const

const parameters = Type.Object(
  {
    depth: Type.Union([Type.Literal(18), Type.Literal(34), Type.Literal(50), Type.Literal(101)], {
      default: 18,
      description: 'Layers with weights, the classifier included.',
    }),
    stem: Type.Union([Type.Literal('imagenet'), Type.Literal('cifar')], {
      default: 'imagenet',
      description:
        'What comes before the blocks: a convolution 7x7 with stride 2 and a maximum pool, or for small images a convolution 3x3.',
    }),
    width: Type.Integer({
      minimum: 1,
      maximum: 512,
      default: 64,
      description: 'Channels of the stem and the first stage; each further stage has twice as many.',
    }),
    zeroLast: Type.Boolean({
      default: false,
      description: 'Whether the last batch norm of each block begins with factors of 0, so that a block does nothing.',
    }),
    drawing: drawingSchema,
    input: inputSchema,
  },
  { additionalProperties: false },
)

type Parameters = Static<typeof parameters>

interface Filter {
  kernel: number
  channels: number
  stride?: number
  /** What the norm's factors are at first. */
  scale?: number
}

/** A convolution without bias, which keeps the size but for its stride, and its norm. */
function normed(name: string, filter: Filter, drawing: DrawingName): Layer[] {
  const { kernel, channels, stride = 1, scale = 1 } = filter
  const at = name.includes('/') ? name.lastIndexOf('/') + 1 : 0
  const own = name.slice(at).replace(/^conv/, 'norm')
  const padding = (kernel - 1) / 2
  return [
    conv({ name, channels, kernel, stride, padding, bias: false, drawing }),
    norm(`${name.slice(0, at)}${own}`, scale),
  ]
}

/**
 * A block: two convolutions 3x3, or 1x1, 3x3 and 1x1 to four times the channels, with the stride in the first 3x3. The
 * shortcut is a convolution 1x1 where the shape changes.
 */
function block(name: string, channels: number, stride: number, changes: boolean, own: Parameters): Layer[] {
  const { narrow } = depths[own.depth]
  const scale = own.zeroLast ? 0 : 1
  const filters: Filter[] = narrow
    ? [
        { kernel: 1, channels },
        { kernel: 3, channels, stride },
        { kernel: 1, channels: 4 * channels, scale },
      ]
    : [
        { kernel: 3, channels, stride },
        { kernel: 3, channels, scale },
      ]
  const body = filters.flatMap((filter, i) => [
    ...normed(`${name}/conv${i + 1}`, filter, own.drawing),
    ...(i < filters.length - 1 ? [relu(`${name}/relu${i + 1}`)] : []),
  ])
  const wide = filters.at(-1)!.channels
  const shortcut = changes ? normed(`${name}/conv0`, { kernel: 1, channels: wide, stride }, own.drawing) : []
  return [residual(name.replace('block', 'sum'), body, shortcut), relu(name)]
}

function layersOf(own: Parameters): Layer[] {
  const { blocks, narrow } = depths[own.depth]
  const { drawing, width } = own
  const stem =
    own.stem === 'imagenet'
      ? [
          ...normed('conv1', { kernel: 7, channels: width, stride: 2 }, drawing),
          relu('relu1'),
          pool('pool1', 'max', 3, 2, 1),
        ]
      : [...normed('conv1', { kernel: 3, channels: width }, drawing), relu('relu1')]
  const stages = blocks.flatMap((count, stage) =>
    Array.from({ length: count }, (_, i) => {
      const stride = stage > 0 && i === 0 ? 2 : 1
      const changes = i === 0 && (stage > 0 || narrow)
      return block(`block${stage + 1}_${i + 1}`, width * 2 ** stage, stride, changes, own)
    }).flat(),
  )
  return [input(own.input), ...stem, ...stages, globalMean('mean')]
}

/** Blocks whose results are added to what they are given, in four stages, and the mean of each channel. */
export const resnet = defineNet({
  name: 'resnet',
  title: 'Residual net',
  paper: 'He, Zhang, Ren and Sun, 2016; the small stem: Wu et al., 2018',
  parameters,
  plan: (own, imageShape) => planSequence(layersOf(own), imageShape),
  build: (own, imageShape, seed) => buildSequence(layersOf(own), imageShape, seed),
})
