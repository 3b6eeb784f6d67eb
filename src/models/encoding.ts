import { setImmediate } from 'node:timers/promises'
import type { Dataset } from '../data/dataset.ts'
import { toUnit } from '../data/pixels.ts'
import { Diverged } from '../errors.ts'
import { tf } from '../tf.ts'
import { firstLost } from './math/finite.ts'
import type { Learner } from './method.ts'

/** Images encoded at once where nothing else is asked for. */
export const encodingBatch = 256

export interface Watch {
  /** The share done, in [0, 1]. */
  onProgress?(share: number): void
  /** Makes the work throw its reason at the next batch. */
  stop?: AbortSignal
}

function refuseLostRows(rows: Record<string, Float32Array>, first: number, count: number, { split }: Dataset): void {
  for (const [tap, values] of Object.entries(rows)) {
    const lost = firstLost(values)
    if (lost < 0) continue
    const image = first + Math.floor(lost / (values.length / count))
    throw new Diverged(
      `what the net makes of ${split === 'train' ? 'training' : 'test'} image ${image} at '${tap}' is no number`,
      'look at that image; if it is well, lower the learning rate',
    )
  }
}

/**
 * The clean features of a dataset in its own order, a batch at a time: each tap's rows follow one another, row-major.
 * Throws Diverged where one of them is no number.
 */
export async function* encodeRows(
  learner: Pick<Learner, 'encode'>,
  dataset: Dataset,
  taps: readonly string[],
  watch: Watch = {},
): AsyncGenerator<{ first: number; count: number; rows: Record<string, Float32Array>; labels?: Int32Array }> {
  for (let first = 0; first < dataset.size; first += encodingBatch) {
    watch.stop?.throwIfAborted()
    const count = Math.min(encodingBatch, dataset.size - first)
    const pixels = await dataset.read(Int32Array.from({ length: count }, (_, i) => first + i))
    const images = tf.tensor4d(toUnit(pixels.data), [count, ...pixels.shape])
    const encoded = learner.encode(images, taps)
    const rows: Record<string, Float32Array> = {}
    for (const tap of taps) rows[tap] = (await encoded[tap]!.data()) as Float32Array
    tf.dispose([images, encoded])
    refuseLostRows(rows, first, count, dataset)
    yield { first, count, rows, ...(pixels.labels ? { labels: pixels.labels } : {}) }
    watch.onProgress?.((first + count) / dataset.size)
    await setImmediate()
  }
}

/** The clean features of a whole dataset: for each tap [size, numbers of the tap], row-major. */
export async function encodeAll(
  learner: Pick<Learner, 'encode' | 'taps'>,
  dataset: Dataset,
  taps: readonly string[],
  watch: Watch = {},
): Promise<Record<string, Float32Array>> {
  const width = (tap: string) => learner.taps[tap]!.reduce((a, b) => a * b, 1)
  const all: Record<string, Float32Array> = {}
  for (const tap of taps) all[tap] = new Float32Array(dataset.size * width(tap))
  for await (const { first, rows } of encodeRows(learner, dataset, taps, watch))
    for (const tap of taps) all[tap]!.set(rows[tap]!, first * width(tap))
  return all
}
