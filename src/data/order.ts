import { rollDice } from './dice.ts'

/** The order in which an epoch visits the images of a dataset. */
export type Order = (epoch: number) => ArrayLike<number>

/** Every image once an epoch, in an order drawn from (seed, epoch). */
export function shuffled(size: number, seed: number): Order {
  const dice = rollDice(seed)
  return (epoch) => dice.for('order', epoch).permutation(size)
}
