import { type Tensor2D, tf, type Variable } from '../../tf.ts'
import type { Dice } from '../dice.ts'

/** A linear layer: weights [inputs, outputs] and bias [outputs]. */
export interface Dense {
  weights: Variable
  bias: Variable
}

/**
 * Weights drawn evenly with variance 1 / inputs (LeCun et al., 1998), so that the layer keeps the scale, or normal with
 * a `deviation` of its own; no bias.
 */
export function drawDense(inputs: number, outputs: number, dice: Dice, deviation?: number): Dense {
  const limit = Math.sqrt(3 / inputs)
  const draw = () => (deviation === undefined ? limit * (2 * dice.uniform() - 1) : deviation * dice.normal())
  const values = Float32Array.from({ length: inputs * outputs }, draw)
  return tf.tidy(() => ({
    weights: tf.variable(tf.tensor2d(values, [inputs, outputs])),
    bias: tf.variable(tf.zeros([outputs])),
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
