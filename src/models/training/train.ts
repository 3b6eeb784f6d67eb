import { setImmediate } from 'node:timers/promises'
import type { Augmentation } from '../../data/augment.ts'
import type { Dataset } from '../../data/dataset.ts'
import { openLoader, stepsPerEpoch } from '../../data/loader.ts'
import type { Checkpoint } from '../checkpoint.ts'
import { type Dice, rollDice } from '../dice.ts'
import type { Learner, Stage } from '../method.ts'
import { refuseDivergence, refuseLostState, refuseLostSurvey } from './divergence.ts'
import { optimizers, type Stepper } from './optimizer.ts'
import { measureRate, rateSteps } from './rate.ts'
import { saveAside } from './saving.ts'
import { type Moment, type Schedule, schedules } from './schedule.ts'
import { epochsOf, layOut, type Part, partAt } from './stages.ts'
import { restoreState, takeState } from './state.ts'
import { learningIn, takeStep } from './step.ts'
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
   * `step` counts the steps taken, from 1. All but imagesPerSecond and waitShare (of the time, in [0, 1], that the
   * engine waited for batches) are the same whenever the training is repeated.
   */
  report(step: number, values: Record<string, number>): void
  progress(progress: TrainingProgress): void
  /** Durable when it resolves. */
  save(checkpoint: Checkpoint, options: { final: boolean }): Promise<void> | void
  /** Keeps what a survey has found, in place of an earlier one of that name. Durable when it resolves. */
  keep?(artifact: { name: string; type: string; bytes: Uint8Array }): Promise<void> | void
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
  /** One over all epochs where absent. None at all: the survey before epoch 0 is the whole training. */
  stages?: readonly Stage[]
  seed: number
  /** Where to go on; a fresh start without. */
  start: Checkpoint | undefined
  window: TrainingWindow
}

function learningRate(training: TrainingDefinition, stage: Stage, moment: Moment): number {
  const schedule = schedules[training.schedule.name] as Schedule
  return training.optimizer.learningRate * (stage.learningRate ?? 1) * schedule.factor(training.schedule, moment)
}

/** The survey before an epoch; false where `stop` ended it. */
async function survey(options: TrainingOptions, stepper: Stepper, epoch: number, step: number, dice: Dice) {
  const { learner, dataset, window } = options
  let found: Awaited<ReturnType<NonNullable<Learner['survey']>>>
  try {
    found = await learner.survey?.(dataset, epoch, dice.for('survey', epoch), { stop: window.stop })
  } catch (error) {
    if (window.stop.aborted) return false
    throw error
  }
  if (!found) return true
  stepper.reset(found.reset ?? [])
  if (found.metrics) window.report(step, found.metrics)
  refuseLostSurvey(epoch, found.metrics ?? {})
  for (const artifact of found.artifacts ?? []) await window.keep?.(artifact)
  return true
}

/** A stage begins: the optimiser forgets, and people are told which it is where there are several. */
function beginStage(part: Part, parts: readonly Part[], stepper: Stepper, { learner, window }: TrainingOptions): void {
  stepper.reset(Object.keys(learner.weights))
  if (parts.length > 1) window.report(part.first, { stage: parts.indexOf(part) + 1 })
}

async function runSteps(options: TrainingOptions, stages: readonly Stage[], stepper: Stepper) {
  const { learner, views, dataset, training, seed, start, window } = options
  const { batchSize, checkpointEverySteps } = training
  const perEpoch = stepsPerEpoch(dataset.size, batchSize)
  const parts = layOut(stages, perEpoch)
  const epochs = epochsOf(stages)
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
  const tell = ({ stage }: Part, loss: number, imagesPerSecond: number | null) => {
    const secondsLeft = imagesPerSecond === null ? null : ((steps - step) * batchSize) / imagesPerSecond
    const at = { epoch: step / perEpoch, epochs, step, steps, loss, imagesPerSecond, secondsLeft }
    window.progress(stage.name ? { stage: stage.name, ...at } : at)
  }
  const order = learner.order && ((epoch: number) => learner.order!(epoch, dice.for('order', epoch)))
  const loader = openLoader({ dataset, views, batchSize, seed, firstStep: step, ...(order ? { order } : {}) })
  try {
    while (step < steps) {
      saver.rethrow()
      const part = partAt(parts, step)
      const starts = step % perEpoch === 0
      if (window.stop.aborted || (starts && !(await survey(options, stepper, step / perEpoch, step, dice)))) {
        await save(false)
        await saver.finish()
        return { step, stopped: true }
      }
      if (step === part.first) beginStage(part, parts, stepper, options)
      if (starts) rate.restart()
      const raw = (await rate.waitFor(loader.next())).value
      const moment = { step: step - part.first, steps: part.steps, stepsPerEpoch: perEpoch }
      const { name } = part.stage
      const learning = learningIn(part.stage, learner.weights)
      const crew = { learner, stepper, learning, ...(name ? { stage: name } : {}) }
      const values = takeStep(crew, raw, learningRate(training, part.stage, moment), dice.for('step', step))
      step++
      rate.tick()
      window.report(step, values)
      refuseDivergence(step, values, raw)
      const imagesPerSecond = rate.imagesPerSecond()
      if (step % rateSteps === 0 && imagesPerSecond !== null)
        window.report(step, { imagesPerSecond, waitShare: rate.waitShare() })
      tell(part, values.loss!, imagesPerSecond)
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

/** A training without steps: one survey and one checkpoint, which a resumed run finds. */
async function runFit(options: TrainingOptions, stepper: Stepper) {
  const { learner, seed, start, window } = options
  if (start) return { step: 0, stopped: false }
  const at = { epoch: 0, epochs: 0, step: 0, steps: 0, loss: null, imagesPerSecond: null, secondsLeft: null }
  window.progress(at)
  const dice = rollDice(seed).for('training')
  // Half a fit is nothing to go on from: what is stopped leaves no checkpoint.
  if (window.stop.aborted || !(await survey(options, stepper, 0, 0, dice))) return { step: 0, stopped: true }
  const meta = { seed: String(seed), steps: '0', epoch: '0', batch: '0' }
  const checkpoint = { step: 0, tensors: await takeState(learner, stepper), meta }
  refuseLostState(checkpoint)
  await window.save(checkpoint, { final: true })
  return { step: 0, stopped: false }
}

/**
 * Trains until the last epoch is over or `stop` is raised, and leaves a checkpoint in either case; a fit that is
 * stopped begins anew. Everything drawn comes from (seed, step), so a training that goes on from a checkpoint repeats
 * the uninterrupted one bit for bit. Throws Diverged where something learned is not a number any more.
 */
export async function train(options: TrainingOptions): Promise<{ step: number; stopped: boolean }> {
  const { learner, training, start } = options
  const stages = options.stages ?? [{ name: '', epochs: training.epochs }]
  const stepper = optimizers[training.optimizer.name].create(training.optimizer, learner)
  try {
    if (start) restoreState(start, learner, stepper)
    return await (epochsOf(stages) === 0 ? runFit(options, stepper) : runSteps(options, stages, stepper))
  } finally {
    stepper.dispose()
  }
}
