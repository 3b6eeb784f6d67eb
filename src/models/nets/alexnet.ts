import { type Static, Type } from 'typebox'
import { InvalidDefinition } from '../../errors.ts'
import { denseSchema, dropoutSchemas, fullyConnected } from './fully-connected.ts'
import { input, inputSchema } from './input.ts'
import { conv, drawingSchema, flatten, norm, pool, relu } from './kinds.ts'
import type { Layer } from './layer.ts'
import { defineNet } from './net.ts'
import { buildSequence, planSequence } from './sequence.ts'

const parameters = Type.Object(
  {
    widths: Type.Array(Type.Integer({ minimum: 1, maximum: 4096, description: 'Channels of one convolution.' }), {
      minItems: 5,
      maxItems: 5,
      default: [96, 256, 384, 384, 256],
      description: 'Channels of the five convolutions.',
    }),
    groups: Type.Union([Type.Literal(1), Type.Literal(2)], {
      default: 2,
      description:
        'Parts into which the channels of convolutions 2, 4 and 5 are cut, each seeing its own part only: 2 as on the two GPUs of the paper, 1 as in DeepCluster.',
    }),
    norm: Type.Union([Type.Literal('none'), Type.Literal('batch')], {
      default: 'none',
      description: 'Batch norm after each convolution, as in DeepCluster, or none.',
    }),
    dense: denseSchema([4096, 4096]),
    ...dropoutSchemas(0.5, 'after'),
    drawing: drawingSchema,
    input: inputSchema,
  },
  { additionalProperties: false },
)

type Parameters = Static<typeof parameters>

/** Kernel, stride and padding of each convolution; a pool of 3 x 3 with stride 2 follows the first, second and last. */
const windows = [
  { kernel: 11, stride: 4, padding: 2 },
  { kernel: 5, stride: 1, padding: 2 },
  { kernel: 3, stride: 1, padding: 1 },
  { kernel: 3, stride: 1, padding: 1 },
  { kernel: 3, stride: 1, padding: 1 },
]

const grouped = [2, 4, 5]
const pooled = [1, 2, 5]

function layersOf(own: Parameters): Layer[] {
  const convolutions = windows.flatMap((window, i) => {
    const number = i + 1
    const groups = grouped.includes(number) ? own.groups : 1
    const { drawing } = own
    return [
      conv({ name: `conv${number}`, channels: own.widths[i]!, ...window, groups, bias: true, drawing }),
      ...(own.norm === 'batch' ? [norm(`norm${number}`)] : []),
      relu(`relu${number}`),
      ...(pooled.includes(number) ? [pool(`pool${number}`, 'max', 3, 2)] : []),
    ]
  })
  return [input(own.input), ...convolutions, flatten('flat'), ...fullyConnected(own, 6, own.drawing)]
}

function assertEvenGroups({ widths, groups }: Parameters): void {
  if (groups === 1) return
  const odd = widths.map((width, i) => ({ width, i })).filter(({ width }) => width % groups !== 0)
  if (odd.length === 0) return
  const faults = odd.map(({ width, i }) => ({
    pointer: `/widths/${i}`,
    detail: `is ${width}; with 2 groups an even number would be right`,
  }))
  throw new InvalidDefinition(faults, 'the net')
}

/** Five convolutions and two dense layers, without local response normalisation. */
export const alexnet = defineNet({
  name: 'alexnet',
  title: 'AlexNet without local response normalisation',
  paper: 'Krizhevsky, Sutskever and Hinton, 2012; with batch norm and Sobel filters: Caron et al., 2018',
  parameters,
  plan(own, imageShape) {
    assertEvenGroups(own)
    return planSequence(layersOf(own), imageShape)
  },
  build: (own, imageShape, seed) => buildSequence(layersOf(own), imageShape, seed),
})
