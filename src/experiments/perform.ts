import { Damaged } from '../errors.ts'
import type { Checkpoint } from '../models/checkpoint.ts'
import { rollDice } from '../models/dice.ts'
import type { Learner } from '../models/method.ts'
import { train } from '../models/training/train.ts'
import { tf } from '../tf.ts'
import type { RunContext } from './context.ts'
import { courseOf } from './course.ts'
import type { Definition } from './definition.ts'
import { exportEmbeddings, runEvaluations } from './results.ts'
import { takeStart } from './start.ts'
import { viewsOf } from './views.ts'
import { build, prepare, starts, tell, type Work } from './work.ts'

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
  if (!start) await context.phase('take weights', () => takeStart(work, learner))
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
    views: viewsOf(definition, units),
    dataset: corpus.train,
    training: definition.training,
    stages: courseOf(definition, units),
    seed: definition.seed,
    start,
    window: {
      report: (step, values) => context.metrics.report(step, values),
      progress: ({ stage, ...at }) => {
        const done = at.steps > 0 ? at.step / at.steps : 0
        const share = starts.training + (starts.evaluating - starts.training) * done
        tell(work, { ...at, stage: 'training', ...(stage ? { detail: stage } : {}), share })
      },
      keep: ({ name, type, bytes }) => context.artifacts.put(name, type, bytes),
      save: (checkpoint, options) =>
        context.checkpoints.save({ ...checkpoint, meta: { ...checkpoint.meta, ...meta } }, options),
      stop: context.stop,
    },
  })
  return !stopped
}

/** Keeps what the learner draws of itself. An attempt that repeats it puts the same in place of the same. */
export async function keepPictures({ corpus, context, definition }: Work, learner: Learner): Promise<void> {
  if (!learner.pictures) return
  const dice = rollDice(definition.seed).for('pictures')
  await context.phase('draw pictures', async () => {
    for (const { name, type, bytes } of await learner.pictures!(corpus, dice, { stop: context.stop })) {
      const plain = name.replace(/[^A-Za-z0-9_-]+/g, '-')
      await context.artifacts.put(`pictures/${plain}.${type === 'image/png' ? 'png' : 'svg'}`, type, bytes)
    }
  })
}

async function performAll(definition: Definition, context: RunContext): Promise<'succeeded' | 'stopped'> {
  const work = await context.phase('open dataset', () => prepare(definition, context))
  context.stop.throwIfAborted()
  const learner = build(work)
  try {
    if (!(await context.phase('train', () => runTraining(work, learner)))) return 'stopped'
    await keepPictures(work, learner)
    await runEvaluations(work, learner)
    await context.phase('export embeddings', () => exportEmbeddings(work, learner))
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
