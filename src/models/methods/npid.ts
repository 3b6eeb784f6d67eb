import { type Static, Type } from 'typebox'
import { type Scalar, type Tensor, type Tensor1D, type Tensor2D, type Tensor4D, tf, type Variable } from '../../tf.ts'
import { type Dice, rollDice } from '../dice.ts'
import { encodeAll } from '../encoding.ts'
import { applyDense, drawDense, unitRows } from '../layers/dense.ts'
import { type MemoryBank, randomBank, readBank, updateBank } from '../math/memory-bank.ts'
import { estimateLogZ, noiseContrastiveLoss, scoreRows, softmaxLoss } from '../math/softmax.ts'
import { type Batch, defineMethod, type Learner, type World } from '../method.ts'
import type { Net } from '../nets/net.ts'
import { measureStatistics, orRestoreMemory } from '../nets/statistics.ts'

const parameters = Type.Object(
  {
    dimension: Type.Integer({
      minimum: 2,
      maximum: 4096,
      default: 128,
      description: 'Numbers of the embedding, d.',
    }),
    temperature: Type.Number({
      minimum: 0.001,
      maximum: 100,
      default: 0.07,
      description: 'tau: cosines are divided by it.',
    }),
    head: Type.Union([Type.Literal('non-parametric'), Type.Literal('parametric')], {
      default: 'non-parametric',
      description:
        'What an image is told apart by: its slot in the memory bank, or a learned row of weights (the baseline of the paper, a softmax over as many classes as there are images).',
    }),
    negatives: Type.Union(
      [Type.Literal('all'), Type.Integer({ minimum: 1, maximum: 65_536, description: 'Negatives, m.' })],
      {
        default: 'all',
        description:
          'Against what an image is told apart: all the others (exact softmax), or m images drawn with replacement from all.',
      },
    ),
    negativesFor: Type.Union([Type.Literal('auto'), Type.Literal('image'), Type.Literal('batch')], {
      default: 'auto',
      description:
        'Whether m negatives are drawn for each image or once for the whole batch; auto: for each image up to 1,024 of them.',
    }),
    loss: Type.Union([Type.Literal('nce'), Type.Literal('infonce')], {
      default: 'nce',
      description: 'With m negatives: noise-contrastive estimation, or a softmax over the own slot and the negatives.',
    }),
    zMode: Type.Union([Type.Literal('first'), Type.Literal('ema'), Type.Literal('every')], {
      default: 'first',
      description:
        'Where the normaliser Z of nce is estimated: in the first batch for good (the paper), as a moving average with momentum 0.99, or in every batch.',
    }),
    bankMomentum: Type.Number({
      minimum: 0,
      maximum: 1,
      default: 0.5,
      description: 'What a slot keeps of itself when its image is seen.',
    }),
    bankStart: Type.Union([Type.Literal('random'), Type.Literal('features')], {
      default: 'random',
      description: 'What the slots hold at first: random directions, or what the first net makes of the clean images.',
    }),
    proximal: Type.Number({
      minimum: 0,
      maximum: 1_000_000,
      default: 0,
      description: 'lambda: times the squared distance between feature and own slot, added to the loss.',
    }),
  },
  { additionalProperties: false },
)

type Parameters = Static<typeof parameters>

/** Above so many negatives one draw serves the whole batch: a draw an image would gather hundreds of megabytes. */
const ownNegativesLimit = 1024

/** What Z keeps of itself in mode ema. */
const zMomentum = 0.99

const embedding = 'embed'

function multiply(shape: readonly number[]): number {
  return shape.reduce((a, b) => a * b, 1)
}

/** Learned rows of the parametric softmax, [size, dimension]: lengths around 1. */
function drawClasses(size: number, dimension: number, dice: Dice): Variable {
  const deviation = 1 / Math.sqrt(dimension)
  const values = Float32Array.from({ length: size * dimension }, () => deviation * dice.normal())
  return tf.tidy(() => tf.variable(tf.tensor2d(values, [size, dimension])))
}

/** The scores f . r / temperature of the own slot [b] and of the negatives [b, m]. */
function sampledScores(parameters: Parameters, bank: MemoryBank, features: Tensor2D, own: Tensor2D, dice: Dice) {
  const { temperature, negativesFor } = parameters
  const m = parameters.negatives as number
  const [b, d] = features.shape
  const forImage = negativesFor === 'auto' ? m <= ownNegativesLimit : negativesFor === 'image'
  const drawn = Int32Array.from({ length: forImage ? b * m : m }, () => dice.below(bank.size))
  const rows = readBank(bank, drawn)
  const scaled = tf.div(features, temperature) as Tensor2D
  const noise = forImage
    ? scoreRows(scaled, tf.tensor3d(rows, [b, m, d]))
    : tf.matMul(scaled, tf.tensor2d(rows, [m, d]), false, true)
  return { own: tf.sum(tf.mul(scaled, own), 1) as Tensor1D, noise: noise as Tensor2D }
}

/** log Z for this batch: the stored one (0 where there is none yet), the batch's, or between them. */
function currentLogZ(mode: Parameters['zMode'], stored: Float32Array, scores: Tensor, n: number): Tensor {
  const known = stored[0] === 1
  if (mode === 'first' && known) return tf.scalar(stored[1]!)
  const now = estimateLogZ(scores, n)
  if (mode !== 'ema' || !known) return now
  const terms = [tf.add(now, Math.log(1 - zMomentum)), tf.scalar(stored[1]! + Math.log(zMomentum))]
  return tf.logSumExp(tf.stack(terms))
}

/** What the losses of one learner look at. */
interface Memory {
  bank: MemoryBank
  /** Whether Z is known, and its logarithm. */
  logZ: Float32Array
  /** The learned rows of the parametric softmax, in place of the bank. */
  classes: Variable | undefined
}

/** The loss of each image [b], and log Z where it was estimated. `own` are the images' slots, [b, d]. */
function measureLosses(
  parameters: Parameters,
  { bank, logZ, classes }: Memory,
  batch: Batch,
  features: Tensor2D,
  own: Tensor2D,
  dice: Dice,
): { each: Tensor1D; z?: Tensor } {
  const { temperature } = parameters
  if (classes) return { each: softmaxLoss(features, classes as never, batch.indices, temperature, true) }
  if (parameters.negatives === 'all') {
    const rows = tf.tensor2d(bank.rows, [bank.size, bank.dimension])
    return { each: softmaxLoss(features, rows, batch.indices, temperature) }
  }
  const scores = sampledScores(parameters, bank, features, own, dice.for('negatives'))
  const all = tf.concat([tf.expandDims(scores.own, 1) as Tensor2D, scores.noise], 1)
  if (parameters.loss === 'infonce') return { each: tf.sub(tf.logSumExp(all, 1), scores.own) as Tensor1D }
  const z = currentLogZ(parameters.zMode, logZ, all, bank.size)
  return { each: noiseContrastiveLoss(scores.own, scores.noise, z, bank.size), z }
}

type Objective = ReturnType<Learner['objective']>

function objective(parameters: Parameters, memory: Memory, features: Tensor2D, batch: Batch, dice: Dice): Objective {
  const own = tf.tensor2d(readBank(memory.bank, batch.indices), [batch.indices.length, parameters.dimension])
  const { each, z } = measureLosses(parameters, memory, batch, features, own, dice)
  const loss = tf.mean(each) as Scalar
  if (memory.classes) return { loss }
  const similarity = tf.mean(tf.sum(tf.mul(features, own), 1)) as Scalar
  const distance = tf.mean(tf.sum(tf.squaredDifference(features, own), 1))
  return {
    loss: parameters.proximal === 0 ? loss : tf.add(loss, tf.mul(distance, parameters.proximal)),
    metrics: z ? { similarity, logZ: z as Scalar } : { similarity },
    keep: z ? { features, z } : { features },
  }
}

function encode(net: Net, embed: (x: Tensor) => Tensor, images: Tensor4D, taps: readonly string[]) {
  const { top } = net.plan
  const own = taps.filter((tap) => tap !== embedding)
  const found = net.forward(images, taps.includes(embedding) ? [...new Set([...own, top])] : own, false)
  return Object.fromEntries(taps.map((tap) => [tap, tap === embedding ? embed(found[top]!) : found[tap]!]))
}

function build(parameters: Parameters, { net, size, seed }: World): Learner {
  const { dimension, head, bankMomentum, bankStart } = parameters
  const { top, taps } = net.plan
  const dice = rollDice(seed).for('npid')
  const dense = drawDense(multiply(taps[top]!), dimension, dice.for('head'))
  const bank = randomBank(size, dimension, dice.for('bank'))
  const classes = head === 'parametric' ? drawClasses(size, dimension, dice.for('classes')) : undefined
  const memory: Memory = { bank, logZ: new Float32Array(2), classes }
  const embed = (x: Tensor) => unitRows(applyDense(tf.reshape(x, [x.shape[0]!, -1]) as Tensor2D, dense))
  const own = {
    'head/weights': dense.weights,
    'head/bias': dense.bias,
    ...(classes ? { 'classes/weights': classes } : {}),
  }
  return {
    weights: { ...net.weights, ...own },
    memory: { ...net.memory, ...(classes ? {} : { bank: bank.rows, logZ: memory.logZ }) },
    taps: { ...taps, [embedding]: [dimension] },
    embedding,
    objective(batch, stepDice) {
      const features = embed(net.forward(batch.views[0]!, [top], true, stepDice)[top]!)
      return objective(parameters, memory, features, batch, stepDice)
    },
    absorb(batch, { features, z }) {
      if (features) updateBank(bank, batch.indices, features.dataSync() as Float32Array, bankMomentum)
      if (z) memory.logZ.set([1, z.dataSync()[0]!])
    },
    async survey(corpus, epoch, surveyDice, watch) {
      if (epoch > 0 || classes || bankStart === 'random') return undefined
      const features = await orRestoreMemory(net, async () => {
        await measureStatistics(net, corpus, surveyDice, watch)
        return await encodeAll(this, corpus, [embedding], watch)
      })
      bank.rows.set(features[embedding]!)
      return undefined
    },
    encode: (images, wanted) => tf.tidy(() => encode(net, embed, images, wanted)),
    dispose: () => tf.dispose([net.weights, net.memory, own]),
  }
}

/** Every image is a class of its own, told apart by a memory of its features. */
export const npid = defineMethod({
  name: 'npid',
  title: 'Non-parametric instance discrimination',
  paper: 'Wu, Xiong, Yu and Lin, CVPR 2018',
  parameters,
  abilities: ['embedding'],
  check({ head, negatives, proximal }) {
    if (head === 'non-parametric') return []
    const faults = []
    if (negatives !== 'all')
      faults.push({ pointer: '/negatives', detail: 'the parametric head has an exact softmax: "all" would be right' })
    if (proximal !== 0)
      faults.push({
        pointer: '/proximal',
        detail: 'the parametric head has no slots to stay close to: 0 would be right',
      })
    return faults
  },
  // The view measured best on Fashion-MNIST: shifts and light, no crops.
  views: () => [{ shift: 2, flip: 0.5, gamma: 1, light: 0.5, gain: 0.4 }],
  plan({ dimension, head }, { net, size }) {
    const inputs = multiply(net.taps[net.top]!)
    const parametric = head === 'parametric'
    return {
      weights: net.weights + inputs * dimension + dimension + (parametric ? size * dimension : 0),
      multiplyAdds: net.multiplyAdds + inputs * dimension,
      memoryBytes: net.memoryBytes + (parametric ? 0 : 4 * (size * dimension + 2)),
      dimension,
    }
  },
  build,
})
