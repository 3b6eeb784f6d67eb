import type { ImageShape } from '../../data/dataset.ts'
import { InvalidDefinition } from '../../errors.ts'
import type { Window } from '../layers/conv.ts'
import type { LayerPlan, NetPlan } from './net.ts'

type Shape = readonly number[]
type Conv = Extract<LayerPlan, { kind: 'conv' }>
type Pool = Extract<LayerPlan, { kind: 'pool' }>

/** A transposed convolution of a decoder by shape. */
export interface Deconv {
  name: string
  /** That of the convolution which it is the mirror of. */
  window: Window
  input: Shape
  output: Shape
  relu: boolean
}

/**
 * A macro-layer of a net, the convolutions up to and with a maximum pool, and its mirror. `code` is the tap after the
 * pool with the norm and relu that follow it at once; `source` is that before the pool, which knows the switches.
 */
export interface MacroLayer {
  pool: string
  code: string
  source: string
  window: Window
  /** Of `source`, without the batch. */
  unpooled: Shape
  deconvs: readonly Deconv[]
  /** What the mirror gives back: the code of the macro-layer before, or the image. */
  output: Shape
}

/** The mirror of a net by shape, macro-layers from the image on. */
export interface DecoderPlan {
  layers: readonly MacroLayer[]
  weights: number
  multiplyAdds: number
  /** Numbers of one image that it makes, before and after each relu. */
  activations: number
}

const sizeOf = (shape: Shape) => shape.reduce((product, side) => product * side, 1)

function refuse(detail: string, pointer = ''): never {
  throw new InvalidDefinition([{ pointer, detail }], 'the decoder')
}

interface Found {
  pool: Pool
  source: LayerPlan
  code: LayerPlan
  convs: Conv[]
}

const mirrored = new Set(['input', 'conv', 'pool', 'norm', 'relu', 'dropout'])

/** The macro-layers of a net, as many as `depth` asks for. Throws InvalidDefinition where they have no mirror. */
function macroLayers({ layers }: NetPlan, depth: number | 'all'): Found[] {
  const pools = layers.filter((layer) => layer.kind === 'pool' && layer.pool === 'max').length
  if (pools === 0)
    refuse(
      "a decoder is the mirror of maximum pools, and this net has none: alexnet and vgg have some, and small with pool 'max'",
    )
  if (depth !== 'all' && depth > pools)
    refuse(`is ${depth} and this net has ${pools} maximum pools: at most ${pools} would be right`, '/depth')
  const wanted = depth === 'all' ? pools : depth
  const found: Found[] = []
  let convs: Conv[] = []
  for (const [i, layer] of layers.entries()) {
    if (found.length === wanted) break
    if (!mirrored.has(layer.kind) || (layer.kind === 'pool' && layer.pool === 'average'))
      refuse(
        `layer ${layer.name} (${layer.kind}) has no mirror, and it comes before pool ${found.length + 1} of ${wanted}: a net whose layers up to there are convolutions and maximum pools would be right${found.length > 0 ? `, or a depth of ${found.length}` : ''}`,
      )
    if (layer.kind === 'conv') convs.push(layer)
    if (layer.kind !== 'pool') continue
    let end = i
    while (layers[end + 1]?.kind === 'norm' || layers[end + 1]?.kind === 'relu') end++
    found.push({ pool: layer, source: layers[i - 1]!, code: layers[end]!, convs })
    convs = []
  }
  return found
}

/**
 * The mirror of one convolution. That of a strided one at the image is three, as the authors' of AlexNet: one of 5 x 5
 * before it, and one after it, from half the channels to pixels.
 */
function deconvsOf(conv: Conv, target: Shape, toPixels: boolean): Deconv[] {
  const { name, kernel, stride, padding, input, output } = conv
  const window = { kernel, stride, padding }
  const back: Shape = toPixels ? target : input
  if (!toPixels || stride === 1) return [{ name, window, input: output, output: back, relu: !toPixels }]
  const around = { kernel: 5, stride: 1, padding: [2, 2] } as const
  const half = [back[0]!, back[1]!, Math.ceil(output[2]! / 2)]
  return [
    { name: `${name}-before`, window: around, input: output, output, relu: true },
    { name, window, input: output, output: half, relu: true },
    { name: `${name}-after`, window: around, input: half, output: back, relu: false },
  ]
}

function numbersOf({ window, input, output }: Deconv): number {
  return window.kernel ** 2 * input[2]! * output[2]! + output[2]!
}

/** Of an image: each number that comes in meets the whole filter. */
function multiplyAddsOf({ window, input, output }: Deconv): number {
  return sizeOf(input) * window.kernel ** 2 * output[2]!
}

/**
 * The mirror of a net's macro-layers (Zhang, Lee and Lee, 2016): unpooling, then for each convolution, the last first,
 * a transposed one with its window and its channels turned round, each with a relu but the last to the pixels. Norms
 * have no mirror. `depth` counts pools from the image on. Throws InvalidDefinition where a net has no mirror.
 */
export function planDecoder(net: NetPlan, imageShape: ImageShape, depth: number | 'all' = 'all'): DecoderPlan {
  const found = macroLayers(net, depth)
  const layers = found.map(({ pool, source, code, convs }, l): MacroLayer => {
    const output = l === 0 ? imageShape : found[l - 1]!.code.output
    const deconvs = convs
      .map((conv, i) => deconvsOf(conv, i === 0 ? output : conv.input, l === 0 && i === 0))
      .reverse()
      .flat()
    const { kernel, stride, padding } = pool
    const window = { kernel, stride, padding }
    return { pool: pool.name, code: code.name, source: source.name, window, unpooled: source.output, deconvs, output }
  })
  const all = layers.flatMap(({ deconvs }) => deconvs)
  const total = (of: (deconv: Deconv) => number) => all.reduce((sum, deconv) => sum + of(deconv), 0)
  const unpooled = layers.reduce((sum, layer) => sum + sizeOf(layer.unpooled), 0)
  const activations = unpooled + total(({ output, relu }) => sizeOf(output) * (relu ? 2 : 1))
  return { layers, weights: total(numbersOf), multiplyAdds: total(multiplyAddsOf), activations }
}
