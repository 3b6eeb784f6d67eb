import { Type } from 'typebox'
import { type Tensor4D, tf } from '../../tf.ts'
import { type Dice, rollDice } from '../dice.ts'
import { fittedLearner, measureStandard, newStandard, numbersOf, remember, remembered, standardise } from '../fitted.ts'
import { sumInGrid } from '../layers/grid.ts'
import { normaliseRows, type Rows } from '../math/rows.ts'
import { defineMethod } from '../method.ts'
import { drawPatches, normalisePatches, planPatches } from '../patches.ts'

const parameters = Type.Object(
  {
    filters: Type.Integer({ minimum: 1, maximum: 8192, default: 256, description: 'How many.' }),
    drawn: Type.Union([Type.Literal('normal'), Type.Literal('patches')], {
      default: 'patches',
      description: 'From normal numbers, or from patches of training images at random places.',
    }),
    patch: Type.Integer({ minimum: 1, maximum: 32, default: 6, description: 'Pixels of a side of a filter.' }),
    stride: Type.Integer({ minimum: 1, maximum: 32, default: 1, description: 'Pixels between two places.' }),
    grid: Type.Integer({ minimum: 1, maximum: 16, default: 2, description: 'Cells along a side that are summed in.' }),
  },
  { additionalProperties: false },
)

const embedding = 'embed'
/** What a patch's variance is at least, of pixels in [0, 1]: 10 of pixels in 0 to 255. */
const floor = 10 / 255 ** 2

/** Filters [filters, numbers] with mean 0 and length 1: a flat patch answers none. */
function normalNumbers(filters: number, width: number, dice: Dice): Rows {
  return { data: Float32Array.from({ length: filters * width }, () => dice.normal()), width }
}

/** Filters nobody has trained, cut off below 0 and summed in cells. The net is not used. */
export const randomFilters = defineMethod({
  name: 'random-filters',
  title: 'Random filters with pooling',
  paper: 'Jarrett, Kavukcuoglu, Ranzato and LeCun, ICCV 2009; a floor for every other method',
  parameters,
  abilities: ['embedding'],
  fitted: true,
  views: () => [{}],
  plan(own, { net }) {
    const places = planPatches(net.layers[0]!.input, own)
    const dimension = own.grid ** 2 * own.filters
    return {
      weights: 0,
      multiplyAdds: places.rows * places.columns * places.numbers * own.filters,
      memoryBytes: 4 * (places.numbers * own.filters + 2 * dimension),
      dimension,
    }
  },
  build(own, { net, imageShape, seed }) {
    tf.dispose([net.weights, net.memory])
    const places = planPatches(imageShape, own)
    const { numbers } = places
    const dimension = own.grid ** 2 * own.filters
    const filters = remembered([own.patch, own.patch, imageShape[2], own.filters])
    const standard = newStandard(dimension)
    const keep = (rows: Rows) => {
      const { data } = normaliseRows(normalisePatches(rows, floor))
      const turned = data.map((_, i) => data[(i % own.filters) * numbers + Math.floor(i / own.filters)]!)
      remember(filters, turned)
    }
    if (own.drawn === 'normal') keep(normalNumbers(own.filters, numbers, rollDice(seed).for('random-filters')))
    const features = (images: Tensor4D) =>
      sumInGrid(tf.relu(tf.conv2d(images, filters as never, own.stride, 'valid')), own.grid)
    return fittedLearner('random-filters', {
      memory: { filters, mean: standard.mean, scale: standard.scale },
      taps: { [embedding]: [numbersOf([own.grid, own.grid, own.filters])] },
      embedding,
      async survey(corpus, _epoch, dice, watch) {
        if (own.drawn === 'patches') keep(await drawPatches(corpus, own.filters, places, dice.for('patches'), watch))
        await measureStandard(standard, features, corpus, dice.for('standard'), watch)
        return undefined
      },
      activations: (images) => ({ [embedding]: standardise(features(images), standard) }),
    })
  },
})
