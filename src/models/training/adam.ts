import { type Static, Type } from 'typebox'
import { type Tensor, tf, type Variable } from '../../tf.ts'
import type { Learner } from '../method.ts'
import {
  defineOptimizer,
  forget,
  optimizerParameters,
  ratesOf,
  type Stepper,
  settings,
  share,
  shared,
  weightDecay,
  zeroSlots,
} from './stepper.ts'

const moments = {
  momentum: share(0.9, 'What the mean of the gradients keeps of itself, beta 1.'),
  squareMomentum: share(0.999, 'What the mean of their squares keeps of itself, beta 2.'),
  epsilon: Type.Number({
    exclusiveMinimum: 0,
    maximum: 1,
    default: 1e-8,
    description: 'Added to the root of the mean of squares.',
  }),
}

const adamParameters = optimizerParameters(0.001, {
  ...moments,
  weightDecay: weightDecay(0, 'Times the weight, added to its gradient before anything else (coupled L2).'),
})

/** Counts steps of single precision up to here; by then no mean is biased any more. */
const countLimit = 2 ** 24

/** Everything of one weight in one step. */
interface Turn {
  weight: Variable
  mean: Variable
  square: Variable
  gradient: Tensor
  /** learningRate / (1 - beta1^t) times what the weight's group asks for, and 1 / (1 - beta2^t), scalars. */
  rates: ReturnType<typeof ratesOf>
  correction: Tensor
}

function createAdam(
  parameters: Static<typeof adamParameters>,
  { weights, groups }: Pick<Learner, 'weights' | 'groups'>,
  decoupled: boolean,
): Stepper {
  const { squareMomentum, epsilon } = parameters
  const [means, squares] = [zeroSlots(weights), zeroSlots(weights)]
  const names = Object.keys(weights)
  /** Steps taken by each weight since its slots were zero. */
  const taken = new Float32Array(names.length)
  const step = (
    name: string,
    { weight, mean, square, gradient, rates, correction }: Turn,
    keeps: (share: number) => Tensor,
  ): void => {
    const own = settings(parameters, groups, name)
    const coupled = own.weightDecay !== 0 && !decoupled
    const force = coupled ? tf.add(gradient, tf.mul(weight, own.weightDecay)) : gradient
    mean.assign(tf.add(tf.mul(mean, own.momentum), tf.mul(force, 1 - own.momentum)))
    square.assign(tf.add(tf.mul(square, squareMomentum), tf.mul(tf.square(force), 1 - squareMomentum)))
    const root = tf.add(tf.sqrt(tf.mul(square, correction)), epsilon)
    const move = tf.mul(tf.div(mean, root), rates(own.rate))
    const decayed =
      decoupled && own.weightDecay !== 0 ? tf.mul(weight, keeps(own.rate * own.weightDecay)) : (weight as Tensor)
    weight.assign(tf.sub(decayed, move))
  }
  /** The scalars of weights that have taken as many steps with the same momentum. */
  const corrections = (learningRate: number) => {
    const rates = shared((bias: number) => ratesOf(tf.scalar(learningRate / bias)))
    const correction = shared((steps: number) => tf.scalar(1 / (1 - squareMomentum ** steps)))
    return (steps: number, momentum: number) => ({ rates: rates(1 - momentum ** steps), correction: correction(steps) })
  }
  const slots: Stepper['slots'] = { taken }
  for (const name of names) {
    slots[`${name}/mean`] = means[name]!
    slots[`${name}/square`] = squares[name]!
  }
  return {
    slots,
    apply(gradients, learningRate) {
      tf.tidy(() => {
        const full = tf.scalar(learningRate)
        const keeps = shared((share: number) => tf.sub(1, tf.mul(full, share)))
        const correct = corrections(learningRate)
        for (const [name, gradient] of Object.entries(gradients)) {
          const i = names.indexOf(name)
          taken[i] = Math.min(countLimit, taken[i]! + 1)
          const scalars = correct(taken[i]!, settings(parameters, groups, name).momentum)
          step(
            name,
            { weight: weights[name]!, mean: means[name]!, square: squares[name]!, gradient, ...scalars },
            keeps,
          )
        }
      })
    },
    reset(forgotten) {
      forget(means, forgotten)
      forget(squares, forgotten)
      for (const name of forgotten) if (name in weights) taken[names.indexOf(name)] = 0
    },
    dispose: () => tf.dispose([means, squares]),
  }
}

/** m <- b1 m + (1 - b1) g; v <- b2 v + (1 - b2) g^2; w <- w - rate m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + epsilon). */
export const adam = defineOptimizer({
  name: 'adam',
  title: 'Adam',
  paper: 'Kingma and Ba, ICLR 2015, algorithm 1',
  parameters: adamParameters,
  slotsPerWeight: () => 2,
  create: (parameters, learner) => createAdam(parameters, learner, false),
})

/** Adam, with the weights lowered by learningRate x weightDecay of themselves instead of a term in the gradient. */
export const adamw = defineOptimizer({
  name: 'adamw',
  title: 'Adam with decoupled weight decay',
  paper: 'Loshchilov and Hutter, ICLR 2019, algorithm 2',
  parameters: optimizerParameters(0.001, {
    ...moments,
    weightDecay: weightDecay(0.01, 'Share of itself that a weight loses at each step, times the learning rate.'),
  }),
  slotsPerWeight: () => 2,
  create: (parameters, learner) => createAdam(parameters, learner, true),
})
