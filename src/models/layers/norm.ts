import { type Tensor, type Tensor4D, tf, type Variable } from '../../tf.ts'

/** The weights and the memory of one batch norm, each [channels]. */
export interface Norm {
  scale: Variable
  offset: Variable
  /** Running mean and variance. */
  mean: Variable
  variance: Variable
}

/** What a running statistic keeps of itself at each training step; the rest comes from the batch. */
export const runningMomentum = 0.9

/** Added to variances. */
export const epsilon = 1e-5

function keepRunning(running: Variable, batch: Tensor): void {
  running.assign(tf.add(tf.mul(running, runningMomentum), tf.mul(batch, 1 - runningMomentum)))
}

/**
 * relu(scale (x - mean) / sqrt(variance + epsilon) + offset) of x [n, h, w, c] with the batch's own statistics over
 * n, h and w, which also move the running ones. One gradient for all of it (Ioffe and Szegedy, 2015, section 3):
 * derived step by step it would take three times as many passes over the batch.
 */
export function normaliseBatch(x: Tensor4D, norm: Norm): Tensor4D {
  const axes = [0, 1, 2]
  const count = x.shape[0] * x.shape[1] * x.shape[2]
  const layer = tf.customGrad((...inputs) => {
    const [input, scale, offset, save] = inputs as unknown as [Tensor, Tensor, Tensor, (tensors: Tensor[]) => void]
    const mean = tf.div(tf.sum(input, axes), count)
    const centred = tf.sub(input, mean)
    const variance = tf.div(tf.sum(tf.square(centred), axes), count)
    keepRunning(norm.mean, mean)
    keepRunning(norm.variance, variance)
    const inverse = tf.rsqrt(tf.add(variance, epsilon))
    const standard = tf.mul(centred, inverse)
    const value = tf.relu(tf.add(tf.mul(standard, scale), offset))
    save([standard, value, scale, inverse])
    const gradFunc = (dy: Tensor, saved: Tensor[]) => {
      const [z, y, gamma, inverseDeviation] = saved as [Tensor, Tensor, Tensor, Tensor]
      const passed = tf.mul(dy, tf.step(y))
      const dOffset = tf.sum(passed, axes)
      const dScale = tf.sum(tf.mul(passed, z), axes)
      const pull = tf.add(tf.mul(z, tf.div(dScale, count)), tf.div(dOffset, count))
      return [tf.mul(tf.sub(passed, pull), tf.mul(gamma, inverseDeviation)), dScale, dOffset]
    }
    return { value, gradFunc }
  })
  return layer(x, norm.scale, norm.offset) as Tensor4D
}

/** The same with the running statistics, which stay as they are. */
export function normaliseRunning(x: Tensor4D, norm: Norm): Tensor4D {
  const factor = tf.mul(norm.scale, tf.rsqrt(tf.add(norm.variance, epsilon)))
  return tf.relu(tf.add(tf.mul(x, factor), tf.sub(norm.offset, tf.mul(norm.mean, factor))))
}
