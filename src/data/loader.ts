import type { Augmentation } from './augment.ts'
import type { Dataset } from './dataset.ts'
import { drawElsewhere, prepareDrawing } from './drawing.ts'
import { type Order, shuffled } from './order.ts'

/** A batch outside any backend. Its views are written over once the second one after it is asked for. */
export interface RawBatch {
  /** Each [n, h, w, c] in [0, 1], row-major. */
  views: Float32Array[]
  shape: readonly [n: number, height: number, width: number, channels: number]
  /** Which images of the dataset, [n]. */
  indices: Int32Array
  labels?: Int32Array
  /** Steps taken before this batch. */
  step: number
  epoch: number
}

export interface LoaderOptions {
  dataset: Dataset
  /** One view a batch for each; none counts as one clean view. */
  views?: readonly Augmentation[]
  /** A seeded shuffle where absent. Asked once an epoch, when its first batch is wanted. */
  order?: Order
  batchSize: number
  /** Batches in an epoch; as many as are full where absent. */
  perEpoch?: number
  seed: number
  /** 0 where absent. */
  firstStep?: number
}

/** Full batches in an epoch; the images left over wait for the next epoch's order. */
export function stepsPerEpoch(size: number, batchSize: number): number {
  return Math.floor(size / batchSize)
}

/** Batches prepared while one is at work: enough for a hiccup of either side. */
const ahead = 3

/** Reads and draws batches, each into arrays of its own until they are given back. */
function batchReader({ dataset, batchSize, seed, views }: LoaderOptions) {
  const { imageShape: shape, source } = dataset
  const augmentations = views?.length ? views : [{}]
  const size = batchSize * shape[0] * shape[1] * shape[2]
  const free: Float32Array[][] = []
  const cropped = augmentations.filter(({ crop }) => crop).length
  /** The images that the views are drawn from: as nets see them, larger, or both. */
  async function readImages(indices: Int32Array) {
    const [large, plain] = await Promise.all([
      source && cropped > 0 ? source.read(indices) : undefined,
      source && cropped === augmentations.length ? undefined : dataset.read(indices),
    ])
    const images = {
      ...(plain ? { bytes: plain.data } : {}),
      ...(large ? { source: { shape: large.shape, bytes: large.data } } : {}),
    }
    return { images, labels: (plain ?? large)!.labels }
  }
  return {
    async read(step: number, epoch: number, indices: Int32Array): Promise<RawBatch> {
      const { images, labels } = await readImages(indices)
      const into = free.pop() ?? augmentations.map(() => new Float32Array(size))
      const drawn = await drawElsewhere({ shape, views: augmentations, seed, step, indices, ...images, into })
      return { views: drawn, shape: [batchSize, ...shape], indices, step, epoch, ...(labels ? { labels } : {}) }
    },
    giveBack: (batch: RawBatch) => void free.push(batch.views),
  }
}

/**
 * Batches for ever, from `firstStep` on; the same (seed, step, index) draws the same view, so a loader opened at step
 * s goes on as one that has run there. The next batches are drawn in another thread while the current one is at work,
 * those of the next epoch only where its order is the shuffle.
 */
export async function* openLoader(options: LoaderOptions): AsyncGenerator<RawBatch, never, undefined> {
  const { dataset, batchSize, seed, firstStep = 0 } = options
  const { perEpoch = stepsPerEpoch(dataset.size, batchSize) } = options
  if (perEpoch < 1) throw new RangeError(`a batch of ${batchSize} does not fit into ${dataset.size} images`)
  prepareDrawing()
  const order = options.order ?? shuffled(dataset.size, seed)
  const reader = batchReader(options)
  let visits: ArrayLike<number> = []
  let visited = -1
  const prepare = (step: number) => {
    const epoch = Math.floor(step / perEpoch)
    if (epoch !== visited) visits = order(epoch)
    visited = epoch
    const from = (step - epoch * perEpoch) * batchSize
    const indices = Int32Array.from({ length: batchSize }, (_, i) => visits[from + i]!)
    const batch = reader.read(step, epoch, indices)
    // It is awaited later; until then a failure must not count as unhandled.
    batch.catch(() => {})
    return batch
  }
  const coming: Promise<RawBatch>[] = []
  let before: RawBatch | undefined
  for (let step = firstStep; ; step++) {
    // An order that is given may depend on what is learned until its epoch begins.
    const end = options.order ? (Math.floor(step / perEpoch) + 1) * perEpoch : Number.POSITIVE_INFINITY
    while (coming.length <= ahead && step + coming.length < end) coming.push(prepare(step + coming.length))
    const batch = await coming.shift()!
    yield batch
    // An engine may still be at work on the last one, but not on the one before.
    if (before) reader.giveBack(before)
    before = batch
  }
}
