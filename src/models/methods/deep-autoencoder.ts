import { type Static, Type } from 'typebox'
import { type Scalar, type Tensor, type Tensor2D, type Tensor4D, tf } from '../../tf.ts'
import { rollDice } from '../dice.ts'
import { numbersOf } from '../fitted.ts'
import { applyDense, type Dense, drawDense } from '../layers/dense.ts'
import { defineMethod, type Learner, type World } from '../method.ts'

const width = Type.Integer({ minimum: 1, maximum: 16_384, description: 'Numbers of one layer.' })

const parameters = Type.Object(
  {
    widths: Type.Array(width, {
      minItems: 1,
      maxItems: 12,
      default: [512, 256, 64],
      description:
        'Numbers of each layer of the encoder, from the image on; the decoder mirrors them. The baselines of Le et al. have 3 and 6 layers.',
    }),
  },
  { additionalProperties: false },
)

type Parameters = Static<typeof parameters>

const [embedding, reconstruction] = ['embed', 'reconstruction']

/** Dense layers one after the other, with a relu between them; `each` is told what each gives. */
function run(x: Tensor2D, layers: readonly Dense[], each?: (i: number, x: Tensor2D) => void): Tensor2D {
  let value = x
  for (const [i, layer] of layers.entries()) {
    value = applyDense(value, layer)
    if (i < layers.length - 1) value = tf.relu(value)
    each?.(i, value)
  }
  return value
}

const hidden = (i: number) => `hidden${i + 1}`

function build({ widths }: Parameters, { net, imageShape, seed }: World): Learner {
  tf.dispose([net.weights, net.memory])
  const pixels = numbersOf(imageShape)
  const sides = [pixels, ...widths]
  const dice = rollDice(seed).for('deep-autoencoder')
  const encoder = widths.map((own, i) => drawDense(sides[i]!, own, dice.for('encoder', i)))
  const decoder = widths.map((own, i) => drawDense(own, sides[i]!, dice.for('decoder', i))).reverse()
  const weights = Object.fromEntries(
    [...encoder.entries()].flatMap(([i, { weights, bias }]) => [
      [`encoder${i + 1}/weights`, weights],
      [`encoder${i + 1}/bias`, bias],
    ]),
  )
  for (const [i, own] of decoder.entries()) {
    weights[`decoder${widths.length - i}/weights`] = own.weights
    weights[`decoder${widths.length - i}/bias`] = own.bias
  }
  const flat = (images: Tensor4D) => tf.reshape(images, [images.shape[0], pixels]) as Tensor2D
  const last = widths.length - 1
  return {
    weights,
    memory: {},
    taps: {
      ...Object.fromEntries(widths.slice(0, -1).map((own, i) => [hidden(i), [own]])),
      [embedding]: [widths[last]!],
      [reconstruction]: imageShape,
    },
    embedding,
    objective(batch) {
      const given = flat(batch.views[0]!)
      const made = run(run(given, encoder), decoder)
      const error = tf.mean(tf.squaredDifference(made, given)) as Scalar
      return { loss: error }
    },
    encode: (images, wanted) =>
      tf.tidy(() => {
        const found: Record<string, Tensor> = {}
        const code = run(flat(images), encoder, (i, x) => {
          found[i === last ? embedding : hidden(i)] = x
        })
        if (wanted.includes(reconstruction))
          found[reconstruction] = tf.reshape(run(code, decoder), [images.shape[0], ...imageShape])
        return Object.fromEntries(wanted.map((tap) => [tap, found[tap]!]))
      }),
    dispose: () => tf.dispose(weights),
  }
}

/** Dense layers to a narrow code and back; the loss is the mean squared error of a pixel. The net is not used. */
export const deepAutoencoder = defineMethod({
  name: 'deep-autoencoder',
  title: 'Deep autoencoder',
  paper: 'Hinton and Salakhutdinov, Science 2006; the baseline of Le et al., ICML 2012',
  parameters,
  abilities: ['embedding'],
  views: () => [{}],
  plan({ widths }, { net }) {
    const sides = [numbersOf(net.layers[0]!.input), ...widths]
    const products = widths.reduce((sum, own, i) => sum + 2 * own * sides[i]!, 0)
    const biases = widths.reduce((sum, own, i) => sum + own + sides[i]!, 0)
    return { weights: products + biases, multiplyAdds: products, memoryBytes: 0, dimension: widths.at(-1)! }
  },
  build,
})
