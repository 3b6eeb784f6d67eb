import { type Scalar, type Tensor, type Tensor1D, type Tensor2D, tf } from '../../tf.ts'

/** What each image should be, [b, classes]: all zeros where it has no label (-1), so that it counts for nothing. */
function targetsOf(labels: Int32Array, classes: number, smoothing: number): Tensor2D {
  const targets = new Float32Array(labels.length * classes)
  labels.forEach((label, i) => {
    if (label < 0) return
    const row = targets.subarray(i * classes, (i + 1) * classes).fill(smoothing / classes)
    row[label]! += 1 - smoothing
  })
  return tf.tensor2d(targets, [labels.length, classes])
}

/**
 * Softmax cross-entropy of each image, [b], for logits [b, classes]; 0 where it has no label. With `smoothing` s the
 * target is 1 - s + s / classes for the own class and s / classes for the others (Szegedy et al., 2016). One gradient
 * for all of it.
 */
export function crossEntropies(logits: Tensor2D, labels: Int32Array, smoothing = 0): Tensor1D {
  const layer = tf.customGrad((...inputs) => {
    const [x, save] = inputs as unknown as [Tensor2D, (tensors: Tensor[]) => void]
    const targets = targetsOf(labels, x.shape[1], smoothing)
    const costs = tf.sub(tf.logSumExp(x, 1, true), x)
    save([costs, targets])
    const gradFunc = (dy: Tensor, saved: Tensor[]) => {
      const [each, wanted] = saved as [Tensor, Tensor]
      // The targets of an image sum to 1, or to 0 without a label.
      const pulls = tf.sub(tf.mul(tf.exp(tf.neg(each)), tf.sum(wanted, 1, true)), wanted)
      return tf.mul(pulls, tf.expandDims(dy, 1))
    }
    return { value: tf.sum(tf.mul(targets, costs), 1), gradFunc }
  })
  return layer(logits) as Tensor1D
}

/** Their mean over the images that have a label; 0 where none has. */
export function crossEntropy(logits: Tensor2D, labels: Int32Array, smoothing = 0): Scalar {
  const count = Math.max(1, labels.filter((label) => label >= 0).length)
  return tf.div(tf.sum(crossEntropies(logits, labels, smoothing)), count) as Scalar
}

/**
 * The share of the labelled images whose own class is among the k with the highest logits, a scalar for each k; no
 * gradient flows through it. Of equal logits the earlier class counts as the higher, so that a net which tells none
 * apart hits no more than chance.
 */
export function hitShares(logits: Tensor2D, labels: Int32Array, ks: readonly number[]): Scalar[] {
  const count = Math.max(1, labels.filter((label) => label >= 0).length)
  const classes = logits.shape[1]
  const places = labels.map((label, i) => i * classes + Math.max(0, label))
  const own = tf.expandDims(tf.gather(tf.reshape(logits, [-1]), tf.tensor1d(places, 'int32')), 1)
  const before = Float32Array.from({ length: labels.length * classes }, (_, i) =>
    i % classes < labels[Math.floor(i / classes)]! ? 1 : 0,
  )
  const earlier = tf.tensor2d(before, [labels.length, classes])
  const notBelow = tf.sub(1, tf.step(tf.sub(own, logits)))
  const higher = tf.step(tf.sub(logits, own))
  const above = tf.sum(tf.add(tf.mul(earlier, notBelow), tf.mul(tf.sub(1, earlier), higher)), 1)
  const labelled = tf.tensor1d(Float32Array.from(labels, (label) => (label >= 0 ? 1 / count : 0)))
  return ks.map((k) => tf.sum(tf.mul(labelled, tf.step(tf.sub(k, above)))) as Scalar)
}
