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

/** Looks whether embeddings tell images from one another: how many are like the first, and how many are all zeros. */
function watchCollapse(dimension: number) {
  let first: Float32Array | undefined
  const counts = { rows: 0, likeFirst: 0, zero: 0 }
  return {
    counts,
    look(block: Float32Array) {
      first ??= block.slice(0, dimension)
      for (let at = 0; at < block.length; at += dimension) {
        const row = block.subarray(at, at + dimension)
        counts.rows++
        if (row.every((value, c) => value === first![c])) counts.likeFirst++
        if (row.every((value) => value === 0)) counts.zero++
      }
    },
  }
}

/** From which share on it is told that embeddings are all zeros. */
const manyZero = 0.5

function tellCollapse(
  { log }: Work['context'],
  split: string,
  { rows, likeFirst, zero }: Record<string, number>,
): void {
  const cure = 'see whether the images differ; where they do, lower the learning rate or begin with another seed'
  if (rows! > 1 && likeFirst === rows)
    log.warn(`collapse: the embeddings of all ${rows} ${split} images are the same; ${cure}`)
  else if (zero! >= manyZero * rows! && zero! > 0)
    log.warn(`collapse: the embeddings of ${zero} of ${rows} ${split} images are all zeros; ${cure}`)
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
    const collapse = watchCollapse(dimension)
    async function* rows() {
      const watch = { onProgress, stop: context.stop }
      for await (const block of encodeRows(learner, dataset, [tap], watch)) {
        collapse.look(block.rows[tap]!)
        yield block.rows[tap]!
      }
    }
    const meta = { rows: size, dimension, dtype, split, tap, dataset: dataset.name }
    const labels = dataset.classes > 0 ? { labels: await labelsOf(dataset) } : {}
    await context.embeddings.put(
      split,
      { ...meta, ids: Int32Array.from({ length: size }, (_, i) => i), ...labels },
      rows(),
    )
    tellCollapse(context, split, collapse.counts)
  }
  context.log.info(`embeddings of ${corpus.train.size} training and ${corpus.test.size} test images are stored`)
}
