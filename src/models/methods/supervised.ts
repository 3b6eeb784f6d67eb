import { type Static, Type } from 'typebox'
import { type Tensor, type Tensor2D, type Tensor4D, tf } from '../../tf.ts'
import { rollDice } from '../dice.ts'
import { applyDense, type Dense, drawDense } from '../layers/dense.ts'
import { measureClassifier } from '../math/classification.ts'
import { defineMethod, type Learner, type World } from '../method.ts'
import type { Net } from '../nets/net.ts'

const parameters = Type.Object(
  {
    smoothing: Type.Number({
      minimum: 0,
      exclusiveMaximum: 1,
      default: 0,
      description: 'Share of the target that is spread evenly over all classes (label smoothing).',
    }),
    head: Type.Union([Type.Literal('scaled'), Type.Literal('small')], {
      default: 'scaled',
      description:
        'How the weights of the classifier are drawn: evenly with variance 1 / inputs, or normal with deviation 0.01 (VGG, AlexNet).',
    }),
    biases: Type.Union([Type.Literal('alike'), Type.Literal('double')], {
      default: 'alike',
      description:
        'How biases learn: as all other weights, or at twice the learning rate and without weight decay (as in Caffe).',
    }),
  },
  { additionalProperties: false },
)

type Parameters = Static<typeof parameters>

const logits = 'logits'

function multiply(shape: readonly number[]): number {
  return shape.reduce((a, b) => a * b, 1)
}

function encode(net: Net, classify: (x: Tensor) => Tensor, images: Tensor4D, taps: readonly string[]) {
  const { top } = net.plan
  const own = taps.filter((tap) => tap !== logits)
  const found = net.forward(images, taps.includes(logits) ? [...new Set([...own, top])] : own, false)
  return Object.fromEntries(taps.map((tap) => [tap, tap === logits ? classify(found[top]!) : found[tap]!]))
}

function drawHead({ head }: Parameters, inputs: number, classes: number, seed: number): Dense {
  return drawDense(inputs, classes, rollDice(seed).for('supervised', 'head'), head === 'small' ? 0.01 : undefined)
}

function build(own: Parameters, { net, classes, seed }: World): Learner {
  const { top, taps } = net.plan
  const head = drawHead(own, multiply(taps[top]!), classes, seed)
  const classify = (x: Tensor) => applyDense(tf.reshape(x, [x.shape[0]!, -1]) as Tensor2D, head)
  const headWeights = { 'head/weights': head.weights, 'head/bias': head.bias }
  return {
    weights: { ...net.weights, ...headWeights },
    memory: net.memory,
    ...(own.biases === 'double' ? { groups: [{ weights: /\/bias$/, learningRate: 2, weightDecay: 0 }] } : {}),
    taps: { ...taps, [logits]: [classes] },
    embedding: top,
    objective(batch, dice) {
      const scores = classify(net.forward(batch.views[0]!, [top], true, dice.for('dropout'))[top]!) as Tensor2D
      return measureClassifier(scores, batch.labels!, own.smoothing)
    },
    encode: (images, wanted) => tf.tidy(() => encode(net, classify, images, wanted)),
    dispose: () => tf.dispose([net.weights, net.memory, headWeights]),
  }
}

/** Any net with a linear classifier on top, taught by labels: the ceiling, and what others start from. */
export const supervised = defineMethod({
  name: 'supervised',
  title: 'Supervised classification',
  paper: 'Krizhevsky, Sutskever and Hinton, 2012; label smoothing: Szegedy et al., 2016',
  parameters,
  abilities: ['classifier', 'embedding'],
  requires: ['labels'],
  views: () => [{ shift: 2, flip: 0.5 }],
  plan(_parameters, { net, classes }) {
    const inputs = multiply(net.taps[net.top]!)
    return {
      weights: net.weights + inputs * classes + classes,
      multiplyAdds: net.multiplyAdds + inputs * classes,
      memoryBytes: net.memoryBytes,
      dimension: inputs,
    }
  },
  build,
})
