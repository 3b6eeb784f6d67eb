import { type Scalar, type Tensor, tf, type Variable } from '../../tf.ts'

type Gradients = Record<string, Tensor>

/** The loss is multiplied by a power of two, so that small gradients do not vanish in half precision. */
export interface LossScale {
  /** Part of every checkpoint. */
  values: Record<string, Variable>
  /** The loss, larger. */
  raise(loss: Scalar): Scalar
  /**
   * Gradients of a raised loss [their length `norm`] as they are without that; all zeros where one of them is not
   * finite, since it was raised too much. The scale follows.
   */
  lower(gradients: Gradients, norm: Tensor): { gradients: Gradients; norm: Tensor; metrics: Record<string, Scalar> }
  dispose(): void
}

const first = 2 ** 16
/** The loss as it is. */
export const least = 1
/** After so many steps without an overflow the scale is doubled. */
const patience = 2000

/** Dynamic loss scaling (Micikevicius et al., ICLR 2018, section 3.2). */
export function lossScale(): LossScale {
  const values = tf.tidy(() => ({
    scale: tf.variable(tf.scalar(first), false),
    good: tf.variable(tf.scalar(0), false),
  }))
  const { scale, good } = values
  return {
    values,
    raise: (loss) => tf.mul(loss, scale),
    lower(gradients, norm) {
      const finite = tf.isFinite(norm)
      const factor = tf.div(1, scale)
      const lowered = Object.entries(gradients).map(([name, gradient]) => {
        const own = tf.mul(gradient, factor)
        return [name, tf.where(finite, own, tf.zerosLike(own))]
      })
      const metrics = {
        lossScale: tf.clone(scale) as Scalar,
        overflow: tf.sub(1, tf.cast(finite, 'float32')) as Scalar,
      }
      const length = tf.where(finite, tf.mul(norm, factor), 0)
      const enough = tf.greaterEqual(good, patience - 1)
      const raised = tf.where(enough, tf.mul(scale, 2), scale)
      const followed = tf.where(finite, raised, tf.maximum(least, tf.div(scale, 2)))
      const counted = tf.where(tf.logicalAnd(finite, tf.logicalNot(enough)), tf.add(good, 1), 0)
      scale.assign(followed as Scalar)
      good.assign(counted as Scalar)
      return { gradients: Object.fromEntries(lowered) as Gradients, norm: length, metrics }
    },
    dispose: () => tf.dispose(Object.values(values)),
  }
}
