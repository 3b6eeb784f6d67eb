import type { Value } from '../recording/record.ts'

/**
 * How the numbers of a rank-4 value lie in memory, whatever tfjs thinks of them as [n, h, w, c]:
 * - plain: [n, h, w, c], as tfjs has them;
 * - planes: [n, c, h, w], as ONNX convolutions want them;
 * - blocks: [n, c / b, h, w, b] with b channels side by side, as the runtime's fastest convolutions want them; only where
 *   b divides c. The runtime's own operators declare such tensors as [n, c, h, w].
 */
export type Layout = 'plain' | 'planes' | 'blocks'

export type Quad = readonly [n: number, height: number, width: number, channels: number]

/** Whether [n, h, w, c] may lie in blocks of `blockSize` channels. */
export function fitsBlocks(shape: readonly number[], blockSize: number): boolean {
  return blockSize > 0 && shape.length === 4 && shape[3]! > 0 && shape[3]! % blockSize === 0
}

/**
 * Refuses windows of which ONNX finds another number than tfjs says: tfjs rounds up where asked to, and its gradients do
 * not; and where the padding is one number it counts the columns with the height of the window, whatever its width.
 */
export function assertWindows(
  kernel: string,
  image: readonly number[],
  reach: readonly number[],
  strides: readonly number[],
  pads: readonly number[],
  out: readonly number[],
): void {
  const found = [0, 1].map(
    (axis) => Math.floor((image[axis]! + pads[axis]! + pads[axis + 2]! - reach[axis]!) / strides[axis]!) + 1,
  )
  if (out.every((side, axis) => side <= 0 || side === found[axis])) return
  throw new Error(
    `${kernel}: images of ${image[0]} x ${image[1]} have ${found.join(' x ')} windows of ${reach.join(' x ')}, and tfjs says ` +
      `${out.join(' x ')}: give the padding as pairs, 'same' or 'valid', and no dimRoundingMode`,
  )
}

/** Whether all three layouts are one and the same order of numbers. */
export function layoutFree(value: Value): boolean {
  return value.shape.length === 4 && (value.shape[3] === 1 || value.shape[1]! * value.shape[2]! === 1)
}
