import { type Tensor4D, tf, type Variable } from '../../tf.ts'
import type { Dice } from '../dice.ts'
import { convolve } from '../layers/conv.ts'
import { unpoolFixed, unpoolKnown } from '../layers/switches.ts'
import type { DecoderPlan, Deconv, MacroLayer } from './mirror.ts'

export { type DecoderPlan, planDecoder } from './mirror.ts'

/** Where what is unpooled goes: one fixed cell of each window, or where its maximum was. */
export type Switches = 'fixed' | 'known'

/** A net's mirror with its weights. */
export interface Decoder {
  plan: DecoderPlan
  weights: Record<string, Variable>
  /**
   * Back through macro-layer `layer` (0 is the one at the image): its code, or what stands for it, to the code before or
   * the image. `source` is what the net pooled, whose switches are used.
   */
  decode(layer: number, code: Tensor4D, source: Tensor4D, switches: Switches): Tensor4D
}

/** He et al., 2015, or the narrow Gaussian of the authors, which suits decoders of pretrained nets. */
export type DecoderStart = 'he' | 'gaussian'

const narrow = 0.001

interface Drawn {
  filter: Variable
  bias: Variable
}

function draw({ window, input, output }: Deconv, start: DecoderStart, dice: Dice): Drawn {
  const shape = [window.kernel, window.kernel, ...filterSides(input[2]!, output[2]!, window.stride)]
  const deviation = start === 'he' ? Math.sqrt(2 / (window.kernel ** 2 * input[2]!)) * window.stride : narrow
  const size = shape.reduce((product, side) => product * side, 1)
  const values = Float32Array.from({ length: size }, () => deviation * dice.normal())
  return tf.tidy(() => ({
    filter: tf.variable(tf.tensor(values, shape)),
    bias: tf.variable(tf.zeros([output[2]!])),
  }))
}

/** A transposed convolution without strides is a plain one, whose filter has its sides the other way round. */
function filterSides(from: number, to: number, stride: number): [number, number] {
  return stride === 1 ? [from, to] : [to, from]
}

function transposed(x: Tensor4D, filter: Tensor4D, { window, output }: Deconv): Tensor4D {
  const { kernel, stride, padding } = window
  if (stride === 1) {
    const around = [kernel - 1 - padding[0], kernel - 1 - padding[1]] as const
    return convolve(x, filter, { kernel, stride, padding: around })
  }
  const sides: [number, number] = [padding[0], padding[1]]
  const shape = [x.shape[0], ...output] as [number, number, number, number]
  return tf.conv2dTranspose(x, filter, shape, stride, [[0, 0], sides, sides, [0, 0]])
}

function run(deconv: Deconv, { filter, bias }: Drawn, x: Tensor4D): Tensor4D {
  const y = tf.add(transposed(x, filter as never, deconv), bias) as Tensor4D
  return deconv.relu ? tf.relu(y) : y
}

function unpool(layer: MacroLayer, code: Tensor4D, source: Tensor4D, switches: Switches): Tensor4D {
  if (switches === 'known') return unpoolKnown(code, source, layer.window)
  return unpoolFixed(code, [layer.unpooled[0]!, layer.unpooled[1]!], layer.window)
}

/** A decoder with new weights, named `decoder/<layer>/filter` and `/bias` after the net's layers. */
export function buildDecoder(plan: DecoderPlan, start: DecoderStart, dice: Dice): Decoder {
  const weights: Record<string, Variable> = {}
  const drawn = plan.layers.map(({ deconvs }) =>
    deconvs.map((deconv) => {
      const made = draw(deconv, start, dice.for(deconv.name))
      weights[`decoder/${deconv.name}/filter`] = made.filter
      weights[`decoder/${deconv.name}/bias`] = made.bias
      return { deconv, made }
    }),
  )
  return {
    plan,
    weights,
    decode: (layer, code, source, switches) =>
      drawn[layer]!.reduce(
        (x, { deconv, made }) => run(deconv, made, x),
        unpool(plan.layers[layer]!, code, source, switches),
      ),
  }
}
