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

/** v <- momentum v + gradient + weightDecay w; w <- w - learningRate v. Not Nesterov's. */
export const sgd = defineOptimizer({
  name: 'sgd',
  title: 'Stochastic gradient descent with momentum',
  paper: 'Sutskever et al., 2013, equations 1 and 2, with the learning rate outside the momentum',
  parameters: optimizerParameters(0.03, {
    momentum: share(0.9, 'Share of the last step that is kept.'),
    weightDecay: weightDecay(0, 'Times the weight, added to its gradient before the momentum (coupled L2).'),
  }),
  slotsPerWeight: () => 1,
  create(parameters, { weights, groups }) {
    const slots = zeroSlots(weights)
    const step = (name: string, gradient: Tensor, rates: ReturnType<typeof ratesOf>): void => {
      const weight = weights[name]!
      const velocity = slots[name]!
      const own = settings(parameters, groups, name)
      const force = own.weightDecay === 0 ? gradient : tf.add(gradient, tf.mul(weight, own.weightDecay))
      velocity.assign(own.momentum === 0 ? tf.clone(force) : tf.add(tf.mul(velocity, own.momentum), force))
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
