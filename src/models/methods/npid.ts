import { type Static, Type } from 'typebox'
import {
  largestOfAll,
  type Scalar,
  type Tensor,
  type Tensor1D,
  type Tensor2D,
  type Tensor4D,
  tf,
  type Variable,
} from '../../tf.ts'
import { type Dice, rollDice } from '../dice.ts'
import { encodeAll } from '../encoding.ts'
import { applyDense, drawDense, unitRows } from '../layers/dense.ts'
import {
  admitRows,
  drawRows,
  fillBank,
  type MemoryBank,
  newBank,
  readBank,
  rowsOf,
  tooManyRows,
  updateBank,
} from '../math/memory-bank.ts'
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
  const noise = forImage ? scoreRows(scaled, tf.reshape(rows, [b, m, d])) : tf.matMul(scaled, rows, false, true)
  return { own: tf.sum(tf.mul(scaled, own), 1) as Tensor1D, noise: noise as Tensor2D }
}

/** Z as it is remembered. */
interface Normaliser {
  /** [2]: 1 where it is known, and its logarithm. */
  stored: Variable
  /** The same where it need not be read: whether it is known. */
  known: boolean
}

/** log Z for this batch: the stored one, the batch's, or between them; and whether it is to be stored. */
function currentLogZ(mode: Parameters['zMode'], { stored, known }: Normaliser, scores: Tensor, n: number) {
  const before = tf.reshape(tf.slice(stored, 1, 1), []) as Scalar
  if (mode === 'first' && known) return { z: before, fresh: false }
  const now = estimateLogZ(scores, n) as Scalar
  if (mode !== 'ema' || !known) return { z: now, fresh: true }
  const terms = [tf.add(now, Math.log(1 - zMomentum)), tf.add(before, Math.log(zMomentum))]
  return { z: tf.logSumExp(tf.stack(terms)) as Scalar, fresh: true }
}

/** What the losses of one learner look at beside weights. */
interface Memory {
  bank: MemoryBank
  logZ: Normaliser
}

/** The loss of each image [b], and log Z where it is needed. `own` are the images' slots, [b, d]. */
function measureLosses(
  parameters: Parameters,
  { bank, logZ }: Memory,
  batch: Batch,
  features: Tensor2D,
  own: Tensor2D,
  dice: Dice,
): { each: Tensor1D; z?: Scalar; fresh?: boolean } {
  const { temperature } = parameters
  if (parameters.negatives === 'all') return { each: softmaxLoss(features, rowsOf(bank), batch.indices, temperature) }
  const scores = sampledScores(parameters, bank, features, own, dice.for('negatives'))
  const all = tf.concat([tf.expandDims(scores.own, 1) as Tensor2D, scores.noise], 1)
  if (parameters.loss === 'infonce') return { each: tf.sub(tf.logSumExp(all, 1), scores.own) as Tensor1D }
  const found = currentLogZ(parameters.zMode, logZ, all, bank.size)
  return { each: noiseContrastiveLoss(scores.own, scores.noise, found.z, bank.size), ...found }
}

type Objective = ReturnType<Learner['objective']>

/** The softmax over learned rows, the baseline. */
function parametric({ temperature }: Parameters, classes: Variable, features: Tensor2D, { indices }: Batch): Objective {
  return { loss: tf.mean(softmaxLoss(features, classes as never, indices, temperature, true)) as Scalar }
}

function objective(parameters: Parameters, memory: Memory, features: Tensor2D, batch: Batch, dice: Dice): Objective {
  const own = readBank(memory.bank, batch.indices)
  const { each, z, fresh } = measureLosses(parameters, memory, batch, features, own, dice)
  const loss = tf.mean(each) as Scalar
  const similarity = tf.mean(tf.sum(tf.mul(features, own), 1)) as Scalar
  const distance = tf.mean(tf.sum(tf.squaredDifference(features, own), 1))
  return {
    loss: parameters.proximal === 0 ? loss : tf.add(loss, tf.mul(distance, parameters.proximal)),
    metrics: z ? { similarity, logZ: z } : { similarity },
    keep: z && fresh ? { features, z } : { features },
  }
}

/** What is remembered with the features of a batch. */
function absorb(
  { bankMomentum }: Parameters,
  { bank, logZ }: Memory,
  indices: Int32Array,
  kept: Record<string, Tensor>,
) {
  const { features, z } = kept
  updateBank(bank, indices, features as Tensor2D, bankMomentum)
  if (!z) return
  tf.tidy(() => logZ.stored.assign(tf.stack([tf.scalar(1), z])))
  logZ.known = true
}

/** A memory that holds random directions and no Z. */
function newMemory(size: number, dimension: number, dice: Dice): Memory {
  return {
    bank: newBank(drawRows(size, dimension, dice), dimension),
    logZ: { stored: tf.tidy(() => tf.variable(tf.zeros([2]), false)), known: false },
  }
}

function encode(net: Net, embed: (x: Tensor) => Tensor, images: Tensor4D, taps: readonly string[]) {
  const { top } = net.plan
  const own = taps.filter((tap) => tap !== embedding)
  const found = net.forward(images, taps.includes(embedding) ? [...new Set([...own, top])] : own, false)
  return Object.fromEntries(taps.map((tap) => [tap, tap === embedding ? embed(found[top]!) : found[tap]!]))
}

function build(parameters: Parameters, { net, size, seed }: World): Learner {
  const { dimension, head, bankStart } = parameters
  const { top, taps } = net.plan
  admitRows(head === 'parametric' ? 'the rows of weights for each image' : 'the memory bank', size, dimension)
  const dice = rollDice(seed).for('npid')
  const dense = drawDense(multiply(taps[top]!), dimension, dice.for('head'))
  const classes = head === 'parametric' ? drawClasses(size, dimension, dice.for('classes')) : undefined
  const memory = classes ? undefined : newMemory(size, dimension, dice.for('bank'))
  const embed = (x: Tensor) => unitRows(applyDense(tf.reshape(x, [x.shape[0]!, -1]) as Tensor2D, dense))
  const own = {
    'head/weights': dense.weights,
    'head/bias': dense.bias,
    ...(classes ? { 'classes/weights': classes } : {}),
  }
  const remembered: Learner['memory'] = memory ? { bank: memory.bank.values, logZ: memory.logZ.stored } : {}
  return {
    weights: { ...net.weights, ...own },
    memory: { ...net.memory, ...remembered },
    taps: { ...taps, [embedding]: [dimension] },
    embedding,
    async begin() {
      if (memory) memory.logZ.known = (await memory.logZ.stored.data())[0] === 1
    },
    objective(batch, stepDice) {
      const features = embed(net.forward(batch.views[0]!, [top], true, stepDice)[top]!)
      return memory
        ? objective(parameters, memory, features, batch, stepDice)
        : parametric(parameters, classes!, features, batch)
    },
    absorb(batch, kept) {
      if (memory) absorb(parameters, memory, batch.indices, kept)
    },
    async survey(corpus, epoch, surveyDice, watch) {
      if (epoch > 0 || !memory || bankStart === 'random') return undefined
      const features = await orRestoreMemory(net, async () => {
        await measureStatistics(net, corpus, surveyDice, watch)
        return await encodeAll(this, corpus, [embedding], watch)
      })
      fillBank(memory.bank, features[embedding]!)
      return undefined
    },
    encode: (images, wanted) => tf.tidy(() => encode(net, embed, images, wanted)),
    dispose: () => tf.dispose([net.weights, net.memory, own, remembered]),
  }
}

/** Every image is a class of its own, told apart by a memory of its features. */
export const npid = defineMethod({
  name: 'npid',
  title: 'Non-parametric instance discrimination',
  paper: 'Wu, Xiong, Yu and Lin, CVPR 2018',
  parameters,
  abilities: ['embedding'],
  check({ head, negatives, proximal, dimension }, { size }) {
    const tooMany = tooManyRows(size, dimension, largestOfAll)
    const faults = tooMany ? [{ pointer: '/dimension', detail: `${tooMany.why}; ${tooMany.cure}` }] : []
    if (head === 'non-parametric') return faults
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
