import { Type } from 'typebox'
import { type Tensor, tf } from '../../tf.ts'
import {
  defineOptimizer,
  forget,
  optimizerParameters,
  ratesOf,
  settings,
  share,
  weightDecay,
  zeroSlots,
} from './stepper.ts'

const lengthOf = (x: Tensor) => tf.sqrt(tf.sum(tf.square(x)))

/** trust |w| / |force|, and 1 where either is 0. Without a condition: an engine writes arithmetic only. */
function trustRatio(weight: Tensor, force: Tensor, trust: number): Tensor {
  const [length, push] = [lengthOf(weight), lengthOf(force)]
  const both = tf.step(tf.mul(length, push))
  const ratio = tf.div(tf.mul(length, trust), tf.add(push, tf.sub(1, both)))
  return tf.add(tf.mul(both, ratio), tf.sub(1, both))
}

/**
 * As sgd, but each layer's force = gradient + weightDecay w is brought to `trust` times the length of its weights
 * first. Vectors (biases, the scales of norms) go as with sgd, without decay, unless `vectors` says otherwise.
 */
export const lars = defineOptimizer({
  name: 'lars',
  title: 'Layer-wise adaptive rate scaling',
  paper: 'You, Gitman and Ginsburg, 2017, with the learning rate outside the momentum',
  parameters: optimizerParameters(0.3, {
    momentum: share(0.9, 'Share of the last step that is kept.'),
    weightDecay: weightDecay(0, 'Times the weight, added to its gradient before it is scaled (coupled L2).'),
    trust: Type.Number({
      exclusiveMinimum: 0,
      maximum: 1,
      default: 0.001,
      description: 'Length of a step of rate 1 as a share of the length of the weights.',
    }),
    vectors: Type.Union([Type.Literal('plain'), Type.Literal('alike')], {
      default: 'plain',
      description:
        'What happens to biases and the scales of norms: plain steps without decay, or the same as to all others.',
    }),
  }),
  slotsPerWeight: () => 1,
  create(parameters, { weights, groups }) {
    const slots = zeroSlots(weights)
    const step = (name: string, gradient: Tensor, rates: ReturnType<typeof ratesOf>): void => {
      const weight = weights[name]!
      const velocity = slots[name]!
      const plain = parameters.vectors === 'plain' && weight.rank <= 1
      const own = settings(plain ? { ...parameters, weightDecay: 0 } : parameters, groups, name)
      const force = own.weightDecay === 0 ? gradient : tf.add(gradient, tf.mul(weight, own.weightDecay))
      const scaled = plain ? force : tf.mul(force, trustRatio(weight, force, parameters.trust))
      velocity.assign(tf.add(tf.mul(velocity, own.momentum), scaled))
      weight.assign(tf.sub(weight, tf.mul(velocity, rates(own.rate))))
    }
    return {
      slots,
      apply(gradients, learningRate) {
        tf.tidy(() => {
          const rates = ratesOf(tf.scalar(learningRate))
          for (const [name, gradient] of Object.entries(gradients)) step(name, gradient, rates)
        })
      },
      reset: (names) => forget(slots, names),
      dispose: () => tf.dispose(slots),
    }
  },
})
