import { type Scalar, type Tensor, type Tensor1D, type Tensor2D, tf } from '../../tf.ts'

/**
 * The mean of -log softmax(logits)[label] over the images that have a label; those with -1 count nothing, and where
 * there is none with one the loss is 0. Logits [n, classes], labels [n].
 */
export function crossEntropy(logits: Tensor2D, labels: Tensor1D): Scalar {
  const known = tf.cast(tf.greaterEqual(labels, 0), 'float32')
  // Another class stands in where there is none, and is not counted.
  const classes = tf.oneHot(tf.cast(tf.maximum(labels, 0), 'int32') as Tensor1D, logits.shape[1])
  const own = tf.sum(tf.mul(logits, tf.cast(classes, 'float32')), 1)
  const each = tf.mul(tf.sub(tf.logSumExp(logits, 1) as Tensor, own), known)
  return tf.div(tf.sum(each), tf.maximum(tf.sum(known), 1)) as Scalar
}
