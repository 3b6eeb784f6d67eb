import { Type } from 'typebox'
import { InvalidDefinition } from '../../errors.ts'
import { type Tensor2D, tf } from '../../tf.ts'
import { fittedLearner, imageRows, numbersOf, remember, remembered } from '../fitted.ts'
import { unitRows } from '../layers/dense.ts'
import { principalComponents, whiteningScales } from '../math/pca.ts'
import { defineMethod } from '../method.ts'

const parameters = Type.Object(
  {
    components: Type.Integer({ minimum: 1, maximum: 4096, default: 64, description: 'Numbers of the embedding.' }),
    whiten: Type.Boolean({ default: false, description: 'Whether each component is divided by its deviation.' }),
    unitRows: Type.Boolean({ default: false, description: 'Whether each embedding is divided by its length.' }),
    images: Type.Integer({
      minimum: 2,
      maximum: 1_000_000,
      default: 20_000,
      description: 'Images, drawn at random, that the components are found on.',
    }),
  },
  { additionalProperties: false },
)

const embedding = 'embed'
/** Numbers of an image: their covariance matrix has the square of that. */
const widest = 64 * 64 * 3

/** Principal components of the pixels. The net is not used. */
export const pca = defineMethod({
  name: 'pca',
  title: 'Principal components of pixels',
  paper: 'Pearson 1901; a floor for every other method',
  parameters,
  abilities: ['embedding'],
  fitted: true,
  views: () => [{}],
  plan({ components }, { net }) {
    const width = numbersOf(net.layers[0]!.input)
    if (width > widest) {
      const detail = `images of ${width} numbers; components are found of at most ${widest}: smaller images are needed`
      throw new InvalidDefinition([{ pointer: '/name', detail }])
    }
    if (components > width) {
      const detail = `is ${components}; the images have ${width} numbers, so it should be at most ${width}`
      throw new InvalidDefinition([{ pointer: '/components', detail }])
    }
    const memoryBytes = 4 * (width + components * (width + 1))
    return { weights: 0, multiplyAdds: width * components, memoryBytes, dimension: components }
  },
  build(own, { net, imageShape }) {
    tf.dispose([net.weights, net.memory])
    const width = numbersOf(imageShape)
    const memory = {
      mean: remembered([width]),
      directions: remembered([own.components, width]),
      variances: remembered([own.components]),
    }
    return fittedLearner('pca', {
      memory,
      taps: { [embedding]: [own.components] },
      embedding,
      async survey(corpus, _epoch, dice, watch) {
        const rows = await imageRows(corpus, own.images, dice.for('images'), watch)
        const found = await principalComponents(rows, own.components, dice.for('start'), watch)
        remember(memory.mean, found.mean)
        remember(memory.variances, found.variances)
        // Scaled at once, so that encoding is one product.
        const scales = own.whiten ? whiteningScales(found) : undefined
        const scaled = found.directions.data.map((value, i) => value * (scales?.[Math.floor(i / width)] ?? 1))
        remember(memory.directions, scaled)
        const kept = found.variances.reduce((sum, own) => sum + own, 0)
        // 0 where all images are the same.
        return { metrics: { variance: found.variance, varianceKept: found.variance > 0 ? kept / found.variance : 0 } }
      },
      activations(images) {
        const centred = tf.sub(tf.reshape(images, [images.shape[0], width]) as Tensor2D, memory.mean) as Tensor2D
        const found = tf.matMul(centred, memory.directions as never, false, true) as Tensor2D
        return { [embedding]: own.unitRows ? unitRows(found) : found }
      },
    })
  },
})
