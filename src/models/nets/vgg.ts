import { type Static, Type } from 'typebox'
import { denseSchema, dropoutSchemas, fullyConnected } from './fully-connected.ts'
import { input, inputSchema } from './input.ts'
import { conv, drawingSchema, flatten, norm, pool, relu } from './kinds.ts'
import type { Layer } from './layer.ts'
import { defineNet } from './net.ts'
import { buildSequence, planSequence } from './sequence.ts'

/** Convolutions of each of the five stages, by the layers with weights (the classifier is one of them). */
const convolutions = {
  11: [1, 1, 2, 2, 2],
  13: [2, 2, 2, 2, 2],
  16: [2, 2, 3, 3, 3],
  19: [2, 2, 4, 4, 4],
} as const

/** Channels of each stage, as multiples of those of the first. */
const multiples = [1, 2, 4, 8, 8]

const parameters = Type.Object(
  {
    depth: Type.Union([Type.Literal(11), Type.Literal(13), Type.Literal(16), Type.Literal(19)], {
      default: 16,
      description: 'Layers with weights, the classifier included.',
    }),
    width: Type.Integer({
      minimum: 1,
      maximum: 512,
      default: 64,
      description: 'Channels of the first stage; the others have 2, 4, 8 and 8 times as many.',
    }),
    norm: Type.Union([Type.Literal('none'), Type.Literal('batch')], {
      default: 'none',
      description: 'Batch norm after each convolution, or none.',
    }),
    dense: denseSchema([4096, 4096]),
    ...dropoutSchemas(0.5, 'after'),
    drawing: drawingSchema,
    input: inputSchema,
  },
  { additionalProperties: false },
)

type Parameters = Static<typeof parameters>

function layersOf(own: Parameters): Layer[] {
  const { drawing } = own
  const stages = convolutions[own.depth].flatMap((count, stage) => [
    ...Array.from({ length: count }, (_, i) => `${stage + 1}_${i + 1}`).flatMap((name) => {
      const channels = own.width * multiples[stage]!
      return [
        conv({ name: `conv${name}`, channels, kernel: 3, padding: 1, bias: true, drawing }),
        ...(own.norm === 'batch' ? [norm(`norm${name}`)] : []),
        relu(`relu${name}`),
      ]
    }),
    pool(`pool${stage + 1}`, 'max', 2, 2),
  ])
  return [input(own.input), ...stages, flatten('flat'), ...fullyConnected(own, 6, drawing)]
}

/** Convolutions 3x3 in five stages with a maximum pool after each, and dense layers; images of 32 x 32 or more. */
export const vgg = defineNet({
  name: 'vgg',
  title: 'VGG',
  paper: 'Simonyan and Zisserman, 2015',
  parameters,
  plan: (own, imageShape) => planSequence(layersOf(own), imageShape),
  build: (own, imageShape, seed) => buildSequence(layersOf(own), imageShape, seed),
})
