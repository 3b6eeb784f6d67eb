import { Type } from 'typebox'
import type { Dataset } from '../../data/dataset.ts'
import { encodeRows, type Watch } from '../encoding.ts'
import { defineEvaluation, type Table } from '../evaluation.ts'
import type { Learner } from '../method.ts'

const tap = 'logits'

/** Hits among so many classes are counted beside those of the first, where there are more. */
const several = 5

/** The confusion of more classes than this is told by its commonest mistakes. */
const mostClasses = 100

/** What a classifier does to one split. */
interface Tally {
  /** Images with a label, and how often their class came first and among the first five. */
  images: number
  first: number
  among: number
  /** How often images of class row were taken for class column, [classes, classes]. */
  confusion: Uint32Array
}

/** How many classes score higher than class `own`; of equals those before it do. */
function rank(logits: Float32Array, own: number): number {
  const score = logits[own]!
  let above = 0
  for (let c = 0; c < logits.length; c++) if (logits[c]! > score || (logits[c] === score && c < own)) above++
  return above
}

function best(logits: Float32Array): number {
  let winner = 0
  for (let c = 1; c < logits.length; c++) if (logits[c]! > logits[winner]!) winner = c
  return winner
}

async function tallySplit(learner: Learner, dataset: Dataset, watch: Watch): Promise<Tally> {
  const { classes } = dataset
  const tally: Tally = { images: 0, first: 0, among: 0, confusion: new Uint32Array(classes * classes) }
  for await (const { first, count, rows } of encodeRows(learner, dataset, [tap], watch)) {
    const { labels } = await dataset.read(Int32Array.from({ length: count }, (_, i) => first + i))
    for (let i = 0; i < count; i++) {
      const label = labels?.[i] ?? -1
      if (label < 0) continue
      const logits = rows[tap]!.subarray(i * classes, (i + 1) * classes)
      const above = rank(logits, label)
      tally.images++
      if (above < 1) tally.first++
      if (above < several) tally.among++
      tally.confusion[label * classes + best(logits)]!++
    }
  }
  return tally
}

/** The scores of a split, named with what comes before them; none where no image has a label. */
function scoresOf({ images, first, among }: Tally, classes: number, prefix: string): Record<string, number> {
  if (images === 0) return {}
  const name = (plain: string) => (prefix ? `${prefix}${plain[0]!.toUpperCase()}${plain.slice(1)}` : plain)
  const scores = { [name('accuracy')]: first / images, [name('error')]: 1 - first / images }
  if (classes <= several) return scores
  return { ...scores, [name('top5')]: among / images, [name('top5Error')]: 1 - among / images }
}

function confusionTable({ confusion }: Tally, names: readonly string[]): Table {
  const classes = names.length
  if (classes <= mostClasses)
    return {
      name: 'confusion',
      columns: ['class', ...names.map((name) => `taken for ${name}`)],
      rows: names.map((name, row) => [name, ...confusion.subarray(row * classes, (row + 1) * classes)]),
    }
  const mistakes = Array.from(confusion, (times, place) => ({ times, place }))
    .filter(({ times, place }) => times > 0 && Math.floor(place / classes) !== place % classes)
    .sort((a, b) => b.times - a.times || a.place - b.place)
    .slice(0, mostClasses)
  return {
    name: 'commonest mistakes',
    columns: ['class', 'taken for', 'times'],
    rows: mistakes.map(({ times, place }) => [names[Math.floor(place / classes)]!, names[place % classes]!, times]),
  }
}

/** Where a classifier puts clean images, those of the test and by the same rule those it was taught with. */
export const classification = defineEvaluation({
  name: 'classification',
  title: 'Top-1 and top-5 accuracy of the classifier',
  paper: 'Russakovsky et al., 2015, section 4.1; one view an image',
  parameters: Type.Object({}, { additionalProperties: false }),
  requires: ['labels', 'classifier'],
  async measure({ learner, corpus }, _parameters, _dice, { onProgress, stop }) {
    const { classes, classNames } = corpus.test
    const share = corpus.test.size / (corpus.test.size + corpus.train.size)
    const test = await tallySplit(learner, corpus.test, { stop, onProgress: (part) => onProgress(share * part) })
    const train = await tallySplit(learner, corpus.train, {
      stop,
      onProgress: (part) => onProgress(share + (1 - share) * part),
    })
    const names = classNames ?? Array.from({ length: classes }, (_, c) => String(c))
    return {
      scores: { ...scoresOf(test, classes, ''), ...scoresOf(train, classes, 'train') },
      tables: [confusionTable(test, names)],
    }
  },
})
