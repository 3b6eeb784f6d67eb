// What the engine bench trains: one description for every side, and what follows from the shapes alone.

/** One layer; convolutions pad by (size - 1) / 2 on each side, pools not at all. */
export type Layer =
  /** A layer of the small net: convolution 3x3, max pool 2x2, batch norm, relu. */
  | { kind: 'block'; channels: number }
  /** Convolution with bias and relu. */
  | { kind: 'conv'; size: number; stride: number; channels: number }
  /** Max pool. */
  | { kind: 'pool'; size: number; stride: number }
  | { kind: 'dense'; units: number; relu: boolean }
  /** Untied receptive fields of one channel, and a decoder of the same size that reconstructs what each sees. */
  | { kind: 'local'; field: number; stride: number; maps: number }

export interface Row {
  name: string
  batch: number
  /** Height, width, channels. */
  image: readonly [number, number, number]
  layers: readonly Layer[]
  /** Softmax over classes; over the slots of a memory bank; or the squared error of the reconstructed patches. */
  loss: 'classes' | 'instances' | 'patches'
  learningRate: number
  momentum: number
  /** Of a memory bank. */
  slots?: number
  temperature?: number
  bankMomentum?: number
}

/** A weight by shape, and the standard deviation that it is drawn with; 0 for a constant. */
export interface WeightPlan {
  name: string
  shape: readonly number[]
  deviation: number
  constant: number
}

export interface RowPlan {
  weights: WeightPlan[]
  /** Of the last layer, without the batch. */
  output: readonly number[]
  /** Multiply-adds of one image's forward pass, loss included where it multiplies matrices. */
  multiplyAdds: number
}

const classes = 10
const optimizer = { learningRate: 0.001, momentum: 0.9 }
const small = [16, 32, 64].map((channels): Layer => ({ kind: 'block', channels }))
const conv = (size: number, channels: number, stride = 1): Layer => ({ kind: 'conv', size, stride, channels })
const pool = (size: number, stride: number): Layer => ({ kind: 'pool', size, stride })
const dense = (units: number, relu = true): Layer => ({ kind: 'dense', units, relu })
const scores = dense(classes, false)

const alexnet = [
  ...[conv(7, 64, 2), pool(3, 2), conv(5, 192), pool(3, 2)],
  ...[conv(3, 384), conv(3, 256), conv(3, 256), pool(3, 2)],
  ...[dense(1024), scores],
]

const vgg16 = [
  ...[conv(3, 32), conv(3, 32), pool(2, 2)],
  ...[conv(3, 64), conv(3, 64), pool(2, 2)],
  ...[conv(3, 128), conv(3, 128), conv(3, 128), pool(2, 2)],
  ...[conv(3, 256), conv(3, 256), conv(3, 256), pool(2, 2)],
  ...[conv(3, 256), conv(3, 256), conv(3, 256), pool(2, 2)],
  ...[dense(512), dense(512), scores],
]

const wide = [conv(3, 32), conv(3, 32), pool(2, 2), conv(3, 64), conv(3, 64), pool(2, 2), dense(128), scores]

export const rows: readonly Row[] = [
  { name: 'F-S', batch: 128, image: [28, 28, 1], layers: [...small, scores], loss: 'classes', ...optimizer },
  { name: 'C-S', batch: 128, image: [32, 32, 3], layers: [...small, scores], loss: 'classes', ...optimizer },
  { name: 'wide', batch: 128, image: [32, 32, 3], layers: wide, loss: 'classes', ...optimizer },
  { name: 'alexnet', batch: 128, image: [64, 64, 3], layers: alexnet, loss: 'classes', ...optimizer },
  { name: 'vgg16', batch: 64, image: [64, 64, 3], layers: vgg16, loss: 'classes', ...optimizer },
  {
    name: 'npid',
    batch: 128,
    image: [28, 28, 1],
    layers: [...small, dense(128, false)],
    loss: 'instances',
    ...optimizer,
    ...{ slots: 10_000, temperature: 0.07, bankMomentum: 0.5 },
  },
  {
    name: 'local',
    batch: 128,
    image: [28, 28, 1],
    layers: [{ kind: 'local', field: 8, stride: 2, maps: 8 }],
    loss: 'patches',
    ...{ learningRate: 0.0001, momentum: 0.9 },
  },
]

const product = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1)
/** He et al., 2015. */
const drawn = (name: string, shape: readonly number[], inputs: number): WeightPlan => ({
  name,
  shape,
  deviation: Math.sqrt(2 / inputs),
  constant: 0,
})
const constant = (name: string, size: number, value: number): WeightPlan => ({
  name,
  shape: [size],
  deviation: 0,
  constant: value,
})

/** What one layer makes of [h, w, c] or [units]. */
function planLayer(layer: Layer, number: number, from: readonly number[]): RowPlan {
  const [height = 1, width = 1, channels = 1] = from
  switch (layer.kind) {
    case 'block': {
      const own = layer.channels
      const weights = [
        drawn(`conv${number}/filter`, [3, 3, channels, own], 9 * channels),
        constant(`norm${number}/scale`, own, 1),
        constant(`norm${number}/offset`, own, 0),
      ]
      const output = [Math.floor(height / 2), Math.floor(width / 2), own]
      return { weights, output, multiplyAdds: height * width * 9 * channels * own }
    }
    case 'conv': {
      const { size, stride, channels: own } = layer
      const output = [Math.ceil(height / stride), Math.ceil(width / stride), own]
      const inputs = size * size * channels
      const filter = drawn(`conv${number}/filter`, [size, size, channels, own], inputs)
      return {
        weights: [filter, constant(`conv${number}/bias`, own, 0)],
        output,
        multiplyAdds: product(output) * inputs,
      }
    }
    case 'pool': {
      const pooled = (side: number) => Math.floor((side - layer.size) / layer.stride) + 1
      return { weights: [], output: [pooled(height), pooled(width), channels], multiplyAdds: 0 }
    }
    case 'dense': {
      const inputs = product(from)
      const weights = drawn(`dense${number}/weights`, [inputs, layer.units], inputs)
      const bias = constant(`dense${number}/bias`, layer.units, 0)
      return { weights: [weights, bias], output: [layer.units], multiplyAdds: inputs * layer.units }
    }
    case 'local': {
      const { field, stride, maps } = layer
      const positions = (Math.floor((height - field) / stride) + 1) * (Math.floor((width - field) / stride) + 1)
      const pixels = field * field
      const weights = [
        drawn(`local${number}/encoder`, [positions, maps, pixels], pixels),
        drawn(`local${number}/decoder`, [positions, pixels, maps], maps),
      ]
      return { weights, output: [positions, pixels], multiplyAdds: 2 * positions * maps * pixels }
    }
  }
}

/** The row by shape alone. */
export function planRow({ image, layers, slots = 0 }: Row): RowPlan {
  const plan: RowPlan = { weights: [], output: image, multiplyAdds: 0 }
  for (const [i, layer] of layers.entries()) {
    const own = planLayer(layer, i + 1, plan.output)
    plan.weights.push(...own.weights)
    plan.multiplyAdds += own.multiplyAdds
    plan.output = own.output
  }
  plan.multiplyAdds += slots * product(plan.output)
  return plan
}

/** Floating-point operations of a training step: three times the forward pass, two for a multiply-add. */
export function stepFlops(row: Row): number {
  return 3 * 2 * row.batch * planRow(row).multiplyAdds
}
