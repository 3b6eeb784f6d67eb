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
 * scale (x - mean) / sqrt(variance + epsilon) + offset of x [..., channels] with the batch's own statistics over all
 * other sides, which also move the running ones; then relu, unless told otherwise. One gradient for all of it (Ioffe
 * and Szegedy, 2015, section 3): derived step by step it would take three times as many passes over the batch.
 */
export function normaliseBatch<T extends Tensor = Tensor4D>(x: T, norm: Norm, { relu = true } = {}): T {
  const axes = x.shape.slice(1).map((_, i) => i)
  const count = x.size / x.shape.at(-1)!
  const layer = tf.customGrad((...inputs) => {
    const [input, scale, offset, save] = inputs as unknown as [Tensor, Tensor, Tensor, (tensors: Tensor[]) => void]
    const mean = tf.div(tf.sum(input, axes), count)
    const centred = tf.sub(input, mean)
    const variance = tf.div(tf.sum(tf.square(centred), axes), count)
    keepRunning(norm.mean, mean)
    keepRunning(norm.variance, variance)
    const inverse = tf.rsqrt(tf.add(variance, epsilon))
    const standard = tf.mul(centred, inverse)
    const sum = tf.add(tf.mul(standard, scale), offset)
    const value = relu ? tf.relu(sum) : sum
    save(relu ? [standard, scale, inverse, value] : [standard, scale, inverse])
    const gradFunc = (dy: Tensor, saved: Tensor[]) => {
      const [z, gamma, inverseDeviation, y] = saved as [Tensor, Tensor, Tensor, Tensor | undefined]
      const passed = y ? tf.mul(dy, tf.step(y)) : dy
      const dOffset = tf.sum(passed, axes)
      const dScale = tf.sum(tf.mul(passed, z), axes)
      const pull = tf.add(tf.mul(z, tf.div(dScale, count)), tf.div(dOffset, count))
      return [tf.mul(tf.sub(passed, pull), tf.mul(gamma, inverseDeviation)), dScale, dOffset]
    }
    return { value, gradFunc }
  })
  return layer(x, norm.scale, norm.offset) as T
}

/** The same with the running statistics, which stay as they are. */
export function normaliseRunning<T extends Tensor = Tensor4D>(x: T, norm: Norm, { relu = true } = {}): T {
  const factor = tf.mul(norm.scale, tf.rsqrt(tf.add(norm.variance, epsilon)))
  const sum = tf.add(tf.mul(x, factor), tf.sub(norm.offset, tf.mul(norm.mean, factor))) as T
  return relu ? tf.relu(sum) : sum
}
