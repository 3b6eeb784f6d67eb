import { type Tensor4D, tf } from '../../tf.ts'

/** A convolution or a pooling by its window; sizes in cells, the same along both axes. */
export interface Window {
  kernel: number
  stride: number
  padding: readonly [before: number, after: number]
}

/** Cells of a side that are left, below 1 where nothing is. */
export function cellsLeft(side: number, { kernel, stride, padding: [before, after] }: Window): number {
  return Math.floor((side + before + after - kernel) / stride) + 1
}

/** Paddings as TensorFlow.js wants them for images [n, h, w, c]. */
export function around({ padding }: Pick<Window, 'padding'>): [number, number][] {
  const sides: [number, number] = [padding[0], padding[1]]
  return [[0, 0], sides, sides, [0, 0]]
}

/**
 * Images [n, h, w, c] through a filter [kernel, kernel, c / groups, channels]: with groups the first of the channels
 * see the first of c only, and so on (Krizhevsky et al., 2012).
 */
export function convolve(x: Tensor4D, filter: Tensor4D, window: Window, groups = 1): Tensor4D {
  const one = (images: Tensor4D, own: Tensor4D) => tf.conv2d(images, own, window.stride, around(window) as never)
  if (groups === 1) return one(x, filter)
  const filters = tf.split(filter, groups, 3)
  const parts = tf.split(x, groups, 3).map((images, i) => one(images as Tensor4D, filters[i] as Tensor4D))
  return tf.concat(parts, 3)
}

/** The largest or the mean number of each window of x [n, h, w, c]; a mean is over the cells inside the images. */
export function pool(x: Tensor4D, kind: 'max' | 'average', window: Window): Tensor4D {
  const op = kind === 'max' ? tf.maxPool : tf.avgPool
  return op(x, window.kernel, window.stride, around(window) as never)
}
