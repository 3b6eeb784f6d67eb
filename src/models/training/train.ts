import { setImmediate } from 'node:timers/promises'
import type { Augmentation } from '../../data/augment.ts'
import type { Dataset } from '../../data/dataset.ts'
import { openLoader, stepsPerEpoch } from '../../data/loader.ts'
import type { Checkpoint } from '../checkpoint.ts'
import { rollDice } from '../dice.ts'
import type { Learner, Stage } from '../method.ts'
import { type Average, averageOf } from './average.ts'
import { refuseDivergence, refuseLostState, refuseLostSurvey } from './divergence.ts'
import { type LossScale, lossScale } from './loss-scale.ts'
import { optimizers, type Stepper } from './optimizer.ts'
import { measureRate, rateSteps } from './rate.ts'
import { readBehind } from './reading.ts'
import { saveAside } from './saving.ts'
import { type Moment, type Schedule, schedules } from './schedule.ts'
import { epochsOf, layOut, type Part, partAt } from './stages.ts'
import { restoreState, takeState } from './state.ts'
import { type Done, learningIn, takeStep } from './step.ts'
import type { TrainingDefinition } from './training.ts'

/** Where a training stands; rates and times are measured. */
export interface TrainingProgress {
  /** The running stage, where the method has stages. */
  stage?: string
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
   * `step` counts the steps taken, from 1. Told in order: at once where the engine has the numbers at once, else while
   * the next step is taken already. All but imagesPerSecond and waitShare (of the time, in [0, 1], that the engine waited
   * for batches) are the same whenever the training is repeated.
   */
  report(step: number, values: Record<string, number>): void
  progress(progress: TrainingProgress): void
  /** Durable when it resolves. */
  save(checkpoint: Checkpoint, options: { final: boolean }): Promise<void> | void
  /** Keeps what a survey has found, in place of an earlier one of that name. Durable when it resolves. */
  keep?(artifact: { name: string; type: string; bytes: Uint8Array }): Promise<void> | void
  /** Asked at each step boundary. */
  stop: AbortSignal
  /** After each step, with the steps taken; its numbers may be told later. */
  onStep?(step: number): void
}

export interface TrainingOptions {
  learner: Learner
  /** How each of a batch's views is drawn. */
  views: readonly Augmentation[]
  dataset: Dataset
  training: TrainingDefinition
  /** One over all epochs where absent. None at all: the survey before epoch 0 is the whole training. */
  stages?: readonly Stage[]
  seed: number
  /** Where to go on; a fresh start without. */
  start: Checkpoint | undefined
  window: TrainingWindow
}

/** A training in numbers. */
interface Course {
  parts: readonly Part[]
  epochs: number
  /** Steps an epoch, and in all. */
  perEpoch: number
  steps: number
  /** Images a step. */
  images: number
}

function courseOf({ dataset, training }: TrainingOptions, stages: readonly Stage[]): Course {
  const images = training.batchSize * training.accumulate
  const perEpoch = stepsPerEpoch(dataset.size, images)
  if (perEpoch < 1) throw new RangeError(`a step of ${images} images does not fit into ${dataset.size}`)
  const epochs = epochsOf(stages)
  return { parts: layOut(stages, perEpoch), epochs, perEpoch, steps: epochs * perEpoch, images }
}

function learningRate({ optimizer, schedule }: TrainingDefinition, stage: Stage, moment: Moment): number {
  const { factor } = schedules[schedule.name] as Schedule
  return optimizer.learningRate * (stage.learningRate ?? 1) * factor(schedule, moment, optimizer)
}

/** Everything that learns together: the learner, its optimiser, and the average where there is one. */
interface Ensemble {
  learner: Learner
  stepper: Stepper
  average: Average | undefined
  lossScale: LossScale | undefined
}

/** The survey before an epoch; false where `stop` ended it. */
async function survey(options: TrainingOptions, ensemble: Ensemble | undefined, epoch: number, step: number) {
  const { learner, dataset, seed, window } = options
  const dice = rollDice(seed).for('training', 'survey', epoch)
  let found: Awaited<ReturnType<NonNullable<Learner['survey']>>>
  try {
    found = await learner.survey?.(dataset, epoch, dice, { stop: window.stop })
  } catch (error) {
    if (window.stop.aborted) return false
    throw error
  }
  if (!found) return true
  ensemble?.stepper.reset(found.reset ?? [])
  ensemble?.average?.restart(found.reset ?? [])
  if (found.metrics) window.report(step, found.metrics)
  refuseLostSurvey(epoch, found.metrics ?? {})
  for (const artifact of found.artifacts ?? []) await window.keep?.(artifact)
  return true
}

/** All begins anew with a stage but the weights; people are told which it is where there are several. */
function beginStage({ learner, stepper, average }: Ensemble, part: Part, { parts }: Course, window: TrainingWindow) {
  const names = Object.keys(learner.weights)
  stepper.reset(names)
  average?.restart(names)
  if (parts.length > 1) window.report(part.first, { stage: parts.indexOf(part) + 1 })
}

function openBatches({ learner, views, dataset, training, seed }: TrainingOptions, course: Course, step: number) {
  const { batchSize, accumulate } = training
  const dice = rollDice(seed).for('training')
  const order = learner.order && ((epoch: number) => learner.order!(epoch, dice.for('order', epoch)))
  const perEpoch = course.perEpoch * accumulate
  const firstStep = step * accumulate
  return openLoader({ dataset, views, batchSize, perEpoch, seed, firstStep, ...(order ? { order } : {}) })
}

async function runSteps(options: TrainingOptions, course: Course, ensemble: Ensemble) {
  const { learner, training, seed, start, window } = options
  const { checkpointEverySteps, accumulate: batches, clipNorm } = training
  const { parts, epochs, perEpoch, steps, images } = course
  const dice = rollDice(seed).for('training')
  const rate = measureRate(images)
  const saver = saveAside(window)
  const behind = readBehind()
  let step = start?.step ?? 0
  const save = async (final: boolean) => {
    const cursor = { epoch: String(Math.floor(step / perEpoch)), batch: String(step % perEpoch) }
    const meta = { seed: String(seed), steps: String(steps), ...cursor }
    await saver.begin({ step, tensors: await takeState(learner, ensemble), meta }, { final })
  }
  const tell = ({ stage }: Part, step: number, loss: number, imagesPerSecond: number | null) => {
    const secondsLeft = imagesPerSecond === null ? null : ((steps - step) * images) / imagesPerSecond
    const at = { epoch: step / perEpoch, epochs, step, steps, loss, imagesPerSecond, secondsLeft }
    window.progress(stage.name ? { stage: stage.name, ...at } : at)
  }
  /** What becomes of a step's numbers when they are there. */
  const hear =
    (part: Part, step: number): Done =>
    (values, raw) => {
      rate.tick()
      window.report(step, values)
      refuseDivergence(step, values, raw)
      const imagesPerSecond = rate.imagesPerSecond()
      if (step % rateSteps === 0 && imagesPerSecond !== null)
        window.report(step, { imagesPerSecond, waitShare: rate.waitShare() })
      tell(part, step, values.loss!, imagesPerSecond)
    }
  const loader = openBatches(options, course, step)
  const next = async () => (await rate.waitFor(loader.next())).value
  const takeOne = async (part: Part) => {
    const { stage } = part
    const moment = { step: step - part.first, steps: part.steps, stepsPerEpoch: perEpoch }
    const crew = { ...ensemble, clipNorm, learning: learningIn(stage, learner.weights) }
    const intake = { batches, next, dice: (index: number) => dice.for('step', step * batches + index) }
    const named = stage.name ? { ...crew, stage: stage.name } : crew
    await takeStep(named, learningRate(training, stage, moment), intake, behind, hear(part, step + 1))
  }
  try {
    while (step < steps) {
      saver.rethrow()
      const part = partAt(parts, step)
      const starts = step % perEpoch === 0
      if (starts || window.stop.aborted) await behind.settle()
      if (window.stop.aborted || (starts && !(await survey(options, ensemble, step / perEpoch, step)))) {
        await save(false)
        await saver.finish()
        return { step, stopped: true }
      }
      if (step === part.first) beginStage(ensemble, part, course, window)
      if (starts) rate.restart()
      await takeOne(part)
      step++
      window.onStep?.(step)
      const due = step === steps || step % checkpointEverySteps === 0
      // Nothing is saved of which it is not known whether it is still numbers.
      if (due) await behind.settle()
      if (step === steps) ensemble.average?.replace()
      if (due) await save(step === steps)
      await setImmediate()
      await behind.settleArrived()
    }
    await saver.finish()
    return { step, stopped: false }
  } finally {
    await behind.drop()
    await saver.settle()
    await loader.return(undefined as never)
  }
}

/** A training without steps: one survey and one checkpoint, which a resumed run finds. */
async function runFit(options: TrainingOptions) {
  const { learner, seed, start, window } = options
  if (start) {
    restoreState(start, learner)
    return { step: 0, stopped: false }
  }
  const at = { epoch: 0, epochs: 0, step: 0, steps: 0, loss: null, imagesPerSecond: null, secondsLeft: null }
  window.progress(at)
  // Half a fit is nothing to go on from: what is stopped leaves no checkpoint.
  if (window.stop.aborted || !(await survey(options, undefined, 0, 0))) return { step: 0, stopped: true }
  const meta = { seed: String(seed), steps: '0', epoch: '0', batch: '0' }
  const checkpoint = { step: 0, tensors: await takeState(learner), meta }
  refuseLostState(checkpoint)
  await window.save(checkpoint, { final: true })
  return { step: 0, stopped: false }
}

/**
 * Trains until the last epoch is over or `stop` is raised, and leaves a checkpoint in either case; a fit that is
 * stopped begins anew. Everything drawn comes from (seed, step), so a training that goes on from a checkpoint repeats
 * the uninterrupted one bit for bit. After the last step the learner, and the final checkpoint, have the average of the
 * weights in place of the weights, where one was asked for.
 * Throws Diverged where something learned is not a number any more.
 */
export async function train(options: TrainingOptions): Promise<{ step: number; stopped: boolean }> {
  const { learner, training, start } = options
  const stages = options.stages ?? [{ name: '', epochs: training.epochs }]
  if (epochsOf(stages) === 0) return runFit(options)
  const stepper = optimizers[training.optimizer.name].create(training.optimizer as never, learner)
  const average = training.averaging > 0 ? averageOf(learner.weights, training.averaging) : undefined
  const scale = training.precision === 'half' ? lossScale() : undefined
  const ensemble = { learner, stepper, average, lossScale: scale }
  try {
    if (start) restoreState(start, learner, ensemble)
    await learner.begin?.()
    return await runSteps(options, courseOf(options, stages), ensemble)
  } finally {
    stepper.dispose()
    average?.dispose()
    scale?.dispose()
  }
}
