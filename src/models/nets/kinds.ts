import { Type } from 'typebox'
import { type Tensor2D, type Tensor4D, tf, type Variable } from '../../tf.ts'
import type { Dice } from '../dice.ts'
import { cellsLeft, convolve, pool as poolImages, type Window } from '../layers/conv.ts'
import { applyDense } from '../layers/dense.ts'
import { dropOut } from '../layers/dropout.ts'
import { type Norm, normaliseBatch, normaliseRunning } from '../layers/norm.ts'
import type { Layer, Shape, Start } from './layer.ts'

/** How weights are drawn: by which deviation from 0. */
export interface Drawing {
  filter(cells: number, from: number, to: number): number
  dense(inputs: number): number
}

export const drawings = {
  /** He et al., 2015: variance 2 / (inputs of one output), so that relu keeps the scale. */
  he: {
    filter: (cells, from) => Math.sqrt(2 / (cells * from)),
    dense: (inputs) => Math.sqrt(2 / inputs),
  },
  /** He et al. by the outputs that a number goes to, and dense layers close to 0, as DeepCluster's nets begin. */
  'fan-out': {
    filter: (cells, _from, to) => Math.sqrt(2 / (cells * to)),
    dense: () => 0.01,
  },
} as const satisfies Record<string, Drawing>

export type DrawingName = keyof typeof drawings

/** How a family's weights are drawn; a parameter of those that were published with one or the other. */
export const drawingSchema = Type.Union([Type.Literal('he'), Type.Literal('fan-out')], {
  default: 'he',
  description:
    "How weights are drawn, with which variance: 2 / (a layer's inputs of one output); or 2 / (outputs that an input of a convolution goes to) and 0.0001 in dense layers, as in DeepCluster.",
})

const sizeOf = (shape: Shape) => shape.reduce((product, side) => product * side, 1)

function normal(shape: Shape, deviation: number): Start {
  const draw = (dice: Dice) => {
    const values = new Float32Array(sizeOf(shape))
    // A loop: VGG-16 has 138 million of them.
    for (let i = 0; i < values.length; i++) values[i] = deviation * dice.normal()
    return values
  }
  return { shape, draw }
}

function constant(shape: Shape, value: number): Start {
  return { shape, draw: () => new Float32Array(sizeOf(shape)).fill(value) }
}

export interface ConvOptions {
  name: string
  channels: number
  kernel: number
  stride?: number
  padding?: number
  groups?: number
  bias: boolean
  drawing: DrawingName
  dice?: string | number
}

export function conv(options: ConvOptions): Layer {
  const { name, channels, kernel, stride = 1, groups = 1, bias, drawing } = options
  const sides = options.padding ?? 0
  const window: Window = { kernel, stride, padding: [sides, sides] }
  const cells = kernel * kernel
  return {
    name,
    is: { kind: 'conv', ...window, ...(groups === 1 ? {} : { groups }) },
    ...(options.dice === undefined ? {} : { dice: options.dice }),
    output: ([height, width]) => [cellsLeft(height!, window), cellsLeft(width!, window), channels],
    weights([, , all]) {
      const from = all! / groups
      const filter = normal([kernel, kernel, from, channels], drawings[drawing].filter(cells, from, channels))
      return { filter, ...(bias ? { bias: constant([channels], 0) } : {}) }
    },
    multiplyAdds: ([, , from], output) => (sizeOf(output) * cells * from!) / groups,
    apply(x, own) {
      const made = convolve(x as Tensor4D, own.filter as never, window, groups)
      return own.bias ? tf.add(made, own.bias) : made
    },
  }
}

export function pool(name: string, kind: 'max' | 'average', kernel: number, stride: number, sides = 0): Layer {
  const window: Window = { kernel, stride, padding: [sides, sides] }
  return {
    name,
    is: { kind: 'pool', pool: kind, ...window },
    output: ([height, width, channels]) => [cellsLeft(height!, window), cellsLeft(width!, window), channels!],
    apply: (x) => poolImages(x as Tensor4D, kind, window),
  }
}

/** Batch norm; `scale` is what its learned factors are at first. */
export function norm(name: string, scale = 1): Layer {
  const each = (input: Shape) => [input.at(-1)!]
  return {
    name,
    is: { kind: 'norm' },
    bearsRelu: true,
    output: (input) => input,
    weights: (input) => ({ scale: constant(each(input), scale), offset: constant(each(input), 0) }),
    memory: (input) => ({ mean: constant(each(input), 0), variance: constant(each(input), 1) }),
    apply(x, own, { training }, relu) {
      return (training ? normaliseBatch : normaliseRunning)(x, own as unknown as Norm, { relu })
    },
  }
}

export function relu(name: string): Layer {
  return { name, is: { kind: 'relu' }, output: (input) => input, apply: (x) => tf.relu(x) }
}

export function flatten(name: string): Layer {
  return {
    name,
    is: { kind: 'flatten' },
    output: (input) => [sizeOf(input)],
    apply: (x) => tf.reshape(x, [x.shape[0]!, -1]),
  }
}

/** The mean of each channel. */
export function globalMean(name: string): Layer {
  return {
    name,
    is: { kind: 'mean' },
    output: (input) => [input.at(-1)!],
    apply: (x) => tf.mean(x, [1, 2]),
  }
}

export function dense(name: string, outputs: number, drawing: DrawingName): Layer {
  return {
    name,
    is: { kind: 'dense' },
    output: () => [outputs],
    weights([inputs]) {
      const weights = normal([inputs!, outputs], drawings[drawing].dense(inputs!))
      return { weights, bias: constant([outputs], 0) }
    },
    multiplyAdds: ([inputs]) => inputs! * outputs,
    apply: (x, own) => applyDense(x as Tensor2D, own as { weights: Variable; bias: Variable }),
  }
}

export function dropout(name: string, rate: number): Layer {
  return {
    name,
    is: { kind: 'dropout', rate },
    output: (input) => input,
    apply: (x, _own, { training, dice }) => (training && dice ? dropOut(x, rate, dice.for(name)) : x),
  }
}

/** body(x) + shortcut(x); an empty shortcut is x itself. */
export function residual(name: string, body: readonly Layer[], shortcut: readonly Layer[]): Layer {
  return {
    name,
    is: { kind: 'residual' },
    branches: [body, shortcut],
    output: (input) => body.reduce((shape, layer) => layer.output(shape), input),
    apply() {
      throw new Error('the sequence runs the branches')
    },
  }
}
