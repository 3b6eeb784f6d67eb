import type { Dataset } from '../data/dataset.ts'
import { Diverged } from '../errors.ts'
import type { Dice } from './dice.ts'
import { encodeRows, type Watch } from './encoding.ts'
import { type Components, principalComponents, project } from './math/pca.ts'
import type { Rows } from './math/rows.ts'
import type { Learner } from './method.ts'

/** How features are prepared for clustering. */
export interface Preparation {
  /** Principal components that are kept, at most. */
  components: number
  whiten: boolean
}

export interface Prepared {
  /** One of length 1 for each image. */
  rows: Rows
  /** -1 where an image has none; absent where none has. */
  labels?: Int32Array
}

/** The components are found from so many numbers: 1 GiB. Where there are more, from images drawn at random. */
const foundFrom = 2 ** 28

/** Features that vary by less than this part of their mean square are all the same but for rounding. */
const collapsed = 1e-10

/** What preparing the features of a dataset takes at its highest, in bytes. */
export function preparationBytes(size: number, width: number, { components }: Preparation, limit = foundFrom): number {
  const kept = Math.min(components, width)
  return 4 * (Math.min(size * width, Math.max(limit, width)) + 2 * size * kept + width * width)
}

/** The images at `places` as a dataset of their own. */
function choose(dataset: Dataset, places: Int32Array): Dataset {
  const read = (indices: ArrayLike<number>) => dataset.read(Int32Array.from(indices, (index) => places[index]!))
  return { ...dataset, size: places.length, read }
}

/** All images have the same features. */
export class Collapsed extends Diverged {}

/** The components of the features; throws Collapsed where all are the same. */
async function findComponents(rows: Rows, count: number, dice: Dice, { stop }: Watch): Promise<Components> {
  const found = await principalComponents(rows, count, dice.for('components'), { stop })
  const length = found.mean.reduce((sum, value) => sum + value * value, 0)
  if (found.variance <= collapsed * (found.variance + length))
    throw new Collapsed(
      `all ${rows.data.length / rows.width} images have the same features: the net tells none from another`,
      'look whether the images are all the same; where they are not, lower the learning rate or begin with another seed',
    )
  return found
}

async function readAll(learner: Pick<Learner, 'encode'>, dataset: Dataset, tap: string, width: number, watch: Watch) {
  const data = new Float32Array(dataset.size * width)
  const labels = new Int32Array(dataset.size).fill(-1)
  for await (const { first, rows, labels: own } of encodeRows(learner, dataset, [tap], watch)) {
    data.set(rows[tap]!, first * width)
    if (own) labels.set(own, first)
  }
  return { rows: { data, width }, labels }
}

/**
 * The clean features of a whole dataset as clustering wants them: their leading principal components, each divided by
 * its deviation where they are whitened, and each image's numbers by their length. Where all features together take
 * more than `limit` numbers, the components are found from a part of the images and the rest goes by in blocks.
 */
export async function prepareFeatures(
  learner: Pick<Learner, 'encode' | 'taps'>,
  dataset: Dataset,
  tap: string,
  { components, whiten }: Preparation,
  dice: Dice,
  watch: Watch = {},
  limit = foundFrom,
): Promise<Prepared> {
  const width = learner.taps[tap]!.reduce((a, b) => a * b, 1)
  // So many images have at most one direction fewer; what is beyond is noise, which whitening would blow up.
  const kept = Math.max(1, Math.min(components, width, dataset.size - 1))
  const options = { whiten, unitRows: true, stop: watch.stop }
  const stopping = watch.stop ? { stop: watch.stop } : {}
  const labelled = (rows: Rows, labels: Int32Array): Prepared => (dataset.classes > 0 ? { rows, labels } : { rows })
  if (dataset.size * width <= limit) {
    const { rows, labels } = await readAll(learner, dataset, tap, width, watch)
    return labelled(await project(rows, await findComponents(rows, kept, dice, watch), options), labels)
  }
  const places = dice
    .for('images')
    .permutation(dataset.size)
    .subarray(0, Math.max(2, Math.floor(limit / width)))
  const some = await readAll(learner, choose(dataset, places.sort()), tap, width, stopping)
  const found = await findComponents(some.rows, kept, dice, watch)
  const data = new Float32Array(dataset.size * kept)
  const labels = new Int32Array(dataset.size).fill(-1)
  for await (const { first, rows, labels: own } of encodeRows(learner, dataset, [tap], watch)) {
    data.set((await project({ data: rows[tap]!, width }, found, options)).data, first * kept)
    if (own) labels.set(own, first)
  }
  return labelled({ data, width: kept }, labels)
}
