import { Damaged } from '../errors.ts'
import { checkIndex, type Dataset, type ImageShape } from './dataset.ts'
import type { ReadRows } from './row-file.ts'

/** One split whose images are rows of bytes. */
export interface ArraySplit {
  name: string
  split: 'train' | 'test'
  size: number
  imageShape: ImageShape
  classes: number
  classNames?: readonly string[]
  /** Images [h, w, c], each a row. */
  images: ReadRows
  /** One an image, -1 for none; absent where no image has any. */
  labels?: Int32Array
}

/** A dataset from rows and labels in memory. */
export function arraySplit({ images, labels, size, ...known }: ArraySplit): Dataset {
  const dataset: Dataset = {
    ...known,
    size,
    async read(indices) {
      for (let i = 0; i < indices.length; i++) checkIndex(dataset, indices[i]!)
      const data = await images(indices)
      const chosen = labels && Int32Array.from(indices, (index) => labels[index]!)
      return { data, shape: known.imageShape, ...(chosen ? { labels: chosen } : {}) }
    },
    labels: async () => labels?.slice(0, size) ?? new Int32Array(size).fill(-1),
  }
  return dataset
}

/** Throws Damaged where a label is outside [least, most], naming the first. */
export function checkLabels(path: string, labels: ArrayLike<number>, least: number, most: number): void {
  for (let i = 0; i < labels.length; i++)
    if (labels[i]! < least || labels[i]! > most)
      throw new Damaged(
        `${path} gives image ${i} the label ${labels[i]}; labels from ${least} to ${most} are right`,
        'put the published file there, or correct the labels',
      )
}

/** Pixels of an image as planes, one a channel, are put side by side; `across`: planes are stored column by column. */
export function interleave(from: Uint8Array, [height, width, channels]: ImageShape, across: boolean): Uint8Array {
  const plane = height * width
  const image = plane * channels
  const to = new Uint8Array(from.length)
  const [stepY, stepX] = across ? [1, height] : [width, 1]
  for (let start = 0; start < from.length; start += image)
    for (let c = 0; c < channels; c++)
      for (let y = 0, at = start + c; y < height; y++) {
        let source = start + c * plane + y * stepY
        for (let x = 0; x < width; x++, at += channels, source += stepX) to[at] = from[source]!
      }
  return to
}
