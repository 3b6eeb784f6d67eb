import type { RawBatch } from '../../data/loader.ts'
import { type Scalar, type Tensor, tf, type Variable } from '../../tf.ts'
import type { Dice } from '../dice.ts'
import type { Batch, Learner, Stage } from '../method.ts'
import type { Stepper } from './optimizer.ts'

/** What takes the steps of one stage. */
export interface Crew {
  learner: Learner
  stepper: Stepper
  /** The weights that learn, by name. */
  learning: Record<string, Variable>
  /** The name of the stage, where it has one. */
  stage?: string
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
  return { views, indices: raw.indices, ...(raw.labels ? { labels: tf.tensor1d(raw.labels, 'int32') } : {}) }
}

/** What a step leaves: numbers not read yet, and what the objective kept. */
type Made = {
  loss: Scalar
  norm: Tensor
  metrics: Record<string, Scalar>
  kept: Record<string, Tensor>
}

/** Objective, gradients and optimiser, without a number being read: a lazy engine computes all of it as one graph. */
function recordStep({ learner, stepper, learning, stage }: Crew, raw: RawBatch, rate: number, dice: Dice): Made {
  let metrics: Record<string, Scalar> = {}
  let kept: Record<string, Tensor> = {}
  const { value: loss, grads } = tf.variableGrads(() => {
    const found = learner.objective(toBatch(raw), dice, stage)
    metrics = found.metrics ?? {}
    kept = found.keep ?? {}
    // The gradient's own scope ends before ours: what is needed after it has to outlive it.
    for (const tensor of [...Object.values(metrics), ...Object.values(kept)]) tf.keep(tensor)
    return found.loss
  }, Object.values(learning))
  const gradients: Record<string, Tensor> = {}
  for (const [name, weight] of Object.entries(learning)) {
    const gradient = grads[weight.name]
    if (gradient) gradients[name] = gradient
  }
  const norm = tf.sqrt(tf.addN(Object.values(gradients).map((gradient) => tf.sum(tf.square(gradient)))))
  stepper.apply(gradients, rate)
  return { loss, norm, metrics, kept }
}

/**
 * One step: objective, gradients, optimiser, absorb. Returns the loss before the step and the metrics. Where the loss
 * is not a number the weights are none either; nobody may save them.
 */
export function takeStep(crew: Crew, raw: RawBatch, rate: number, dice: Dice): Record<string, number> {
  // Read only after the scope, when its intermediate results need not be kept by an engine that has not computed yet.
  const { loss, norm, metrics, kept } = tf.tidy(() => recordStep(crew, raw, rate, dice))
  try {
    const values: Record<string, number> = { loss: loss.dataSync()[0]!, learningRate: rate }
    values.gradientNorm = norm.dataSync()[0]!
    for (const [name, metric] of Object.entries(metrics)) values[name] = metric.dataSync()[0]!
    if (Number.isFinite(values.loss)) crew.learner.absorb?.(raw, kept)
    return values
  } finally {
    tf.dispose([loss, norm, metrics, kept])
  }
}
