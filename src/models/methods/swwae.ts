import { type Static, Type } from 'typebox'
import type { ImageShape } from '../../data/dataset.ts'
import { type Scalar, type Tensor, type Tensor2D, type Tensor4D, tf } from '../../tf.ts'
import { type Dice, rollDice } from '../dice.ts'
import { applyDense, type Dense, drawDense } from '../layers/dense.ts'
import { applyDenseToStill } from '../layers/still.ts'
import { measureClassifier } from '../math/classification.ts'
import { type Batch, defineMethod, type Learner, type World } from '../method.ts'
import { buildDecoder, type DecoderPlan, planDecoder } from '../nets/decoder.ts'
import type { Net, NetPlan } from '../nets/net.ts'
import {
  codingTaps,
  type Decoding,
  measureReconstructions,
  measureTargets,
  memoryOf,
  newTargets,
} from '../nets/reconstruction.ts'
import { drawReconstructions } from '../nets/reconstruction-pictures.ts'

const weight = (start: number, description: string) =>
  Type.Number({ minimum: 0, maximum: 1_000_000, default: start, description })

const parameters = Type.Object(
  {
    supervision: Type.Union([Type.Literal('labels'), Type.Literal('none')], {
      default: 'labels',
      description:
        'Whether the net learns from the labels of those images that have one; without, a classifier reads its features and changes nothing of them.',
    }),
    where: Type.Union([Type.Literal('known'), Type.Literal('fixed')], {
      default: 'known',
      description: 'Whether the decoder is told where each maximum was, or puts all at a fixed cell.',
    }),
    reconstruction: weight(0.5, "lambda_L2rec: the weight of the image's reconstruction."),
    middle: weight(0.2, "lambda_L2M: the weight of each pool's reconstruction on the way."),
    scale: Type.Union([Type.Literal('normalised'), Type.Literal('raw')], {
      default: 'normalised',
      description:
        'An error is the mean square by the variance of what is reconstructed, or the sum of squares by twice the images.',
    }),
    targets: Type.Union([Type.Literal('moving'), Type.Literal('still')], {
      default: 'moving',
      description: 'Whether the activations that are reconstructed get gradients too.',
    }),
    depth: Type.Union(
      [Type.Literal('all'), Type.Integer({ minimum: 1, maximum: 32, description: 'So many, from the image on.' })],
      { default: 'all', description: 'How many pools are decoded.' },
    ),
  },
  { additionalProperties: false },
)

type Parameters = Static<typeof parameters>

function multiply(shape: readonly number[]): number {
  return shape.reduce((a, b) => a * b, 1)
}

interface Model {
  net: Net
  /** None where no image has a label. */
  head: Dense | undefined
  decoding: Decoding
}

const flat = (x: Tensor) => tf.reshape(x, [x.shape[0]!, -1]) as Tensor2D

type Objective = ReturnType<Learner['objective']>

function objective(own: Parameters, { net, head, decoding }: Model, batch: Batch, dice: Dice): Objective {
  const { top } = net.plan
  const { plan } = decoding.decoder
  const images = batch.views[0]!
  const taps = net.forward(images, [...new Set([...codingTaps(plan), top])], true, dice)
  const weights = plan.layers.map((_, layer) => (layer === 0 ? own.reconstruction : own.middle))
  const how = { apart: false, weights, scale: own.scale, goals: own.targets }
  const { loss, metrics } = measureReconstructions(decoding, { images, taps }, how)
  if (!head || !batch.labels) return { loss, metrics }
  const x = flat(taps[top]!)
  const logits = own.supervision === 'labels' ? applyDense(x, head) : applyDenseToStill(x, head)
  const forth = measureClassifier(logits, batch.labels)
  const all = { ...metrics, crossEntropy: forth.loss, ...forth.metrics }
  return { loss: tf.add(loss, forth.loss) as Scalar, metrics: all }
}

function encode({ net, head }: Model, images: Tensor4D, taps: readonly string[]) {
  const { top } = net.plan
  const own = taps.filter((tap) => !head || tap !== 'logits')
  const found = net.forward(images, own.length < taps.length ? [...new Set([...own, top])] : own, false)
  const logits = () => applyDense(flat(found[top]!), head!)
  return Object.fromEntries(taps.map((tap) => [tap, head && tap === 'logits' ? logits() : found[tap]!]))
}

function build(own: Parameters, { net, imageShape, classes, seed }: World): Learner {
  const { top, taps } = net.plan
  const dice = rollDice(seed).for('swwae')
  const plan = planDecoder(net.plan, imageShape, own.depth)
  const head = classes > 0 ? drawDense(multiply(taps[top]!), classes, dice.for('head')) : undefined
  const decoding: Decoding = {
    decoder: buildDecoder(plan, 'he', dice.for('decoder')),
    switches: own.where,
    targets: newTargets(plan, imageShape[2]),
  }
  const model: Model = { net, head, decoding }
  const weights = {
    ...(head ? { 'head/weights': head.weights, 'head/bias': head.bias } : {}),
    ...decoding.decoder.weights,
  }
  return {
    weights: { ...net.weights, ...weights },
    memory: { ...net.memory, ...memoryOf(decoding.targets) },
    taps: { ...taps, ...(head ? { logits: [classes] } : {}) },
    embedding: top,
    objective: (batch, stepDice) => objective(own, model, batch, stepDice),
    async survey(corpus, _, surveyDice) {
      if (decoding.targets.known[0] === 0) await measureTargets(net, decoding, corpus, surveyDice)
      return undefined
    },
    pictures: ({ test }, _, watch) => drawReconstructions(net, decoding, test, watch),
    encode: (images, wanted) => tf.tidy(() => encode(model, images, wanted)),
    dispose: () => tf.dispose([net.weights, net.memory, weights]),
  }
}

function costs(own: Parameters, net: NetPlan, classes: number) {
  const image = net.layers[0]!.input as unknown as ImageShape
  const mirror: DecoderPlan = planDecoder(net, image, own.depth)
  const inputs = multiply(net.taps[net.top]!)
  const head = classes > 0 ? (inputs + 1) * classes : 0
  return {
    weights: net.weights + head + mirror.weights,
    multiplyAdds: net.multiplyAdds + inputs * classes + mirror.multiplyAdds,
    memoryBytes: net.memoryBytes + 4 * (1 + image[2] + mirror.layers.length),
    activations: mirror.activations,
    dimension: inputs,
  }
}

/** One objective for images with a label and without: L = L_NLL + lambda_L2rec L_L2rec + lambda_L2M L_L2M. */
export const swwae = defineMethod({
  name: 'swwae',
  title: 'Stacked what-where autoencoder',
  paper: 'Zhao, Mathieu, Goroshin and LeCun, 2015',
  parameters,
  abilities: ['embedding', 'classifier'],
  check({ supervision, reconstruction, middle }, { classes }) {
    const faults = []
    if (supervision === 'labels' && classes === 0)
      faults.push({ pointer: '/supervision', detail: 'the dataset has no labels: "none" would be right' })
    if (supervision === 'none' && reconstruction === 0 && middle === 0)
      faults.push({
        pointer: '/reconstruction',
        detail: 'without labels and without reconstruction nothing is learned: a weight above 0 would be right',
      })
    return faults
  },
  views: () => [{ shift: 2, flip: 0.5 }],
  plan: (own, { net, classes }) => costs(own, net, classes),
  build,
})
