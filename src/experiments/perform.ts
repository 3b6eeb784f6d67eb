import { createHash } from 'node:crypto'
import type { Corpus, Dataset } from '../data/dataset.ts'
import { Damaged } from '../errors.ts'
import type { Checkpoint } from '../models/checkpoint.ts'
import { rollDice } from '../models/dice.ts'
import { encodeRows } from '../models/encoding.ts'
import type { Learner } from '../models/method.ts'
import { train } from '../models/training/train.ts'
import { tf } from '../tf.ts'
import { type ChosenUnits, chosenUnits } from './chosen.ts'
import type { RunContext } from './context.ts'
import type { Definition } from './definition.ts'
import { planExperiment } from './plan.ts'
import type { Progress } from './run.ts'

/** Where each stage starts in the share of the whole run; training takes by far the longest. */
const starts = { preparing: 0, training: 0.01, evaluating: 0.9, exporting: 0.97, end: 1 }

/** A run at work. */
interface Work {
  definition: Definition
  units: ChosenUnits
  corpus: Corpus
  context: RunContext
  /** Which definition its checkpoints belong to. */
  fingerprint: string
  /** The last progress told; each stage goes on from it. */
  progress: Progress
}

/** The same for definitions that train alike: the name, the tags and the evaluations do not count. */
export function trainingFingerprint({ version, seed, dataset, net, method, training }: Definition): string {
  const sorted = (_: string, value: unknown) =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
      : value
  const parts = { version, seed, dataset, net, method, training }
  return createHash('sha256').update(JSON.stringify(parts, sorted)).digest('hex')
}

function tell(work: Work, progress: Partial<Progress>): void {
  work.progress = { ...work.progress, ...progress }
  work.context.progress(work.progress)
}

function build({ definition, units, corpus }: Pick<Work, 'definition' | 'units' | 'corpus'>): Learner {
  const { seed } = definition
  const { imageShape, size, classes } = corpus.train
  const net = units.net.unit.build(units.net.parameters, imageShape, seed)
  return units.method.unit.build(units.method.parameters, { net, imageShape, size, classes, seed })
}

/** The checkpoint to go on from, if there is one. Throws Damaged where it is not one of this definition. */
async function findStart({ context, fingerprint, progress }: Work): Promise<Checkpoint | undefined> {
  const start = await context.checkpoints.latest()
  if (!start) {
    context.log.info('starts at step 0')
    return undefined
  }
  if (start.meta.definition !== fingerprint)
    throw new Damaged(
      `the checkpoint at step ${start.step} belongs to another definition`,
      'submit the definition as a new experiment',
    )
  const [made, now] = [start.meta.engine, tf.getBackend()]
  if (made !== now)
    context.log.warn(`the checkpoint was made on engine '${made}', this is '${now}': the last digits may differ`)
  context.log.info(
    start.step < progress.steps
      ? `goes on from the checkpoint at step ${start.step} of ${progress.steps}`
      : `finds the training finished at step ${start.step}`,
  )
  return start
}

async function runTraining(work: Work, learner: Learner): Promise<boolean> {
  const { definition, units, corpus, context, fingerprint } = work
  const start = await findStart(work)
  const meta = {
    definition: fingerprint,
    engine: tf.getBackend(),
    dataset: definition.dataset.name,
    net: definition.net.name,
    method: definition.method.name,
    seed: String(definition.seed),
  }
  const { stopped } = await train({
    learner,
    views: units.method.unit.views(units.method.parameters),
    dataset: corpus.train,
    training: definition.training,
    seed: definition.seed,
    start,
    window: {
      report: (step, values) => context.metrics.report(step, values),
      progress: (at) => {
        const share = starts.training + (starts.evaluating - starts.training) * (at.step / at.steps)
        tell(work, { ...at, stage: 'training', share })
      },
      save: (checkpoint, options) =>
        context.checkpoints.save({ ...checkpoint, meta: { ...checkpoint.meta, ...meta } }, options),
      stop: context.stop,
    },
  })
  return !stopped
}

async function runEvaluations(work: Work, learner: Learner): Promise<void> {
  const { definition, units, corpus, context } = work
  const each = (starts.exporting - starts.evaluating) / Math.max(1, units.evaluations.length)
  for (const [index, { unit, parameters }] of units.evaluations.entries()) {
    context.stop.throwIfAborted()
    const onProgress = (done: number) =>
      tell(work, {
        stage: 'evaluating',
        detail: unit.name,
        secondsLeft: null,
        share: starts.evaluating + each * (index + done),
      })
    onProgress(0)
    const subject = { learner, corpus, untrained: () => build(work) }
    const dice = rollDice(definition.seed).for('evaluation', index)
    const findings = await unit.measure(subject, parameters, dice, { onProgress, stop: context.stop })
    await context.findings.report(index, unit.name, findings)
    context.log.info(`evaluation '${unit.name}' is done`)
  }
}

/** Every label of a dataset, read in blocks. */
async function readLabels(dataset: Dataset): Promise<Int32Array> {
  const labels = new Int32Array(dataset.size)
  for (let first = 0; first < dataset.size; first += 1024) {
    const count = Math.min(1024, dataset.size - first)
    const read = await dataset.read(Int32Array.from({ length: count }, (_, i) => first + i))
    labels.set(read.labels ?? [], first)
  }
  return labels
}

async function exportEmbeddings(work: Work, learner: Learner): Promise<void> {
  const { corpus, context } = work
  const tap = learner.embedding
  const dimension = learner.taps[tap]!.reduce((product, side) => product * side, 1)
  for (const [index, dataset] of [corpus.train, corpus.test].entries()) {
    const { split, size } = dataset
    const from = starts.exporting + ((starts.end - starts.exporting) / 2) * index
    const onProgress = (done: number) =>
      tell(work, {
        stage: 'exporting',
        detail: split,
        secondsLeft: null,
        share: from + ((starts.end - starts.exporting) / 2) * done,
      })
    onProgress(0)
    async function* rows() {
      const watch = { onProgress, stop: context.stop }
      for await (const block of encodeRows(learner, dataset, [tap], watch)) yield block.rows[tap]!
    }
    const meta = { rows: size, dimension, dtype: 'f32' as const, split, tap, dataset: dataset.name }
    const labels = dataset.classes > 0 ? { labels: await readLabels(dataset) } : {}
    await context.embeddings.put(
      split,
      { ...meta, ids: Int32Array.from({ length: size }, (_, i) => i), ...labels },
      rows(),
    )
  }
  context.log.info(`embeddings of ${corpus.train.size} training and ${corpus.test.size} test images are stored`)
}

async function prepare(definition: Definition, context: RunContext): Promise<Work> {
  const progress: Progress = {
    stage: 'preparing',
    epoch: 0,
    epochs: definition.training.epochs,
    step: 0,
    steps: 0,
    loss: null,
    imagesPerSecond: null,
    secondsLeft: null,
    share: 0,
  }
  context.progress(progress)
  // The dataset may have changed since the definition was accepted.
  const { steps } = await planExperiment(definition, context.bytes)
  const units = chosenUnits(definition)
  const corpus = await units.dataset.unit.open(units.dataset.parameters, context.bytes)
  context.log.info(
    `dataset '${definition.dataset.name}': ${corpus.train.size} training and ${corpus.test.size} test images`,
  )
  return {
    definition,
    units,
    corpus,
    context,
    fingerprint: trainingFingerprint(definition),
    progress: { ...progress, steps },
  }
}

async function performAll(definition: Definition, context: RunContext): Promise<'succeeded' | 'stopped'> {
  const work = await prepare(definition, context)
  context.stop.throwIfAborted()
  const learner = build(work)
  try {
    if (!(await runTraining(work, learner))) return 'stopped'
    await runEvaluations(work, learner)
    await exportEmbeddings(work, learner)
    tell(work, { share: 1, secondsLeft: 0 })
    return 'succeeded'
  } finally {
    learner.dispose()
  }
}

/**
 * Does what a definition asks: opens the dataset, trains from the newest checkpoint or from the beginning, evaluates,
 * and exports the embeddings of both splits. A run that is asked to stop leaves a checkpoint and can be performed
 * again; one whose training is finished goes on with the evaluations. All is durable when it resolves.
 */
export async function perform(definition: Definition, context: RunContext): Promise<'succeeded' | 'stopped'> {
  let outcome: 'succeeded' | 'stopped' = 'stopped'
  try {
    outcome = await performAll(definition, context)
  } catch (error) {
    // What is asked to stop throws the reason as it is; anything else is a failure, stopping or not.
    if (!context.stop.aborted || error !== context.stop.reason) {
      // The failure says more than a flush that fails after it.
      await context.flush().catch(() => {})
      throw error
    }
  }
  await context.flush()
  return outcome
}
