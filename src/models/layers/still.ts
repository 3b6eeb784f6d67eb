import { type Tensor, type Tensor2D, tf } from '../../tf.ts'
import type { Dense } from './dense.ts'

/** x - target, where the target gets no gradient. */
export function differenceToStill(x: Tensor, target: Tensor): Tensor {
  return tf.customGrad((...inputs) => ({
    value: tf.sub(inputs[0] as Tensor, target),
    gradFunc: (dy: Tensor) => dy,
  }))(x)
}

/** A dense layer over x [n, inputs], where x gets no gradient: what is learned from it does not change it. */
export function applyDenseToStill(x: Tensor2D, { weights, bias }: Dense): Tensor2D {
  const product = tf.customGrad((...inputs) => ({
    value: tf.matMul(x, inputs[0] as unknown as Tensor2D),
    gradFunc: (dy: Tensor) => tf.matMul(x, dy as Tensor2D, true) as Tensor,
  }))(weights)
  return tf.add(product, bias)
}
