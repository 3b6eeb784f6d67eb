import { type Static, type TObject, type TProperties, Type } from 'typebox'
import { type Tensor, tf, type Variable } from '../../tf.ts'
import type { Learner } from '../method.ts'

/** An optimiser at work on the weights of one learner. */
export interface Stepper {
  /** What it remembers from step to step, by name; part of every checkpoint. */
  slots: Record<string, Variable | Float32Array>
  /** Takes one step. `gradients` are by name of the weight; a weight without one stays. */
  apply(gradients: Record<string, Tensor>, learningRate: number): void
  /** Forgets what it remembers of these weights. */
  reset(names: readonly string[]): void
  dispose(): void
}

/** A way of lowering a loss by its gradient. */
export interface Optimizer<Name extends string = string, P extends TObject = TObject> {
  name: Name
  title: string
  paper: string
  parameters: P
  /** Numbers remembered for each learned one. */
  slotsPerWeight(parameters: Static<P>): number
  create(parameters: Static<P>, learner: Pick<Learner, 'weights' | 'groups'>): Stepper
}

/** Keeps the literal name and parameter types of an optimiser. */
export function defineOptimizer<const Name extends string, P extends TObject>(optimizer: Optimizer<Name, P>) {
  return optimizer
}

/** The parameters of an optimiser: its own beside the full learning rate. */
export function optimizerParameters<P extends TProperties>(learningRate: number, own: P) {
  return Type.Object(
    {
      learningRate: Type.Number({
        exclusiveMinimum: 0,
        maximum: 1000,
        default: learningRate,
        description: 'Full learning rate; the schedule multiplies it.',
      }),
      ...own,
    },
    { additionalProperties: false },
  )
}

/** A momentum as a parameter. */
export function share(standard: number, description: string) {
  return Type.Number({ minimum: 0, exclusiveMaximum: 1, default: standard, description })
}

export function weightDecay(standard: number, description: string) {
  return Type.Number({ minimum: 0, maximum: 10, default: standard, description })
}

/** What a learner asks for one weight: the first exception that matches, over what holds for all. */
export function settings(
  parameters: { momentum: number; weightDecay: number },
  groups: Learner['groups'],
  name: string,
): { rate: number; momentum: number; weightDecay: number } {
  const group = groups?.find(({ weights }) => weights.test(name))
  return {
    rate: group?.learningRate ?? 1,
    momentum: group?.momentum ?? parameters.momentum,
    weightDecay: group?.weightDecay ?? parameters.weightDecay,
  }
}

/**
 * A step's scalars, each made once and shared by all weights that need it: so an engine sees that they are treated
 * alike, and can update them together.
 */
export function shared<Key extends string | number, Made>(make: (key: Key) => Made): (key: Key) => Made {
  const made = new Map<Key, Made>()
  return (key) => {
    if (!made.has(key)) made.set(key, make(key))
    return made.get(key)!
  }
}

/** Learning rates of weights, by what their group asks for. */
export const ratesOf = (learningRate: Tensor) =>
  shared((times: number) => (times === 1 ? learningRate : tf.mul(learningRate, times)))

/** A slot of zeros for each weight. */
export function zeroSlots(weights: Learner['weights']): Record<string, Variable> {
  const entries = Object.entries(weights)
  return Object.fromEntries(
    entries.map(([name, weight]) => [name, tf.tidy(() => tf.variable(tf.zeros(weight.shape), false))]),
  )
}

/** Puts the slots of these weights back to zero. */
export function forget(slots: Record<string, Variable>, names: readonly string[]): void {
  for (const name of names) tf.tidy(() => slots[name]?.assign(tf.zeros(slots[name].shape)))
}
