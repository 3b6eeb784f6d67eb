import { rollDice } from './dice.ts'

/** The order in which an epoch visits the images of a dataset. */
export type Order = (epoch: number) => ArrayLike<number>

/** 0, 1, 2, ... in every epoch. */
export function inTurn(size: number): Order {
  const order = Int32Array.from({ length: size }, (_, i) => i)
  return () => order
}

/** Every image once an epoch, in an order drawn from (seed, epoch). */
export function shuffled(size: number, seed: number): Order {
  const dice = rollDice(seed)
  return (epoch) => dice.for('order', epoch).permutation(size)
}
