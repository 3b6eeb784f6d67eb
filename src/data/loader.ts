import { type Augmentation, drawViews } from './augment.ts'
import type { Dataset, ImageShape } from './dataset.ts'
import { rollDice } from './dice.ts'
import { type Order, shuffled } from './order.ts'

/** A batch outside any backend. Its views are written over once the next one is asked for. */
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
  seed: number
  /** 0 where absent. */
  firstStep?: number
}

/** Full batches in an epoch; the images left over wait for the next epoch's order. */
export function stepsPerEpoch(size: number, batchSize: number): number {
  return Math.floor(size / batchSize)
}

interface Buffers {
  views: Float32Array[]
}

function batchReader(options: LoaderOptions, shape: ImageShape) {
  const { dataset, batchSize } = options
  const augmentations = options.views?.length ? options.views : [{}]
  const draws = augmentations.map((view) => drawViews(shape, view))
  const image = shape[0] * shape[1] * shape[2]
  const dice = rollDice(options.seed).for('augment')
  const makeBuffers = (): Buffers => ({ views: draws.map(() => new Float32Array(batchSize * image)) })
  const buffers = [makeBuffers(), makeBuffers()]
  return async (step: number, epoch: number, indices: Int32Array): Promise<RawBatch> => {
    const pixels = await dataset.read(indices)
    const stepDice = dice.for(step)
    const { views } = buffers[step % 2]!
    for (let i = 0; i < batchSize; i++) {
      const imageDice = stepDice.for(indices[i]!)
      draws.forEach((draw, v) => {
        draw(pixels.data, i * image, views[v]!, i * image, imageDice)
      })
    }
    const labels = pixels.labels ? { labels: pixels.labels } : {}
    return { views: [...views], shape: [batchSize, ...shape], indices, step, epoch, ...labels }
  }
}

/**
 * Batches for ever, from `firstStep` on; the same (seed, step, index) draws the same view, so a loader opened at step
 * s goes on as one that has run there. The next batch of the epoch is prepared while the current one is at work.
 */
export async function* openLoader(options: LoaderOptions): AsyncGenerator<RawBatch, never, undefined> {
  const { dataset, batchSize, seed, firstStep = 0 } = options
  const perEpoch = stepsPerEpoch(dataset.size, batchSize)
  if (perEpoch < 1) throw new RangeError(`a batch of ${batchSize} does not fit into ${dataset.size} images`)
  const order = options.order ?? shuffled(dataset.size, seed)
  const read = batchReader(options, dataset.imageShape)
  for (let epoch = Math.floor(firstStep / perEpoch); ; epoch++) {
    const visits = order(epoch)
    const prepare = (step: number) => {
      const from = (step - epoch * perEpoch) * batchSize
      const batch = read(
        step,
        epoch,
        Int32Array.from({ length: batchSize }, (_, i) => visits[from + i]!),
      )
      // It is awaited later; until then a failure must not count as unhandled.
      batch.catch(() => {})
      return batch
    }
    const end = (epoch + 1) * perEpoch
    let next = prepare(Math.max(firstStep, epoch * perEpoch))
    for (let step = Math.max(firstStep, epoch * perEpoch); step < end; step++) {
      const batch = await next
      if (step + 1 < end) next = prepare(step + 1)
      yield batch
    }
  }
}
