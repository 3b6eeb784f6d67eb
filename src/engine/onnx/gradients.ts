import { type Tensor, tf } from '../../tf.ts'

/** The axes that were summed over, as axes of one number. */
function kept(x: Tensor, attributes: tf.NamedAttrMap): number[] {
  const axes = tf.util.parseAxisParam(attributes.axis as number[], x.shape)
  return x.shape.map((side, i) => (axes.includes(i) ? 1 : side))
}

/** dy for every number that went into a sum. That of tfjs makes an array of ones as large as the operand each time. */
const sumGradient: tf.GradConfig = {
  kernelName: 'Sum',
  inputsToSave: ['x'],
  gradFunc: (dy, [x], attributes) => ({
    x: () => tf.broadcastTo(tf.reshape(dy as Tensor, kept(x!, attributes)), x!.shape as never),
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
      return tf.broadcastTo(tf.reshape(share, shape), x!.shape as never)
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
