import { tf, type Variable } from '../../tf.ts'
import type { Learner } from '../method.ts'

/** A slow copy of the weights, which follows them step by step. */
export interface Average {
  /** By name of the weight; part of every checkpoint. */
  values: Record<string, Variable>
  /** Takes these weights as they are now. */
  restart(names: readonly string[]): void
  /** After a step of these weights. */
  follow(names: readonly string[]): void
  /** Puts itself in place of the weights. */
  replace(): void
  dispose(): void
}

/** average <- keep average + (1 - keep) w at each step (Polyak and Juditsky, 1992, with a fading memory). */
export function averageOf(weights: Learner['weights'], keep: number): Average {
  const values: Record<string, Variable> = {}
  for (const [name, weight] of Object.entries(weights))
    values[name] = tf.tidy(() => tf.variable(tf.clone(weight), false))
  return {
    values,
    restart(names) {
      for (const name of names) tf.tidy(() => values[name]?.assign(tf.clone(weights[name]!)))
    },
    follow(names) {
      for (const name of names)
        tf.tidy(() => values[name]!.assign(tf.add(tf.mul(values[name]!, keep), tf.mul(weights[name]!, 1 - keep))))
    },
    replace() {
      for (const [name, weight] of Object.entries(weights)) tf.tidy(() => weight.assign(tf.clone(values[name]!)))
    },
    dispose: () => tf.dispose(values),
  }
}
