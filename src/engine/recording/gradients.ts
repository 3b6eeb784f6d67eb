import { type Tensor, tf } from '../../tf.ts'

/** The axes that were summed over, as axes of one number. */
function kept(x: Tensor, attributes: tf.NamedAttrMap): number[] {
  const axes = tf.util.parseAxisParam(attributes.axis as number[], x.shape)
  return x.shape.map((side, i) => (axes.includes(i) ? 1 : side))
}

/**
 * x, of one number along some axes, in a larger shape. That of tfjs is a Tile, whose own gradient records a slice for each
 * repetition and knows ranks up to 4: the gradient of a gradient needs this one.
 */
function spread(x: Tensor, shape: number[]): Tensor {
  if (shape.includes(0)) return tf.zeros(shape)
  const axes = shape.flatMap((side, axis) => (side === x.shape[axis] ? [] : [axis]))
  const layer = tf.customGrad((operand) => ({
    value: tf.broadcastTo(operand as Tensor, shape as never) as Tensor,
    gradFunc: (dy: Tensor) => (axes.length === 0 ? tf.clone(dy) : tf.sum(dy, axes, true)),
  }))
  return layer(x)
}

/** dy for every number that went into a sum. That of tfjs makes an array of ones as large as the operand each time. */
const sumGradient: tf.GradConfig = {
  kernelName: 'Sum',
  inputsToSave: ['x'],
  gradFunc: (dy, [x], attributes) => ({
    x: () => spread(tf.reshape(dy as Tensor, kept(x!, attributes)), x!.shape),
  }),
}

/** The same, divided by how many there were. */
const meanGradient: tf.GradConfig = {
  kernelName: 'Mean',
  inputsToSave: ['x'],
  gradFunc: (dy, [x], attributes) => ({
    x: () => {
      const shape = kept(x!, attributes)
      const share = tf.div(dy as Tensor, x!.size / tf.util.sizeFromShape(shape))
      return spread(tf.reshape(share, shape), x!.shape)
    },
  }),
}

/** Puts gradients that a lazy engine computes well in the place of those of tfjs; what it returns undoes it. */
export function installGradients(): () => void {
  const own = [sumGradient, meanGradient]
  const before = own.map(({ kernelName }) => tf.getGradient(kernelName))
  const put = (gradients: readonly (tf.GradConfig | undefined)[]) => {
    for (const gradient of gradients) {
      if (!gradient) continue
      tf.unregisterGradient(gradient.kernelName)
      tf.registerGradient(gradient)
    }
  }
  put(own)
  return () => put(before)
}
