import { Type } from 'typebox'
import { NotFound } from '../errors.ts'
import { defineDataset, type ImageShape } from './dataset.ts'

const side = (description: string) => Type.Integer({ minimum: 1, maximum: 4096, description })

const parameters = Type.Object(
  {
    of: Type.String({ minLength: 1, maxLength: 200, description: 'What the images are, for people.' }),
    images: Type.Integer({ minimum: 1, maximum: 1e12, description: 'Training images.' }),
    testImages: Type.Integer({ minimum: 0, maximum: 1e12, default: 0, description: 'Test images.' }),
    classes: Type.Integer({ minimum: 0, maximum: 1e9, default: 0, description: 'Classes; 0: without labels.' }),
    height: side('Rows of pixels as nets see them.'),
    width: side('Columns of pixels as nets see them.'),
    channels: Type.Union([Type.Literal(1), Type.Literal(3)], { default: 3, description: '1 is grey, 3 is colour.' }),
  },
  { additionalProperties: false },
)

const absent = 'describes images that are not here: an experiment on it can be planned, not run'
const cure = 'add the images, and name the dataset that has them in its place'

/** Images by their number and shape alone, so that a plan on somebody else's data costs nothing and needs none of it. */
export const declared = defineDataset({
  name: 'declared',
  title: 'Declared images: for plans of experiments whose images are not here',
  source: 'nothing is read',
  parameters,
  absent: `'declared' ${absent}; ${cure}`,
  async describe({ height, width, channels, classes, images, testImages }) {
    const imageShape: ImageShape = [height, width, channels]
    return { imageShape, classes, size: { train: images, test: testImages } }
  },
  async open({ of }) {
    throw new NotFound(`'declared' ${absent} (${of})`, cure)
  },
})
