import type { Operation } from '../../recording/record.ts'
import type { Graph } from '../graph.ts'
import type { Quad } from '../layout.ts'
import type { Window } from './convolution.ts'

/** Up to so many numbers are unfolded at once: 512 MiB. */
const columnLimit = 2 ** 27

/** Products of so many numbers or more keep a GPU busy by themselves; smaller ones are made for each image. */
const largeProduct = 2 ** 17

type Cell = readonly [row: number, column: number]

/**
 * dW[i, j, c, o] = sum over images and outputs of x under cell (i, j) times dy, as products of matrices over the columns
 * that each cell of the filter sees: as fast on a GPU as products are, whatever the shape of the window.
 */
export function filterGradientByColumns(operation: Operation, graph: Graph): void {
  const [n, outHeight, outWidth, outer] = operation.shapes[1] as unknown as Quad
  const [height, width, channels] = operation.outputs[0]!.shape as unknown as Quad
  const together = height * width * channels * outer >= largeProduct
  const images = inside(operation, graph, together)
  const run = outHeight * outWidth
  const dy = order(graph, operation, 1, together)
  const right = graph.reshape(dy, together ? [outer, n * run] : [n, outer, run])
  const cells = Array.from({ length: height * width }, (_, i) => [Math.floor(i / width), i % width] as const)
  const atOnce = Math.max(1, Math.floor(columnLimit / (n * run * channels)))
  const parts: string[] = []
  for (let from = 0; from < cells.length; from += atOnce) {
    const some = cells.slice(from, from + atOnce)
    const seen = some.map((cell) => under(operation, graph, images, cell))
    const columns = seen.length === 1 ? seen[0]! : graph.emit('Concat', seen, { axis: together ? 0 : 1 })
    const side = some.length * channels
    const left = graph.reshape(columns, together ? [side, n * run] : [n, side, run])
    parts.push(together ? graph.emit('Gemm', [left, right], { transB: 1 }) : perImage(graph, left, right))
  }
  const made = parts.length === 1 ? parts[0]! : graph.emit('Concat', parts, { axis: 0 })
  graph.result(operation, graph.reshape(made, operation.outputs[0]!.shape))
}

/** [n, side, run] and [n, outer, run] to the sum over images of their products, [side, outer]. */
function perImage(graph: Graph, left: string, right: string): string {
  const each = graph.emit('FusedMatMul', [left, right], { transB: 1 }, 'com.microsoft')
  return graph.emit('ReduceSum', [each, graph.integers([0])], { keepdims: 0 })
}

/** Operand i, [n, h, w, c], as [n, c, h, w] or, for all images together, [c, n, h, w]. */
function order(graph: Graph, operation: Operation, i: number, together: boolean): string {
  if (!together) return graph.arranged(operation, i, 'planes')
  if (graph.layoutOf(operation, i) === 'plain') return graph.transpose(graph.plain(operation, i), [3, 0, 1, 2])
  return graph.transpose(graph.arranged(operation, i, 'planes'), [1, 0, 2, 3])
}

/** The images, padded or cut so that the windows of every output lie inside. */
function inside(operation: Operation, graph: Graph, together: boolean): string {
  const { kernel, strides, pads } = operation.attributes as Window
  const x = operation.shapes[0] as unknown as Quad
  const dy = operation.shapes[1] as unknown as Quad
  const images = order(graph, operation, 0, together)
  const after = [0, 1].map((axis) => (dy[axis + 1]! - 1) * strides[axis]! + kernel[axis]! - x[axis + 1]! - pads[axis]!)
  const sides = [0, 0, pads[0], pads[1], 0, 0, ...after]
  return sides.every((side) => side === 0) ? images : graph.emit('Pad', [images, graph.integers(sides)])
}

/** What one cell of the filter sees at every output. */
function under(operation: Operation, graph: Graph, images: string, [row, column]: Cell): string {
  const { strides } = operation.attributes as Window
  const [, outHeight, outWidth] = operation.shapes[1] as unknown as Quad
  return everyStep(graph, images, [row, column], [outHeight, outWidth], strides)
}

/** Of images [., ., h, w] every so many rows and columns from one on. */
export function everyStep(
  graph: Graph,
  images: string,
  from: Cell,
  count: readonly [number, number],
  steps: readonly [number, number],
): string {
  const ends = from.map((start, axis) => start + (count[axis]! - 1) * steps[axis]! + 1)
  const places = [[...from], ends, [2, 3], [...steps]].map((values) => graph.integers(values))
  return graph.emit('Slice', [images, ...places])
}
