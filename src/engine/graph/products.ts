import type { Operation } from '../recording/record.ts'
import { sizeOf } from '../recording/shape.ts'
import { cast, type Find, floats, type Lowering, operand, shaped } from './maps.ts'
import { type Arg, type Node, type Nodes, type ProductSides, spread, whole } from './node.ts'
import type { Window } from './window.ts'

/** How an engine multiplies: each makes a node of its own kind. */
export interface ProductKernels {
  /** Products a [batch, rows, inner] b [batch, inner, columns], each read by its strides: [batch, rows, columns]. */
  multiply(nodes: Nodes, left: Arg, right: Arg, sides: ProductSides): Node
  /** Images x [n, h, w, c] convolved with a filter read as [kh, kw, c, out]. */
  convolve(nodes: Nodes, x: Node, filter: Arg, window: Window, shape: readonly number[]): Node
  inputGradient(
    nodes: Nodes,
    dy: Node,
    filter: Arg,
    filterShape: readonly number[],
    window: Window,
    shape: readonly number[],
  ): Node
  filterGradient(nodes: Nodes, x: Node, dy: Node, window: Window, shape: readonly number[]): Node
  /** Whether whole numbers can be multiplied. */
  wholeNumbers: boolean
}

/** The batches of one side of a product, one after the other; copied where they are repeated in part. */
function batches(operation: Operation, i: number, batchShape: readonly number[], nodes: Nodes, find: Find) {
  const shape = operation.shapes[i]!
  const [own, sides] = [shape.slice(0, -2), shape.slice(-2)]
  const { dtype } = operation.outputs[0]!
  const { node } = cast(nodes, operand(operation, i, find), shape, dtype)
  const each = sizeOf(sides)
  if (sizeOf(own) === 1) return { node, each: 0 }
  if (sizeOf(own) === sizeOf(batchShape)) return { node, each }
  const full = [...batchShape, ...sides]
  return { node: nodes.map('copy', [spread(node, shape, full)], full, dtype), each }
}

const matMul =
  ({ multiply, wholeNumbers }: ProductKernels): Lowering =>
  (operation, nodes, find) => {
    if (!wholeNumbers) floats(operation)
    const { transposeA, transposeB } = operation.attributes as { transposeA: boolean; transposeB: boolean }
    const [left] = operation.shapes as [readonly number[]]
    const { shape } = operation.outputs[0]!
    const [rows, columns] = shape.slice(-2) as [number, number]
    const inner = left.at(transposeA ? -2 : -1)!
    const batchShape = shape.slice(0, -2)
    const view = (i: number, high: number, wide: number, turned: boolean): Arg => {
      const { node, each } = batches(operation, i, batchShape, nodes, find)
      return { node, strides: turned ? [each, 1, high] : [each, wide, 1], offset: 0 }
    }
    const a = view(0, rows, inner, transposeA)
    const b = view(1, inner, columns, transposeB)
    return multiply(nodes, a, b, { batch: sizeOf(batchShape), rows, inner, columns })
  }

/** What a convolution reads besides its images: a copy where both are the same, since images may get zeros around them. */
function besides(images: Node, seen: Arg, shape: readonly number[], nodes: Nodes): Arg {
  return seen.node === images ? whole(nodes.map('copy', [seen], shape, images.dtype)) : seen
}

const windowOf = (operation: Operation) => operation.attributes as unknown as Window

const conv2D =
  ({ convolve }: ProductKernels): Lowering =>
  (operation, nodes, find) => {
    const x = shaped(operation, 0, nodes, find)
    const filter = besides(x, operand(operation, 1, find), operation.shapes[1]!, nodes)
    return convolve(nodes, x, filter, windowOf(operation), operation.outputs[0]!.shape)
  }

const conv2DBackpropInput =
  ({ inputGradient }: ProductKernels): Lowering =>
  (operation, nodes, find) => {
    const dy = shaped(operation, 0, nodes, find)
    const filter = besides(dy, operand(operation, 1, find), operation.shapes[1]!, nodes)
    const { shape } = operation.outputs[0]!
    return inputGradient(nodes, dy, filter, operation.shapes[1]!, windowOf(operation), shape)
  }

const conv2DBackpropFilter =
  ({ filterGradient }: ProductKernels): Lowering =>
  (operation, nodes, find) => {
    const x = shaped(operation, 0, nodes, find)
    const dy = besides(x, whole(shaped(operation, 1, nodes, find)), operation.shapes[1]!, nodes).node
    return filterGradient(nodes, x, dy, windowOf(operation), operation.outputs[0]!.shape)
  }

/** Operations that multiply, by kind. */
export function productLowerings(kernels: ProductKernels): Readonly<Record<string, Lowering>> {
  return {
    BatchMatMul: matMul(kernels),
    Conv2D: conv2D(kernels),
    Conv2DBackpropFilter: conv2DBackpropFilter(kernels),
    Conv2DBackpropInput: conv2DBackpropInput(kernels),
  }
}
