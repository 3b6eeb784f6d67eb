/** A convolution of images [n, h, w, c] by its numbers; `pads` are top, left, bottom, right. */
export interface Window {
  kernel: readonly [number, number]
  strides: readonly [number, number]
  dilations: readonly [number, number]
  pads: readonly [number, number, number, number]
}

export type Quad = readonly [number, number, number, number]
export const quad = (shape: readonly number[]) => shape as Quad
