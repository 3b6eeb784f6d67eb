import { type Static, Type } from 'typebox'
import { checkIndex, type Dataset, type DatasetDescription, defineDataset, type ImageShape } from './dataset.ts'
import { type Dice, rollDice } from './dice.ts'
import { drawFigure, figures, paints, textures } from './figure.ts'
import { applyLimits, limitParameters } from './limits.ts'

const parameters = Type.Object(
  {
    images: Type.Integer({ minimum: 1, maximum: 100_000_000, default: 1000, description: 'Training images.' }),
    testImages: Type.Integer({ minimum: 1, maximum: 100_000_000, default: 200, description: 'Test images.' }),
    classes: Type.Integer({
      minimum: 1,
      maximum: figures.length * textures.length * paints,
      default: 8,
      description:
        'Up to 8 classes are shapes, up to 64 shapes with textures, beyond that with colours (tones in grey).',
    }),
    height: Type.Integer({ minimum: 4, maximum: 1024, default: 28, description: 'Pixels.' }),
    width: Type.Integer({ minimum: 4, maximum: 1024, default: 28, description: 'Pixels.' }),
    channels: Type.Union([Type.Literal(1), Type.Literal(3)], { default: 1, description: '1 is grey, 3 is colour.' }),
    clutter: Type.Integer({ minimum: 0, maximum: 64, default: 2, description: 'Most small blobs behind the shape.' }),
    noise: Type.Number({ minimum: 0, maximum: 1, default: 0.02, description: 'Largest noise of a pixel, uniform.' }),
    seed: Type.Integer({ minimum: 0, maximum: 2 ** 32 - 1, default: 0, description: 'Another seed, other images.' }),
    ...limitParameters,
  },
  { additionalProperties: false },
)

type Parameters = Static<typeof parameters>

/** All that an image was drawn from. Lengths and places are shares of the shorter side, from the centre. */
export interface Factors {
  label: number
  /** Index into `figures`, `textures`; the paint is one of `paints`. */
  figure: number
  texture: number
  paint: number
  x: number
  y: number
  /** Radius. */
  scale: number
  /** Radians. */
  rotation: number
  /** Blobs behind the shape. */
  clutter: number
  /** Brightness behind all, [0, 1]. */
  ground: number
}

function imageDice(wanted: Parameters, split: 'train' | 'test', index: number): Dice {
  return rollDice(wanted.seed).for('shapes', split, index)
}

function rollFactors(wanted: Parameters, index: number, dice: Dice): Factors {
  const label = index % wanted.classes
  const free = { texture: dice.below(textures.length), paint: dice.below(paints) }
  const texture = wanted.classes > figures.length
  const paint = wanted.classes > figures.length * textures.length
  const scale = 0.2 + 0.18 * dice.uniform()
  const room = Math.max(0, 0.48 - scale)
  return {
    label,
    figure: label % figures.length,
    texture: texture ? Math.floor(label / figures.length) % textures.length : free.texture,
    paint: paint ? Math.floor(label / (figures.length * textures.length)) : free.paint,
    x: (2 * dice.uniform() - 1) * room,
    y: (2 * dice.uniform() - 1) * room,
    scale,
    rotation: 2 * Math.PI * dice.uniform(),
    clutter: dice.below(wanted.clutter + 1),
    ground: 0.05 + 0.2 * dice.uniform(),
  }
}

/** The factors of one image. Any index counts, so this works for more images than the dataset has. */
export function shapeFactors(wanted: Parameters, split: 'train' | 'test', index: number): Factors {
  return rollFactors(wanted, index, imageDice(wanted, split, index))
}

function openSplit(wanted: Parameters, split: 'train' | 'test', size: number): Dataset {
  const { height, width, channels } = wanted
  const imageShape: ImageShape = [height, width, channels]
  const image = height * width * channels
  return {
    name: 'shapes',
    split,
    size,
    imageShape,
    classes: wanted.classes,
    async read(indices) {
      const data = new Uint8Array(indices.length * image)
      const labels = new Int32Array(indices.length)
      for (let i = 0; i < indices.length; i++) {
        const index = indices[i]!
        checkIndex(this, index)
        const dice = imageDice(wanted, split, index)
        const factors = rollFactors(wanted, index, dice)
        labels[i] = factors.label
        drawFigure(data.subarray(i * image, (i + 1) * image), imageShape, factors, wanted.noise, dice)
      }
      return { data, shape: imageShape, labels }
    },
    labels: async () => Int32Array.from({ length: size }, (_, index) => index % wanted.classes),
  }
}

/**
 * Drawn images with known factors, for tests and load: each is drawn when it is read, from (seed, split, index), so any
 * number of them takes no memory.
 */
export const shapes = defineDataset({
  name: 'shapes',
  title: 'Shapes: drawn figures with texture, colour, place, scale, rotation and clutter as known factors',
  source: 'drawn by this program',
  parameters,
  async describe(wanted): Promise<DatasetDescription> {
    const size = applyLimits({ train: wanted.images, test: wanted.testImages }, wanted)
    return { imageShape: [wanted.height, wanted.width, wanted.channels], classes: wanted.classes, size }
  },
  async open(wanted) {
    const size = applyLimits({ train: wanted.images, test: wanted.testImages }, wanted)
    return { train: openSplit(wanted, 'train', size.train), test: openSplit(wanted, 'test', size.test) }
  },
})
