import { Type } from 'typebox'
import type { Corpus, Dataset } from '../../data/dataset.ts'
import { toUnit } from '../../data/pixels.ts'
import { encodeAll, encodingBatch, type Watch } from '../encoding.ts'
import { defineEvaluation, type Findings } from '../evaluation.ts'
import { accuracy, nearest, vote } from '../math/nearest.ts'
import { meanRow, type Rows, subtractRow } from '../math/rows.ts'
import type { Learner } from '../method.ts'

const parameters = Type.Object(
  {
    k: Type.Array(Type.Integer({ minimum: 1, maximum: 100_000, description: 'Neighbours that vote.' }), {
      minItems: 1,
      maxItems: 20,
      uniqueItems: true,
      default: [1, 5, 10, 20, 200],
      description:
        'Numbers of neighbours to measure with. The accuracy is that of 200, or of the largest where 200 is not among them; none above the number of training images.',
    }),
    temperature: Type.Number({
      exclusiveMinimum: 0,
      maximum: 100,
      default: 0.1,
      description: 'tau: a neighbour votes with the weight exp(cosine / tau).',
    }),
    floors: Type.Boolean({
      default: true,
      description:
        'Whether raw pixels and the untrained net are measured as well; they take the most memory where there are many large images.',
    }),
  },
  { additionalProperties: false },
)

/** The k whose accuracy counts where it is measured: the paper's. */
const agreedK = 200

/** The largest tap of an untrained net that is tried as a floor, in numbers. */
const widestTap = 2048

/** Features of both splits of a corpus by one way of making them. */
interface Representation {
  name: string
  train: Rows
  test: Rows
}

interface Labels {
  train: Int32Array
  test: Int32Array
  classes: number
}

/** The rows whose place has a label; an image without one neither votes nor is asked. */
function labelledRows({ data, width }: Rows, labels: Int32Array): Rows {
  if (labels.every((label) => label >= 0)) return { data, width }
  const kept = new Float32Array(labels.filter((label) => label >= 0).length * width)
  let at = 0
  labels.forEach((label, row) => {
    if (label >= 0) kept.set(data.subarray(row * width, (row + 1) * width), width * at++)
  })
  return { data: kept, width }
}

/** The labels, and as rows of pixels either all images or none. */
async function readSplit(dataset: Dataset, withPixels: boolean): Promise<{ rows: Rows; labels: Int32Array }> {
  const width = withPixels ? sizeOf(dataset.imageShape) : 0
  const data = new Float32Array(dataset.size * width)
  const labels = new Int32Array(dataset.size)
  for (let first = 0; first < dataset.size; first += encodingBatch) {
    const count = Math.min(encodingBatch, dataset.size - first)
    const pixels = await dataset.read(Int32Array.from({ length: count }, (_, i) => first + i))
    if (withPixels) data.set(toUnit(pixels.data), first * width)
    labels.set(pixels.labels ?? new Int32Array(count).fill(-1), first)
  }
  return { rows: { data, width }, labels }
}

async function encodeCorpus(learner: Learner, corpus: Corpus, taps: string[], name: string, watch: Required<Watch>) {
  const half = (start: number) => ({ stop: watch.stop, onProgress: (s: number) => watch.onProgress(start + s / 2) })
  const train = await encodeAll(learner, corpus.train, taps, half(0))
  const test = await encodeAll(learner, corpus.test, taps, half(0.5))
  return taps.map((tap): Representation => {
    const width = learner.taps[tap]!.reduce((a, b) => a * b, 1)
    const rows = (data: Float32Array) => ({ data, width })
    return { name: `${name}, ${tap}`, train: rows(train[tap]!), test: rows(test[tap]!) }
  })
}

/** The image itself, what a relu still follows, and what lies inside a block: another tap stands for each of them. */
const passing = /^(input|(norm|sum).*|.+\/.+)$/

const sizeOf = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1)

/** The taps of a net that can be floors: the embedding, and all others of a layer that are not too wide. */
function floorTaps({ taps, embedding }: Pick<Learner, 'taps' | 'embedding'>): string[] {
  const narrow = (tap: string) => sizeOf(taps[tap]!) <= widestTap && !passing.test(tap)
  return Object.keys(taps).filter((tap) => tap === embedding || narrow(tap))
}

/** Without those that are another one under a second name, as the last block and its flat form. */
function different(representations: readonly Representation[]): Representation[] {
  const same = (a: Float32Array, b: Float32Array) => a.length === b.length && a.every((value, i) => value === b[i])
  return representations.filter(
    (one, i) => !representations.slice(0, i).some((other) => same(one.test.data, other.test.data)),
  )
}

/** Splits the progress of the whole into shares of unequal weight. */
function shares(watch: Required<Watch>) {
  let done = 0
  return (share: number): Required<Watch> => {
    const start = done
    done += share
    return { stop: watch.stop, onProgress: (part) => watch.onProgress(Math.min(1, start + share * part)) }
  }
}

/**
 * The accuracies for each k of weighted kNN of the test images among the training images
 * (Wu et al., 2018, section 3.4), [k]. Images without a label do not count; k is cut to those that have one.
 */
async function measureOne(
  { train, test }: Representation,
  labels: Labels,
  ks: readonly number[],
  temperature: number,
  watch: Required<Watch>,
): Promise<number[]> {
  const [queries, bank] = [labelledRows(test, labels.test), labelledRows(train, labels.train)]
  const [asked, voting] = [labels.test, labels.train].map((all) => all.filter((label) => label >= 0))
  const neighbours = await nearest(queries, bank, Math.max(...ks), watch)
  return ks.map((k) => accuracy(vote(neighbours, voting!, labels.classes, k, temperature), asked!))
}

interface Level {
  /** At the agreed k, and at the best k; of several representations the higher ones. */
  agreed: number
  best: number
  rows: readonly (readonly [string, ...number[]])[]
}

function centre({ train, test }: { train: Rows; test: Rows }): Representation {
  const mean = meanRow(train)
  return { name: 'raw pixels minus mean image', train: subtractRow(train, mean), test: subtractRow(test, mean) }
}

function report(own: Level, floors: { pixels: Level; fresh: Level } | undefined, ks: readonly number[]): Findings {
  const accuracies = own.rows[0]!.slice(1) as number[]
  const atK = Object.fromEntries(ks.map((k, i) => [`accuracy@${k}`, accuracies[i]!]))
  return {
    scores: {
      accuracy: own.agreed,
      best: own.best,
      bestK: ks[accuracies.indexOf(own.best)]!,
      ...atK,
      ...(floors && {
        rawPixels: floors.pixels.agreed,
        rawPixelsBest: floors.pixels.best,
        untrained: floors.fresh.agreed,
        untrainedBest: floors.fresh.best,
      }),
    },
    tables: [
      {
        name: 'accuracy by k',
        columns: ['representation', ...ks.map((k) => `k = ${k}`)],
        rows: [own, ...(floors ? [floors.pixels, floors.fresh] : [])].flatMap(({ rows }) => rows),
      },
    ],
  }
}

/** Weighted kNN on clean features, beside what raw pixels and the untrained net reach by the same rule. */
export const nearestNeighbours = defineEvaluation({
  name: 'nearest-neighbours',
  title: 'Weighted nearest neighbours',
  paper: 'Wu, Xiong, Yu and Lin, CVPR 2018, section 3.4',
  parameters,
  requires: ['labels'],
  check({ k }, { size }) {
    const large = k.map((each, i) => ({ each, i })).filter(({ each }) => each > size)
    return large.map(({ each, i }) => ({
      pointer: `/k/${i}`,
      detail: `is ${each}; there are ${size} training images, so it should be at most ${size}`,
    }))
  },
  memoryBytes({ floors: wanted }, { images, imageShape, taps, dimension }) {
    if (!wanted) return 4 * images * dimension
    const floors = floorTaps({ taps, embedding: '' }).reduce((sum, tap) => sum + sizeOf(taps[tap]!), 0)
    // Raw and centred pixels, what was learned, and the floors with an embedding of their own.
    return 4 * images * (2 * sizeOf(imageShape) + 2 * dimension + floors)
  },
  async measure({ learner, untrained, corpus }, { k, temperature, floors }, _dice, watch) {
    const ks = [...k].sort((a, b) => a - b)
    const counted = ks.includes(agreedK) ? ks.indexOf(agreedK) : ks.length - 1
    const next = shares(watch)
    const [train, test] = [await readSplit(corpus.train, floors), await readSplit(corpus.test, floors)]
    const labels = { train: train.labels, test: test.labels, classes: corpus.train.classes }
    const measureAll = async (representations: readonly Representation[], share: number): Promise<Level> => {
      const rows: [string, ...number[]][] = []
      for (const one of representations) {
        const part = next(share / representations.length)
        rows.push([one.name, ...(await measureOne(one, labels, ks, temperature, part))])
      }
      const accuracies = rows.map((row) => row.slice(1) as number[])
      const agreed = Math.max(...accuracies.map((row) => row[counted]!))
      return { agreed, best: Math.max(...accuracies.flat()), rows }
    }
    const trained = await encodeCorpus(learner, corpus, [learner.embedding], 'trained', next(floors ? 0.2 : 0.8))
    const own = await measureAll(trained, floors ? 0.05 : 0.2)
    if (!floors) return report(own, undefined, ks)
    const raw = { name: 'raw pixels', train: train.rows, test: test.rows }
    const pixels = await measureAll([raw, centre(raw)], 0.2)
    const fresh = untrained()
    try {
      const encoded = await encodeCorpus(fresh, corpus, floorTaps(fresh), 'untrained', next(0.2))
      return report(own, { pixels, fresh: await measureAll(different(encoded), 0.35) }, ks)
    } finally {
      fresh.dispose()
    }
  },
})
