import { setImmediate } from 'node:timers/promises'
import type { Augmentation } from '../../data/augment.ts'
import type { Dataset } from '../../data/dataset.ts'
import { openLoader, type RawBatch, stepsPerEpoch } from '../../data/loader.ts'
import { Diverged } from '../../errors.ts'
import { type Scalar, type Tensor, tf } from '../../tf.ts'
import type { Checkpoint } from '../checkpoint.ts'
import { type Dice, rollDice } from '../dice.ts'
import type { Batch, Learner } from '../method.ts'
import { optimizers, type Stepper } from './optimizer.ts'
import { type Moment, type Schedule, schedules } from './schedule.ts'
import { restoreState, takeState } from './state.ts'
import type { TrainingDefinition } from './training.ts'

/** Where a training stands; rates and times are measured. */
export interface TrainingProgress {
  /** Epochs finished plus the share of the running one, and epochs in all. */
  epoch: number
  epochs: number
  step: number
  steps: number
  loss: number | null
  imagesPerSecond: number | null
  secondsLeft: number | null
}

/** All that a training sees of the world around it. */
export interface TrainingWindow {
  /**
   * `step` counts the steps taken, from 1. All but imagesPerSecond and waitShare (of the time, in [0, 1], that the
   * engine waited for batches) are the same whenever the training is repeated.
   */
  report(step: number, values: Record<string, number>): void
  progress(progress: TrainingProgress): void
  /** Durable when it resolves. */
  save(checkpoint: Checkpoint, options: { final: boolean }): Promise<void> | void
  /** Asked at each step boundary. */
  stop: AbortSignal
  /** After each step, with the steps taken. */
  onStep?(step: number): void
}

export interface TrainingOptions {
  learner: Learner
  /** How each of a batch's views is drawn. */
  views: readonly Augmentation[]
  dataset: Dataset
  training: TrainingDefinition
  seed: number
  /** Where to go on; a fresh start without. */
  start: Checkpoint | undefined
  window: TrainingWindow
}

/** Steps over which the rate shown to people is averaged, and between two reports of it as a metric. */
const rateSteps = 20

/** Images a second, and the share of the time waited for batches, over the last steps. */
function measureRate(batchSize: number) {
  const times = [performance.now()]
  const waits: number[] = []
  return {
    /** The clock starts anew: what went by was no training. */
    restart() {
      times.splice(0, times.length, performance.now())
      waits.length = 0
    },
    async waitFor<Result>(work: Promise<Result>): Promise<Result> {
      const began = performance.now()
      const result = await work
      waits.push(performance.now() - began)
      return result
    },
    tick() {
      times.push(performance.now())
      if (times.length > rateSteps + 1) times.shift()
      if (waits.length > rateSteps) waits.shift()
    },
    waitShare(): number {
      const all = times.at(-1)! - times[0]!
      return all > 0 ? Math.min(1, waits.reduce((sum, wait) => sum + wait, 0) / all) : 0
    },
    imagesPerSecond(): number | null {
      const seconds = (times.at(-1)! - times[0]!) / 1000
      return seconds > 0 ? ((times.length - 1) * batchSize) / seconds : null
    },
  }
}

function learningRate(training: TrainingDefinition, moment: Moment): number {
  const schedule = schedules[training.schedule.name] as Schedule
  return training.optimizer.learningRate * schedule.factor(training.schedule, moment)
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
function recordStep(learner: Learner, stepper: Stepper, raw: RawBatch, rate: number, dice: Dice): Made {
  let metrics: Record<string, Scalar> = {}
  let kept: Record<string, Tensor> = {}
  const { value: loss, grads } = tf.variableGrads(() => {
    const found = learner.objective(toBatch(raw), dice)
    metrics = found.metrics ?? {}
    kept = found.keep ?? {}
    // The gradient's own scope ends before ours: what is needed after it has to outlive it.
    for (const tensor of [...Object.values(metrics), ...Object.values(kept)]) tf.keep(tensor)
    return found.loss
  }, Object.values(learner.weights))
  const gradients: Record<string, Tensor> = {}
  for (const [name, weight] of Object.entries(learner.weights)) {
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
function takeStep(learner: Learner, stepper: Stepper, raw: RawBatch, rate: number, dice: Dice) {
  // Read only after the scope, when its intermediate results need not be kept by an engine that has not computed yet.
  const { loss, norm, metrics, kept } = tf.tidy(() => recordStep(learner, stepper, raw, rate, dice))
  try {
    const values: Record<string, number> = { loss: loss.dataSync()[0]!, learningRate: rate }
    values.gradientNorm = norm.dataSync()[0]!
    for (const [name, metric] of Object.entries(metrics)) values[name] = metric.dataSync()[0]!
    if (Number.isFinite(values.loss)) learner.absorb?.(raw, kept)
    return values
  } finally {
    tf.dispose([loss, norm, metrics, kept])
  }
}

function progressOf(options: TrainingOptions, step: number, perEpoch: number, loss: number, rate: number | null) {
  const { epochs, batchSize } = options.training
  const steps = epochs * perEpoch
  const secondsLeft = rate === null ? null : ((steps - step) * batchSize) / rate
  return { epoch: step / perEpoch, epochs, step, steps, loss, imagesPerSecond: rate, secondsLeft }
}

/** The survey before an epoch; false where `stop` ended it. */
async function survey({ learner, dataset, window }: TrainingOptions, stepper: Stepper, epoch: number, dice: Dice) {
  try {
    const found = await learner.survey?.(dataset, epoch, dice.for('survey', epoch), { stop: window.stop })
    stepper.reset(found?.reset ?? [])
    return true
  } catch (error) {
    if (window.stop.aborted) return false
    throw error
  }
}

function refuseDivergence(step: number, loss: number): void {
  if (Number.isFinite(loss)) return
  throw new Diverged(
    `the loss of step ${step} is ${loss}`,
    'lower the learning rate, add warm-up steps, or raise the temperature',
  )
}

/** Saves while the training goes on, one checkpoint at a time; a failure is thrown at the next step. */
function saveAside(window: TrainingWindow) {
  let saving: Promise<void> = Promise.resolve()
  let failure: { error: unknown } | undefined
  const rethrow = () => {
    if (failure) throw failure.error
  }
  return {
    rethrow,
    /** Resolves when the one before is saved and this one is on its way. */
    async begin(checkpoint: Checkpoint, options: { final: boolean }): Promise<void> {
      await saving
      rethrow()
      saving = (async () => window.save(checkpoint, options))().catch((error: unknown) => {
        failure = { error }
      })
    },
    /** Resolves when all is saved. */
    async finish(): Promise<void> {
      await saving
      rethrow()
    },
    /** The same where something else has failed already. */
    settle: (): Promise<void> => saving,
  }
}

async function runSteps(options: TrainingOptions, stepper: Stepper): Promise<{ step: number; stopped: boolean }> {
  const { learner, views, dataset, training, seed, start, window } = options
  const { batchSize, epochs, checkpointEverySteps } = training
  const perEpoch = stepsPerEpoch(dataset.size, batchSize)
  const steps = epochs * perEpoch
  const dice = rollDice(seed).for('training')
  const rate = measureRate(batchSize)
  let step = start?.step ?? 0
  const saver = saveAside(window)
  const save = async (final: boolean) => {
    const cursor = { epoch: Math.floor(step / perEpoch), batch: step % perEpoch }
    const meta = { seed: String(seed), steps: String(steps), epoch: String(cursor.epoch), batch: String(cursor.batch) }
    await saver.begin({ step, tensors: await takeState(learner, stepper), meta }, { final })
  }
  const order = learner.order && ((epoch: number) => learner.order!(epoch, dice.for('order', epoch)))
  const loader = openLoader({ dataset, views, batchSize, seed, firstStep: step, ...(order ? { order } : {}) })
  try {
    while (step < steps) {
      saver.rethrow()
      const starts = step % perEpoch === 0
      if (window.stop.aborted || (starts && !(await survey(options, stepper, step / perEpoch, dice)))) {
        await save(false)
        await saver.finish()
        return { step, stopped: true }
      }
      if (starts) rate.restart()
      const raw = (await rate.waitFor(loader.next())).value
      const moment = { step, steps, stepsPerEpoch: perEpoch }
      const values = takeStep(learner, stepper, raw, learningRate(training, moment), dice.for('step', step))
      step++
      rate.tick()
      window.report(step, values)
      refuseDivergence(step, values.loss!)
      const imagesPerSecond = rate.imagesPerSecond()
      if (step % rateSteps === 0 && imagesPerSecond !== null)
        window.report(step, { imagesPerSecond, waitShare: rate.waitShare() })
      window.progress(progressOf(options, step, perEpoch, values.loss!, imagesPerSecond))
      window.onStep?.(step)
      if (step === steps || step % checkpointEverySteps === 0) await save(step === steps)
      await setImmediate()
    }
    await saver.finish()
    return { step, stopped: false }
  } finally {
    await saver.settle()
    await loader.return(undefined as never)
  }
}

/**
 * Trains until the last epoch is over or `stop` is raised, and leaves a checkpoint in either case. Everything drawn
 * comes from (seed, step), so a training that goes on from a checkpoint repeats the uninterrupted one bit for bit.
 * Throws Diverged where the loss is not a number any more.
 */
export async function train(options: TrainingOptions): Promise<{ step: number; stopped: boolean }> {
  const { learner, training, start } = options
  const stepper = optimizers[training.optimizer.name].create(training.optimizer, learner)
  try {
    if (start) restoreState(start, learner, stepper)
    return await runSteps(options, stepper)
  } finally {
    stepper.dispose()
  }
}
