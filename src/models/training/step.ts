import type { RawBatch } from '../../data/loader.ts'
import { type Scalar, type Tensor, tf, type Variable } from '../../tf.ts'
import type { Dice } from '../dice.ts'
import type { Batch, Learner, Stage } from '../method.ts'
import type { Average } from './average.ts'
import type { LossScale } from './loss-scale.ts'
import type { Stepper } from './optimizer.ts'
import type { Behind, Numbers } from './reading.ts'

/** What takes the steps of one stage. */
export interface Crew {
  learner: Learner
  stepper: Stepper
  /** The weights that learn, by name. */
  learning: Record<string, Variable>
  /** The name of the stage, where it has one. */
  stage?: string
  average?: Average | undefined
  /** Where activations are in half precision. */
  lossScale?: LossScale | undefined
  /** The longest that a gradient may be; 0: as long as it is. */
  clipNorm?: number
}

/** Those of the weights that learn in a stage. */
export function learningIn(stage: Stage, weights: Learner['weights']): Record<string, Variable> {
  const { learns, name } = stage
  if (!learns) return weights
  const learning = Object.entries(weights).filter(([weight]) => learns.test(weight))
  if (learning.length === 0) throw new RangeError(`in stage '${name}' no weight learns: none matches ${learns}`)
  return Object.fromEntries(learning)
}

function toBatch(raw: RawBatch): Batch {
  const views = raw.views.map((view) => tf.tensor4d(view, [...raw.shape]))
  return { views, indices: raw.indices, ...(raw.labels ? { labels: raw.labels } : {}) }
}

type Gradients = Record<string, Tensor>

/** What a batch leaves: numbers not read yet, and what the objective kept. */
type Made = {
  loss: Scalar
  metrics: Record<string, Scalar>
  kept: Record<string, Tensor>
}

/** Objective and gradients of one batch. */
function differentiate(
  { learner, learning, stage, lossScale }: Crew,
  raw: RawBatch,
  dice: Dice,
): Made & { gradients: Gradients } {
  let metrics: Record<string, Scalar> = {}
  let kept: Record<string, Tensor> = {}
  let loss: Scalar | undefined
  const { value, grads } = tf.variableGrads(() => {
    const found = learner.objective(toBatch(raw), dice, stage)
    metrics = found.metrics ?? {}
    kept = found.keep ?? {}
    // The gradient's own scope ends before ours: what is needed after it has to outlive it.
    for (const tensor of [...Object.values(metrics), ...Object.values(kept)]) tf.keep(tensor)
    if (!lossScale) return found.loss
    loss = tf.keep(tf.clone(found.loss))
    return lossScale.raise(found.loss)
  }, Object.values(learning))
  const gradients: Gradients = {}
  for (const [name, weight] of Object.entries(learning)) {
    const gradient = grads[weight.name]
    if (gradient) gradients[name] = gradient
  }
  return { loss: loss ?? value, metrics, kept, gradients }
}

function scaleAll(gradients: Gradients, factor: Tensor | number): Gradients {
  return Object.fromEntries(Object.entries(gradients).map(([name, gradient]) => [name, tf.mul(gradient, factor)]))
}

function addAll(some: Gradients, others: Gradients): Gradients {
  const names = new Set([...Object.keys(some), ...Object.keys(others)])
  const sum = (name: string) => (some[name] && others[name] ? tf.add(some[name], others[name]) : undefined)
  return Object.fromEntries([...names].map((name) => [name, sum(name) ?? tf.clone((some[name] ?? others[name])!)]))
}

/** The optimiser and the average follow the gradient; its length before it was clipped, and how it was scaled. */
function follow({ stepper, average, lossScale, clipNorm = 0 }: Crew, raised: Gradients, rate: number) {
  const length = tf.sqrt(tf.addN(Object.values(raised).map((gradient) => tf.sum(tf.square(gradient)))))
  const lowered = lossScale?.lower(raised, length)
  const { gradients, norm, metrics } = lowered ?? { gradients: raised, norm: length, metrics: {} }
  const clipped = clipNorm > 0 ? scaleAll(gradients, tf.div(clipNorm, tf.maximum(norm, clipNorm))) : gradients
  stepper.apply(clipped, rate)
  average?.follow(Object.keys(gradients))
  return { gradientNorm: norm, ...metrics }
}

/** One batch of a step of so many batches, and the gradients of those before it. */
interface Turn {
  rate: number
  dice: Dice
  index: number
  of: number
  before: Gradients
}

/** What is left of a batch: numbers that are not read yet, and the sum of the gradients where others follow. */
type Recorded = { scalars: Record<string, Tensor>; sum?: Gradients }

/**
 * A batch, and what the learner absorbs of it, without a number being read: an engine that records computes all of it
 * as one graph, the last with the optimiser.
 */
function record(crew: Crew, raw: RawBatch, { rate, dice, index, of, before }: Turn): Recorded {
  const { loss, metrics, kept, gradients } = differentiate(crew, raw, dice)
  const sum = index === 0 ? gradients : addAll(before, gradients)
  const last = index === of - 1
  const followed = last ? follow(crew, of === 1 ? sum : scaleAll(sum, 1 / of), rate) : undefined
  crew.learner.absorb?.(raw, kept)
  const told = new Set<Tensor>(Object.values(metrics))
  tf.dispose(Object.values(kept).filter((tensor) => !told.has(tensor)))
  return followed ? { scalars: { loss, ...followed, ...metrics } } : { scalars: { loss, ...metrics }, sum }
}

/** Numbers of whole steps; the others are means over their batches. */
const ofSteps: ReadonlySet<string> = new Set(['gradientNorm', 'lossScale', 'overflow'])

/** What a step takes: its batches in turn, and random numbers for each. */
export interface Intake {
  batches: number
  next(): Promise<RawBatch>
  dice(index: number): Dice
}

/** Called with the mean loss before the step, the mean metrics, and the last batch. */
export type Done = (values: Numbers, raw: RawBatch) => void

/**
 * One step: the objective of each batch and its gradient, then the optimiser, absorb after each batch. Its numbers are
 * handed on by `behind`: `done` is called when all are there, or with the first loss that is no number, in place of
 * what comes after it. The weights may be none either then, and nobody may save them.
 */
export async function takeStep(
  crew: Crew,
  rate: number,
  { batches, next, dice }: Intake,
  behind: Behind,
  done: Done,
): Promise<void> {
  const values: Numbers = { loss: 0, learningRate: rate }
  let before: Gradients = {}
  try {
    for (let index = 0; index < batches; index++) {
      const raw = await next()
      // Read only after the scope, when its intermediate results need not be kept by an engine that has not computed yet.
      const { scalars, sum } = tf.tidy(() => record(crew, raw, { rate, dice: dice(index), index, of: batches, before }))
      tf.dispose(before)
      before = sum ?? {}
      await behind.ask(scalars, (numbers) => {
        for (const [name, value] of Object.entries(numbers))
          values[name] = (values[name] ?? 0) + (ofSteps.has(name) ? value : value / batches)
        if (index === batches - 1 || !Number.isFinite(numbers.loss)) done(values, raw)
      })
    }
  } finally {
    tf.dispose(before)
  }
}
