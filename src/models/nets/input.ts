import { type Static, Type } from 'typebox'
import { InvalidDefinition } from '../../errors.ts'
import { type Tensor, type Tensor4D, tf } from '../../tf.ts'
import { around } from '../layers/conv.ts'
import type { Layer } from './layer.ts'

/** What is done to images before the first layer; a parameter of every family of nets. */
export const inputSchema = Type.Union(
  [Type.Literal('none'), Type.Literal('mean-pixel'), Type.Literal('imagenet'), Type.Literal('sobel')],
  {
    default: 'none',
    description:
      'What is done to images, which come in [0, 1], before the first layer: nothing; the mean pixel of ImageNet is taken off; that, and each channel is divided by its deviation; or that (of colour images), the mean of the channels, and Sobel filters in both directions (2 channels).',
  },
)

export type InputName = Static<typeof inputSchema>

/** Of the training images of ImageNet, red, green and blue in [0, 1]. */
const mean = [0.485, 0.456, 0.406]
const deviation = [0.229, 0.224, 0.225]

const standardise = (x: Tensor) => tf.div(tf.sub(x, tf.tensor1d(mean)), tf.tensor1d(deviation))

/** [3, 3, 1, 2]: [[1, 0, -1], [2, 0, -2], [1, 0, -1]] and the same turned (Caron et al., 2018). */
const sobel = [
  [1, 1],
  [0, 2],
  [-1, 1],
  [2, 0],
  [0, 0],
  [-2, 0],
  [1, -1],
  [0, -2],
  [-1, -1],
]

function detectEdges(x: Tensor): Tensor {
  const grey = x.shape.at(-1) === 1 ? x : tf.mean(x, 3, true)
  const filter = tf.tensor4d(sobel.flat(), [3, 3, 1, 2])
  return tf.conv2d(grey as Tensor4D, filter, 1, around({ padding: [1, 1] }) as never)
}

const inputs: Record<InputName, (x: Tensor) => Tensor> = {
  none: (x) => x,
  'mean-pixel': (x) => tf.sub(x, tf.tensor1d(mean)),
  imagenet: standardise,
  sobel: (x) => detectEdges(x.shape.at(-1) === 3 ? standardise(x) : x),
}

/** The first layer of every net: images [h, w, c] in [0, 1] as the first that learns sees them. */
export function input(kind: InputName): Layer {
  return {
    name: 'input',
    is: { kind: 'input' },
    output([height, width, channels]) {
      if ((kind === 'mean-pixel' || kind === 'imagenet') && channels !== 3) {
        const detail = `'${kind}' is for images of 3 channels and these have ${channels}: 'none' or 'sobel' would be right`
        throw new InvalidDefinition([{ pointer: '/input', detail }], 'the net')
      }
      return [height!, width!, kind === 'sobel' ? 2 : channels!]
    },
    apply: (x) => inputs[kind](x),
  }
}
