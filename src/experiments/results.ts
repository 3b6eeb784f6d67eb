import { labelsOf } from '../data/stratified.ts'
import { rollDice } from '../models/dice.ts'
import { encodeRows } from '../models/encoding.ts'
import type { Learner } from '../models/method.ts'
import { build, starts, tell, type Work } from './work.ts'

/** Measures all that the definition asks for, in its order. */
export async function runEvaluations(work: Work, learner: Learner): Promise<void> {
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
    await context.phase(`evaluate ${unit.name}`, async () => {
      const findings = await unit.measure(subject, parameters, dice, { onProgress, stop: context.stop })
      await context.findings.report(index, unit.name, findings)
    })
    context.log.info(`evaluation '${unit.name}' is done`)
  }
}

/** Streams the clean embeddings of both splits, in the order of the dataset, a block of rows at a time. */
export async function exportEmbeddings(work: Work, learner: Learner): Promise<void> {
  const { definition, corpus, context } = work
  const { dtype } = definition.embeddings
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
    const meta = { rows: size, dimension, dtype, split, tap, dataset: dataset.name }
    const labels = dataset.classes > 0 ? { labels: await labelsOf(dataset) } : {}
    await context.embeddings.put(
      split,
      { ...meta, ids: Int32Array.from({ length: size }, (_, i) => i), ...labels },
      rows(),
    )
  }
  context.log.info(`embeddings of ${corpus.train.size} training and ${corpus.test.size} test images are stored`)
}
