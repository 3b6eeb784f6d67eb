import { Type } from 'typebox'
import { type Tensor2D, tf } from '../../tf.ts'
import { eachImage, fittedLearner, numbersOf, remember, remembered } from '../fitted.ts'
import { defineMethod } from '../method.ts'

const parameters = Type.Object(
  {
    centred: Type.Boolean({ default: true, description: 'Whether the mean training image is taken off.' }),
  },
  { additionalProperties: false },
)

/** The mean changes little beyond so many images. */
const mostImages = 20_000
const [embedding, pixels] = ['embed', 'pixels']

/** The images themselves: what a method must beat. The net is not used. */
export const rawPixels = defineMethod({
  name: 'raw-pixels',
  title: 'Raw pixels',
  paper: 'a floor for every other method',
  parameters,
  abilities: ['embedding'],
  fitted: true,
  views: () => [{}],
  plan(_, { net }) {
    const dimension = numbersOf(net.layers[0]!.input)
    return { weights: 0, multiplyAdds: 0, memoryBytes: 4 * dimension, dimension }
  },
  build({ centred }, { net, imageShape }) {
    tf.dispose([net.weights, net.memory])
    const width = numbersOf(imageShape)
    const mean = remembered([width])
    return fittedLearner('raw-pixels', {
      memory: { mean },
      taps: { [pixels]: imageShape, [embedding]: [width] },
      embedding,
      async survey(corpus, _epoch, dice, watch) {
        if (!centred) return undefined
        const sums = new Float64Array(width)
        const count = await eachImage(corpus, mostImages, dice, watch, (bytes) => {
          for (let i = 0; i < bytes.length; i++) sums[i % width]! += bytes[i]!
        })
        remember(
          mean,
          Float32Array.from(sums, (sum) => sum / count / 255),
        )
        return undefined
      },
      activations: (images) => ({
        [pixels]: tf.clone(images),
        [embedding]: tf.sub(tf.reshape(images, [images.shape[0], width]) as Tensor2D, mean),
      }),
    })
  },
})
