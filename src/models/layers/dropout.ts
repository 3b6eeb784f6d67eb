import { type Tensor, tf } from '../../tf.ts'
import type { Dice } from '../dice.ts'

/** Each number is 0 with probability `rate`, the others grow by 1 / (1 - rate) (Srivastava et al., 2014). */
export function dropOut<T extends Tensor>(x: T, rate: number, dice: Dice): T {
  const kept = 1 / (1 - rate)
  // Thrown here and not by the engine: the same dice must fall alike on every engine and after a resumption.
  const mask = new Float32Array(x.size)
  for (let i = 0; i < mask.length; i++) mask[i] = dice.uniform() < rate ? 0 : kept
  return tf.mul(x, tf.tensor(mask, x.shape))
}
