import { type Static, Type } from 'typebox'
import type { ImageShape } from '../../data/dataset.ts'
import { InvalidDefinition } from '../../errors.ts'
import { type Tensor, type Tensor2D, type Tensor4D, tf } from '../../tf.ts'
import { type Dice, rollDice } from '../dice.ts'
import { applyDense, type Dense, drawDense } from '../layers/dense.ts'
import { measureClassifier } from '../math/classification.ts'
import { type Batch, defineMethod, type Learner, type Stage, type World } from '../method.ts'
import { buildDecoder, type DecoderPlan, planDecoder } from '../nets/decoder.ts'
import type { Net, NetPlan } from '../nets/net.ts'
import {
  codingTaps,
  type Decoding,
  type Measure,
  measureReconstructions,
  measureTargets,
  memoryOf,
  newTargets,
} from '../nets/reconstruction.ts'
import { drawReconstructions } from '../nets/reconstruction-pictures.ts'

const weight = (start: number, description: string) =>
  Type.Number({ minimum: 0, maximum: 1_000_000, default: start, description })

const epochs = (start: number) =>
  Type.Integer({ minimum: 0, maximum: 1_000_000, default: start, description: 'Passes over the training images.' })

const rate = (start: number) =>
  Type.Number({ exclusiveMinimum: 0, maximum: 1000, default: start, description: 'Factor on the learning rate.' })

const phase = (passes: number, factor: number, description: string) =>
  Type.Object(
    { epochs: epochs(passes), learningRate: rate(factor) },
    { additionalProperties: false, default: {}, description },
  )

const parameters = Type.Object(
  {
    pathway: Type.Union([Type.Literal('swwae'), Type.Literal('sae'), Type.Literal('none')], {
      default: 'swwae',
      description:
        'How the decoder unpools: where each maximum was (SWWAE), at a fixed cell (SAE); or no decoder at all, the baseline of as many steps.',
    }),
    losses: Type.Union([Type.Literal('first'), Type.Literal('all'), Type.Literal('layerwise')], {
      default: 'all',
      description:
        'What is reconstructed: by decoders one after the other the image only, or every pool on the way as well; or each by a decoder of its own, from the pool above it.',
    }),
    scale: Type.Union([Type.Literal('normalised'), Type.Literal('raw')], {
      default: 'normalised',
      description:
        'A reconstruction error is the mean square by the variance of what is reconstructed; or, as in the paper, the sum of squares by twice the images (then its weights are 1e-4 for the image and 1e-12 to 1e-10 for the pools).',
    }),
    image: weight(0.5, "The weight of the image's reconstruction beside the classification."),
    pools: Type.Union(
      [
        weight(0.2, 'The weight of each pool.'),
        Type.Array(weight(0.2, 'The weight of one pool.'), {
          minItems: 1,
          maxItems: 32,
          description: 'The weight of each pool but the last, from the image on.',
        }),
      ],
      { default: 0.2, description: "The weights of the pools' reconstructions." },
    ),
    targets: Type.Union([Type.Literal('moving'), Type.Literal('still')], {
      default: 'moving',
      description: 'Whether the activations that are reconstructed get gradients too, as in the paper.',
    }),
    depth: Type.Union(
      [Type.Literal('all'), Type.Integer({ minimum: 1, maximum: 32, description: 'So many, from the image on.' })],
      { default: 'all', description: 'How many pools are decoded.' },
    ),
    decoderStart: Type.Union([Type.Literal('he'), Type.Literal('gaussian')], {
      default: 'he',
      description: 'How the decoder is drawn: after He et al.; or narrowly, deviation 0.001, as in the paper.',
    }),
    biases: Type.Union([Type.Literal('alike'), Type.Literal('double')], {
      default: 'alike',
      description:
        'How biases learn: as all other weights, or at twice the learning rate and without weight decay (the paper).',
    }),
    classifier: phase(
      3,
      1,
      'First the net and its classifier alone; skipped where a `supervised` checkpoint is the start.',
    ),
    layerwise: phase(2, 0.3, 'Then the decoders, each from the own pool, while the net stays as it is.'),
    stacked: phase(
      1,
      0.3,
      'Then the decoders one after the other, while the net stays as it is; not with layerwise losses.',
    ),
    joint: Type.Object(
      { learningRate: rate(1) },
      { additionalProperties: false, default: {}, description: 'Then all together, for the rest of the epochs.' },
    ),
  },
  { additionalProperties: false },
)

type Parameters = Static<typeof parameters>

/** The phases of the paper, section 3; the joint one takes what is left of the epochs. */
function stages(own: Parameters, world: { epochs: number; start?: string }): Stage[] {
  const { pathway, losses } = own
  const named = (name: 'classifier' | 'layerwise' | 'stacked', learns: RegExp): Stage => ({
    name,
    ...own[name],
    learns,
  })
  const classifier = named('classifier', /^(?!decoder\/)/)
  const decoders = [
    ...(pathway === 'none' ? [] : [named('layerwise', /^decoder\//)]),
    ...(pathway === 'none' || losses === 'layerwise' ? [] : [named('stacked', /^decoder\//)]),
  ]
  const before = [classifier, ...decoders].reduce((sum, stage) => sum + stage.epochs, 0)
  const joint = { name: 'joint', epochs: Math.max(0, world.epochs - before), learningRate: own.joint.learningRate }
  return [...(world.start === 'supervised' ? [] : [classifier]), ...decoders, joint]
}

function multiply(shape: readonly number[]): number {
  return shape.reduce((a, b) => a * b, 1)
}

/** How the reconstructions of a phase are measured. */
function measureOf(own: Parameters, stage: string, count: number): Measure {
  const { image, pools, losses, scale } = own
  const others = Array.from({ length: count - 1 }, (_, i) => (typeof pools === 'number' ? pools : pools[i]!))
  const joint = [image, ...others.map((value) => (losses === 'first' ? 0 : value))]
  // Decoders that learn apart are alike; where decoders alone learn, weights count beside that of the image.
  const alone = joint.map((value, layer) => (layer === 0 ? 1 : value / (image || 1)))
  const weights = stage === 'layerwise' ? joint.map(() => 1) : stage === 'stacked' ? alone : joint
  const apart = stage === 'layerwise' || losses === 'layerwise'
  return { apart, weights, scale, goals: stage === 'joint' ? own.targets : 'still' }
}

/** The net with its head, and what decodes it. */
interface Model {
  net: Net
  head: Dense
  decoding: Decoding | undefined
}

function classify({ head }: Model, top: Tensor): Tensor2D {
  return applyDense(tf.reshape(top, [top.shape[0]!, -1]) as Tensor2D, head)
}

type Objective = ReturnType<Learner['objective']>

function objective(own: Parameters, model: Model, batch: Batch, dice: Dice, stage: string): Objective {
  const { net, decoding } = model
  const { top } = net.plan
  const images = batch.views[0]!
  if (!decoding || stage === 'classifier') {
    const found = measureClassifier(classify(model, net.forward(images, [top], true, dice)[top]!), batch.labels!)
    // The activations move, so what was measured of them does not hold any more.
    return decoding ? { ...found, keep: { moved: tf.scalar(1) } } : found
  }
  const { plan } = decoding.decoder
  const how = measureOf(own, stage, plan.layers.length)
  if (stage !== 'joint')
    return measureReconstructions(decoding, { images, taps: net.forward(images, codingTaps(plan), false) }, how)
  const taps = net.forward(images, [...new Set([...codingTaps(plan), top])], true, dice)
  const back = measureReconstructions(decoding, { images, taps }, how)
  const forth = measureClassifier(classify(model, taps[top]!), batch.labels!)
  const metrics = { ...back.metrics, crossEntropy: forth.loss, ...forth.metrics }
  return { loss: tf.add(back.loss, forth.loss), metrics }
}

function encode(model: Model, images: Tensor4D, taps: readonly string[]) {
  const { top } = model.net.plan
  const own = taps.filter((tap) => tap !== 'logits')
  const found = model.net.forward(images, taps.includes('logits') ? [...new Set([...own, top])] : own, false)
  return Object.fromEntries(taps.map((tap) => [tap, tap === 'logits' ? classify(model, found[top]!) : found[tap]!]))
}

function decodingOf(own: Parameters, { net, imageShape }: World, dice: Dice): Decoding | undefined {
  if (own.pathway === 'none') return undefined
  const plan = planDecoder(net.plan, imageShape, own.depth)
  return {
    decoder: buildDecoder(plan, own.decoderStart, dice.for('decoder')),
    switches: own.pathway === 'swwae' ? 'known' : 'fixed',
    targets: newTargets(plan, imageShape[2]),
  }
}

function build(own: Parameters, world: World): Learner {
  const { net, classes, seed } = world
  const { top, taps } = net.plan
  const dice = rollDice(seed).for('what-where')
  const head = drawDense(multiply(taps[top]!), classes, dice.for('head'))
  const decoding = decodingOf(own, world, dice)
  const model: Model = { net, head, decoding }
  const weights = { 'head/weights': head.weights, 'head/bias': head.bias, ...decoding?.decoder.weights }
  return {
    weights: { ...net.weights, ...weights },
    memory: { ...net.memory, ...(decoding ? memoryOf(decoding.targets) : {}) },
    ...(own.biases === 'double' ? { groups: [{ weights: /\/bias$/, learningRate: 2, weightDecay: 0 }] } : {}),
    taps: { ...taps, logits: [classes] },
    embedding: top,
    objective: (batch, stepDice, stage = 'joint') => objective(own, model, batch, stepDice, stage),
    absorb(_, { moved }) {
      if (moved) decoding?.targets.known.fill(0)
    },
    async survey(corpus, _, surveyDice) {
      if (decoding?.targets.known[0] === 0) await measureTargets(net, decoding, corpus, surveyDice)
      return undefined
    },
    pictures: async ({ test }, _, watch) => (decoding ? drawReconstructions(net, decoding, test, watch) : []),
    encode: (images, wanted) => tf.tidy(() => encode(model, images, wanted)),
    dispose: () => tf.dispose([net.weights, net.memory, weights]),
  }
}

/** A mirror as the parameters want it. Throws InvalidDefinition where there is none, or other pools have weights. */
function planMirror({ pathway, depth, pools }: Parameters, net: NetPlan, imageShape: ImageShape): DecoderPlan {
  if (pathway === 'none') return { layers: [], weights: 0, multiplyAdds: 0, activations: 0 }
  const plan = planDecoder(net, imageShape, depth)
  const between = plan.layers.length - 1
  if (typeof pools !== 'number' && pools.length !== between) {
    const detail = `has ${pools.length} weights; ${between} pools are reconstructed beside the image, so it should have ${between}`
    throw new InvalidDefinition([{ pointer: '/pools', detail }])
  }
  return plan
}

/** A classifier with a decoding pathway: what its pools lose is given back, or not. */
export const whatWhere = defineMethod({
  name: 'what-where',
  title: 'Classification with decoding pathways (SAE, SWWAE)',
  paper: 'Zhang, Lee and Lee, ICML 2016',
  parameters,
  abilities: ['embedding', 'classifier'],
  requires: ['labels'],
  stages,
  views: () => [{ shift: 2, flip: 0.5 }],
  plan(own, { net, classes }) {
    const mirror = planMirror(own, net, net.layers[0]!.input as unknown as ImageShape)
    const inputs = multiply(net.taps[net.top]!)
    const channels = net.layers[0]!.input[2]!
    return {
      weights: net.weights + (inputs + 1) * classes + mirror.weights,
      multiplyAdds: net.multiplyAdds + inputs * classes + mirror.multiplyAdds,
      memoryBytes: net.memoryBytes + (own.pathway === 'none' ? 0 : 4 * (1 + channels + mirror.layers.length)),
      activations: mirror.activations,
      dimension: inputs,
    }
  },
  build,
})
