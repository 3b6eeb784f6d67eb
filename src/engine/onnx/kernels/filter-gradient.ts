import type { Operation } from '../../recording/record.ts'
import type { Graph } from '../graph.ts'
import type { Lowering } from '../kernel.ts'
import type { Quad } from '../layout.ts'
import type { Window } from './convolution.ts'
import { filterGradientByColumns } from './filter-columns.ts'

/** Above so many numbers one partial gradient an image costs more than what the faster form saves. */
const partialLimit = 2 ** 23

/** Up to so many outputs an image it pays to bring images side by side in blocks. */
const smallImage = 16 * 16

/** How many images the runtime takes as the groups of a convolution in blocks: less than a block, or whole blocks. */
function groupsFor(graph: Graph, images: number): number {
  return images < graph.blockSize ? images : Math.ceil(images / graph.blockSize) * graph.blockSize
}

/**
 * x [n, h, w, c] in the order of tfjs, padded or cut so that the windows of every output lie inside, and with `more`
 * images of zeros at the end.
 */
function padded(
  graph: Graph,
  name: string,
  shape: Quad,
  [top, left]: readonly number[],
  [height, width]: readonly number[],
  more: number,
) {
  const below = height! - shape[1] - top!
  const right = width! - shape[2] - left!
  if ([top, left, below, right, more].every((side) => side === 0)) return name
  return graph.emit('Pad', [name, graph.integers([0, top!, left!, 0, more, below, right, 0])])
}

/** dy [n, c, h, w] in blocks as the filters of `groups` groups, of which those beyond n are zero. */
function asFilter(graph: Graph, name: string, [n, height, width, channels]: Quad, groups: number): string {
  const more = graph.integers([0, 0, 0, 0, groups - n, 0, 0, 0])
  return graph.reshape(groups === n ? name : graph.emit('Pad', [name, more]), [groups * channels, 1, height, width])
}

/**
 * dW[i, j, c, o] = sum over images and outputs of x under cell (i, j) times dy, as a convolution of x with dy for its
 * filter. The images lie row by row with their channels side by side, [h, w c], so that one step along the width is one
 * channel; the filter is dilated by `stride c`, and its result's width runs over (j, c): long enough for the runtime's
 * convolutions to work in their fastest form, and nothing is unfolded.
 */
export const filterGradient: Lowering = (operation, graph) => {
  if (graph.forCuda) {
    filterGradientByColumns(operation, graph)
    return
  }
  const { kernel, strides, pads } = operation.attributes as Window
  const x = operation.shapes[0] as unknown as Quad
  const dy = operation.shapes[1] as unknown as Quad
  const channels = x[3]
  const partial = dy[0] * dy[3] * kernel[0] * kernel[1] * channels
  const parts = partial <= partialLimit ? graph.partsOf(operation, 1) : undefined
  if (parts && strides[0] === 1 && strides[1] === 1) {
    inParts(operation, graph, parts)
    return
  }
  const reach = [(dy[1] - 1) * strides[0] + kernel[0], (dy[2] - 1) * strides[1] + kernel[1]] as const
  const window = {
    kernel_shape: [dy[1], dy[2]],
    strides: [1, 1],
    dilations: [strides[0], strides[1] * channels],
    pads: [0, 0, 0, 0],
  }
  const blocked = graph.blockSize > 0 && dy[3] % graph.blockSize === 0
  const each = blocked && partial <= partialLimit
  const groups = each ? groupsFor(graph, dy[0]) : dy[0]
  const inside = padded(graph, graph.plain(operation, 0), x, pads, reach, groups - dy[0])
  if (each) perImage(operation, graph, inside, window, reach, groups)
  else if (blocked && dy[0] % graph.blockSize === 0 && dy[1] * dy[2] <= smallImage)
    overBlockedBatch(operation, graph, inside, window, reach)
  else overBatch(operation, graph, inside, window, reach)
}

type Attributes = Record<string, number | number[]>

/** The same for a dy that lies in parts: for each of them a convolution whose filter is dilated by two pixels. */
function inParts(operation: Operation, graph: Graph, parts: readonly string[]): void {
  const { kernel, pads } = operation.attributes as Window
  const x = operation.shapes[0] as unknown as Quad
  const [n, height, width, outer] = operation.shapes[1] as unknown as Quad
  const [rows, columns] = [Math.floor(height / 2), Math.floor(width / 2)]
  const reach = [(rows - 1) * 2 + kernel[0], (columns - 1) * 2 + kernel[1]] as const
  const groups = groupsFor(graph, n)
  const attributes = { kernel_shape: [rows, columns], strides: [1, 1], dilations: [2, 2 * x[3]], group: groups }
  let sum = ''
  for (const [i, part] of parts.entries()) {
    const top = pads[0] - Math.floor(i / 2)
    const below = reach[0] - x[1] - top
    // Rows of zeros are the convolution's own affair, columns are not fast there.
    const own = top >= 0 && below >= 0
    const width: readonly number[] = [own ? x[1] : reach[0], reach[1]]
    const before = [own ? 0 : top, pads[1] - (i % 2)]
    const inside = padded(graph, graph.plain(operation, 0), x, before, width, groups - n)
    const images = graph.reshape(inside, [1, groups, width[0]!, width[1]! * x[3]])
    const numbers = { ...attributes, pads: own ? [top, 0, below, 0] : [0, 0, 0, 0] }
    const filter = asFilter(graph, part, [n, rows, columns, outer], groups)
    sum = graph.emit('Conv', [images, filter, ...(sum ? ['', sum] : [])], numbers, 'com.microsoft.nchwc')
  }
  sumImages(operation, graph, sum, groups)
}

/** A partial gradient for each image: dy in blocks is, as it lies there, a filter in blocks of one input channel. */
function perImage(
  operation: Operation,
  graph: Graph,
  images: string,
  window: Attributes,
  reach: readonly number[],
  groups: number,
) {
  const channels = operation.shapes[0]![3]!
  const rows = graph.reshape(images, [1, groups, reach[0]!, reach[1]! * channels])
  const dy = graph.arranged(operation, 1, 'blocks')
  const filter = asFilter(graph, dy, operation.shapes[1] as unknown as Quad, groups)
  const made = graph.emit('Conv', [rows, filter], { ...window, group: groups }, 'com.microsoft.nchwc')
  sumImages(operation, graph, made, groups)
}

/** From partial gradients in blocks, [1, images x outer, height, width x channels]. */
function sumImages(operation: Operation, graph: Graph, partial: string, images: number): void {
  const b = graph.blockSize
  const [height, width, channels, outer] = operation.outputs[0]!.shape as unknown as Quad
  const each = graph.reshape(partial, [images, outer * height * width * channels])
  const sum = graph.emit('ReduceSum', [each, graph.integers([0])], { keepdims: 0 })
  const blocks = graph.reshape(sum, [outer / b, height, width, channels, b])
  graph.result(operation, graph.reshape(graph.transpose(blocks, [1, 2, 3, 0, 4]), [height, width, channels, outer]))
}

/** The images are the input channels: the sum over them is the convolution's own. */
function overBatch(operation: Operation, graph: Graph, images: string, window: Attributes, reach: readonly number[]) {
  const [height, width, channels, outer] = operation.outputs[0]!.shape as unknown as Quad
  const dy = operation.shapes[1] as unknown as Quad
  const rows = graph.reshape(images, [1, dy[0], reach[0]!, reach[1]! * channels])
  const filter = graph.transpose(graph.arranged(operation, 1, 'planes'), [1, 0, 2, 3])
  const made = graph.emit('Conv', [rows, filter], window)
  const flat = graph.reshape(made, [outer, height * width * channels])
  graph.result(operation, graph.reshape(graph.transpose(flat, [1, 0]), [height, width, channels, outer]))
}

/** The same with the images side by side in blocks, for the runtime's fastest convolutions. */
function overBlockedBatch(
  operation: Operation,
  graph: Graph,
  images: string,
  window: Attributes,
  reach: readonly number[],
) {
  const b = graph.blockSize
  const [height, width, channels, outer] = operation.outputs[0]!.shape as unknown as Quad
  const [n, outHeight, outWidth] = operation.shapes[1] as unknown as Quad
  const [rows, columns] = [reach[0]!, reach[1]! * channels]
  const aside = graph.transpose(graph.reshape(images, [n / b, b, rows * columns]), [0, 2, 1])
  const dy = graph.reshape(graph.arranged(operation, 1, 'blocks'), [n / b, b, outer / b, outHeight * outWidth, b])
  const filter = graph.reshape(graph.transpose(dy, [2, 0, 3, 1, 4]), [outer, n, outHeight, outWidth])
  const input = graph.reshape(aside, [1, n, rows, columns])
  const made = graph.emit('Conv', [input, filter], window, 'com.microsoft.nchwc')
  const blocks = graph.reshape(made, [outer / b, height, width, channels, b])
  graph.result(operation, graph.reshape(graph.transpose(blocks, [1, 2, 3, 0, 4]), [height, width, channels, outer]))
}
