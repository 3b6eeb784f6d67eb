import { Type } from 'typebox'
import { tf } from '../../tf.ts'
import { fittedLearner, numbersOf } from '../fitted.ts'
import { defineMethod } from '../method.ts'
import { measureStatistics, orRestoreMemory } from '../nets/statistics.ts'

const parameters = Type.Object(
  {
    statistics: Type.Boolean({
      default: false,
      description: 'Whether batch norm measures its running statistics on training images; else they are 0 and 1.',
    }),
  },
  { additionalProperties: false },
)

const embedding = 'embed'

/** The net as it was drawn: what its layers alone are worth. */
export const untrained = defineMethod({
  name: 'untrained',
  title: 'Untrained net',
  paper: 'a floor for every other method',
  parameters,
  abilities: ['embedding'],
  fitted: true,
  views: () => [{}],
  plan: (_, { net }) => ({
    weights: net.weights,
    multiplyAdds: net.multiplyAdds,
    memoryBytes: net.memoryBytes,
    dimension: numbersOf(net.taps[net.top]!),
  }),
  build({ statistics }, { net }) {
    const { top, taps } = net.plan
    return fittedLearner('untrained', {
      weights: net.weights,
      memory: net.memory,
      taps: { ...taps, [embedding]: [numbersOf(taps[top]!)] },
      embedding,
      async survey(corpus, _epoch, dice, watch) {
        if (statistics) await orRestoreMemory(net, () => measureStatistics(net, corpus, dice, watch))
        return undefined
      },
      activations(images, wanted) {
        const own = wanted.filter((tap) => tap !== embedding)
        const found = net.forward(images, wanted.includes(embedding) ? [...new Set([...own, top])] : own, false)
        const flat = (tap: string) => tf.reshape(found[tap]!, [images.shape[0], -1])
        return Object.fromEntries(wanted.map((tap) => [tap, tap === embedding ? flat(top) : found[tap]!]))
      },
    })
  },
})
