import { type Static, type TObject, Type } from 'typebox'
import { type Tensor, tf, type Variable } from '../../tf.ts'
import type { Learner } from '../method.ts'

/** An optimiser at work on the weights of one learner. */
export interface Stepper {
  /** What it remembers from step to step, by name; part of every checkpoint. */
  slots: Record<string, Variable>
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

function defineOptimizer<const Name extends string, P extends TObject>(optimizer: Optimizer<Name, P>) {
  return optimizer
}

const sgdParameters = Type.Object(
  {
    learningRate: Type.Number({
      exclusiveMinimum: 0,
      maximum: 1000,
      default: 0.03,
      description: 'Full learning rate; the schedule multiplies it.',
    }),
    momentum: Type.Number({
      minimum: 0,
      exclusiveMaximum: 1,
      default: 0.9,
      description: 'Share of the last step that is kept.',
    }),
    weightDecay: Type.Number({
      minimum: 0,
      maximum: 10,
      default: 0,
      description: 'Times the weight, added to its gradient before the momentum (coupled L2).',
    }),
  },
  { additionalProperties: false },
)

function settings(parameters: Static<typeof sgdParameters>, groups: Learner['groups'], name: string) {
  const group = groups?.find(({ weights }) => weights.test(name))
  return {
    rate: group?.learningRate ?? 1,
    momentum: group?.momentum ?? parameters.momentum,
    weightDecay: group?.weightDecay ?? parameters.weightDecay,
  }
}

/** v <- momentum v + gradient + weightDecay w; w <- w - learningRate v. Not Nesterov's. */
const sgd = defineOptimizer({
  name: 'sgd',
  title: 'Stochastic gradient descent with momentum',
  paper: 'Sutskever et al., 2013, equations 1 and 2, with the learning rate outside the momentum',
  parameters: sgdParameters,
  slotsPerWeight: () => 1,
  create(parameters, { weights, groups }) {
    const slots: Record<string, Variable> = {}
    for (const [name, weight] of Object.entries(weights))
      slots[name] = tf.tidy(() => tf.variable(tf.zeros(weight.shape), false))
    const step = (name: string, gradient: Tensor, learningRate: Tensor): void => {
      const weight = weights[name]!
      const velocity = slots[name]!
      const { rate, momentum, weightDecay } = settings(parameters, groups, name)
      const force = weightDecay === 0 ? gradient : tf.add(gradient, tf.mul(weight, weightDecay))
      velocity.assign(momentum === 0 ? tf.clone(force) : tf.add(tf.mul(velocity, momentum), force))
      weight.assign(tf.sub(weight, tf.mul(velocity, rate === 1 ? learningRate : tf.mul(learningRate, rate))))
    }
    return {
      slots,
      apply(gradients, learningRate) {
        tf.tidy(() => {
          const rate = tf.scalar(learningRate)
          for (const [name, gradient] of Object.entries(gradients)) step(name, gradient, rate)
        })
      },
      reset(names) {
        for (const name of names) tf.tidy(() => slots[name]?.assign(tf.zeros(weights[name]!.shape)))
      },
      dispose: () => tf.dispose(slots),
    }
  },
})

/** Every optimiser, by name. */
export const optimizers = { sgd }
