import type { Corpus, Dataset } from '../data/dataset.ts'
import type { Learner } from '../models/method.ts'
import { epochsOf } from '../models/training/stages.ts'
import { type ChosenUnits, chosenUnits } from './chosen.ts'
import type { RunContext } from './context.ts'
import { courseOf } from './course.ts'
import type { Definition } from './definition.ts'
import { trainingFingerprint } from './fingerprint.ts'
import { planExperiment } from './plan.ts'
import type { Progress } from './run.ts'

/** Where each stage starts in the share of the whole run; training takes by far the longest. */
export const starts = { preparing: 0, training: 0.01, evaluating: 0.9, exporting: 0.97, end: 1 }

/** A run at work. */
export interface Work {
  definition: Definition
  units: ChosenUnits
  corpus: Corpus
  context: RunContext
  /** Which definition its checkpoints belong to. */
  fingerprint: string
  /** The last progress told; each stage goes on from it. */
  progress: Progress
}

/** Tells where the run stands; what is not named stays as it was told last. */
export function tell(work: Work, progress: Partial<Progress>): void {
  work.progress = { ...work.progress, ...progress }
  work.context.progress(work.progress)
}

/** The learner as it is before its first step. */
export function build({ definition, units, corpus }: Pick<Work, 'definition' | 'units' | 'corpus'>): Learner {
  return buildFor(definition, units, corpus.train)
}

/** The same for images of which only so much is known. */
export function buildFor(
  { seed }: Definition,
  units: ChosenUnits,
  { imageShape, size, classes }: Pick<Dataset, 'imageShape' | 'size' | 'classes'>,
): Learner {
  const net = units.net.unit.build(units.net.parameters, imageShape, seed)
  return units.method.unit.build(units.method.parameters, { net, imageShape, size, classes, seed })
}

/** Opens what the definition names. */
export async function prepare(definition: Definition, context: RunContext): Promise<Work> {
  const units = chosenUnits(definition)
  const progress: Progress = {
    stage: 'preparing',
    epoch: 0,
    epochs: epochsOf(courseOf(definition, units)),
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
