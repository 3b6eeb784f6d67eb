import { type Tensor2D, tf, type Variable } from '../../tf.ts'
import type { Dice } from '../dice.ts'

/** A linear layer: weights [inputs, outputs] and bias [outputs]. */
export interface Dense {
  weights: Variable
  bias: Variable
}

/** Both drawn evenly from +-1 / sqrt(inputs). */
export function drawDense(inputs: number, outputs: number, dice: Dice): Dense {
  const limit = 1 / Math.sqrt(inputs)
  const draw = (count: number) => Float32Array.from({ length: count }, () => limit * (2 * dice.uniform() - 1))
  return tf.tidy(() => ({
    weights: tf.variable(tf.tensor2d(draw(inputs * outputs), [inputs, outputs])),
    bias: tf.variable(tf.tensor1d(draw(outputs))),
  }))
}

/** x [n, inputs] to [n, outputs]. */
export function applyDense(x: Tensor2D, { weights, bias }: Dense): Tensor2D {
  return tf.add(tf.matMul(x, weights as never), bias)
}

/** Each row of x [n, d] divided by its length. */
export function unitRows(x: Tensor2D): Tensor2D {
  return tf.mul(x, tf.rsqrt(tf.add(tf.sum(tf.square(x), 1, true), 1e-12)))
}
