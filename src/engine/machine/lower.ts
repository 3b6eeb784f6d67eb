import { folds } from '../graph/folds.ts'
import { floats, type Lowering, maps, operand, shaped } from '../graph/maps.ts'
import { type Arg, type Node, type Nodes, NotWritten, whole } from '../graph/node.ts'
import { sizeOf } from '../recording/shape.ts'
import { averagePool, averagePoolGradient } from './average-pooling.ts'
import { convolve, inputGradient, type Window } from './convolution.ts'
import { placeOfExtreme } from './extremes.ts'
import { filterGradient } from './filter-gradient.ts'
import { maxPool, maxPoolGradient, type Pooling } from './pooling.ts'
import { multiply } from './product.ts'
import { gatherRows, segmentSum, sideBySide } from './rows.ts'
import { paysWinograd, suitsWinograd } from './winograd.ts'
import { filterGradientByTiles } from './winograd-filter.ts'

const place =
  (kind: 'max' | 'min'): Lowering =>
  (operation, nodes, find) =>
    placeOfExtreme(nodes, kind, find(operation.inputs[0]!), operation.shapes[0]!, operation.attributes!.axis as number)

const matMul: Lowering = (operation, nodes, find) => {
  floats(operation)
  const { transposeA, transposeB } = operation.attributes as { transposeA: boolean; transposeB: boolean }
  const [left] = operation.shapes as [readonly number[]]
  const { shape } = operation.outputs[0]!
  const [rows, columns] = shape.slice(-2) as [number, number]
  const inner = left.at(transposeA ? -2 : -1)!
  const batch = sizeOf(shape.slice(0, -2))
  const view = (i: number, high: number, wide: number, turned: boolean): Arg => {
    const pieces = sizeOf(operation.shapes[i]!.slice(0, -2))
    if (pieces !== batch && pieces !== 1) throw new NotWritten('products of batches that are repeated in part')
    const each = pieces === 1 ? 0 : high * wide
    return { node: find(operation.inputs[i]!), strides: turned ? [each, 1, high] : [each, wide, 1], offset: 0 }
  }
  const a = view(0, rows, inner, transposeA)
  const b = view(1, inner, columns, transposeB)
  return multiply(nodes, a, b, { batch, rows, inner, columns })
}

const gather: Lowering = (operation, nodes, find) => {
  const { axis } = operation.attributes as { axis: number }
  const [seen, places] = operation.shapes as [readonly number[], readonly number[]]
  const [x, indices] = operation.inputs.map(find) as [Node, Node]
  if (axis !== 0 || indices.dtype !== 'int32' || x.dtype === 'bool') throw new NotWritten('this kind of Gather')
  return gatherRows(nodes, x, indices, sizeOf(places), sizeOf(seen.slice(1)), seen[0]!)
}

/** From x [batch, 1, n, slice], at places [batch, m, 1]. */
const gatherInBatches: Lowering = (operation, nodes, find) => {
  const [[batch, outer, n, slice], [, m]] = operation.shapes as [[number, number, number, number], [number, number]]
  const [x, places] = operation.inputs.map(find) as [Node, Node]
  if (outer !== 1 || places.dtype !== 'int32' || x.dtype === 'bool') throw new NotWritten('this kind of Gather')
  const begins = nodes.table(
    Array.from({ length: batch }, (_, i) => i * n),
    'int32',
  )
  const begin: Arg = { node: begins, strides: [1, 0], offset: 0 }
  const rows = nodes.map('addWhole', [whole(places, [batch, m]), begin], [batch, m], 'int32')
  return gatherRows(nodes, x, rows, batch * m, slice, batch * n)
}

const concat: Lowering = (operation, nodes, find) => {
  const { axis } = operation.attributes as { axis: number }
  const { shape, dtype } = operation.outputs[0]!
  if (dtype === 'bool' || operation.inputs.some((input) => input.dtype !== dtype))
    throw new NotWritten('Concat of truth values')
  const parts = operation.inputs.map((input, i) => ({
    node: find(input),
    width: sizeOf(operation.shapes[i]!.slice(axis)),
  }))
  return sideBySide(nodes, parts, sizeOf(shape.slice(0, axis)))
}

const sumSegments: Lowering = (operation, nodes, find) => {
  const [rows, width] = operation.shapes[0] as [number, number]
  const [x, ids] = operation.inputs.map(find) as [Node, Node]
  if (x.dtype !== 'float32' || ids.dtype !== 'int32') throw new NotWritten('SegmentSum of whole numbers')
  return segmentSum(nodes, x, ids, { rows, width, segments: sizeOf(operation.outputs[0]!.shape) / width })
}

/** What a convolution reads besides its images: a copy where both are the same, since images get zeros around them. */
function besides(images: Node, seen: Arg, shape: readonly number[], nodes: Nodes): Arg {
  return seen.node === images ? whole(nodes.map('copy', [seen], shape, images.dtype)) : seen
}

const conv2D: Lowering = (operation, nodes, find) => {
  const window = operation.attributes as unknown as Window
  const x = shaped(operation, 0, nodes, find)
  const filter = besides(x, operand(operation, 1, find), operation.shapes[1]!, nodes)
  return convolve(nodes, x, filter, window, operation.outputs[0]!.shape)
}

const conv2DBackpropInput: Lowering = (operation, nodes, find) => {
  const window = operation.attributes as unknown as Window
  const dy = shaped(operation, 0, nodes, find)
  const filter = besides(dy, operand(operation, 1, find), operation.shapes[1]!, nodes)
  return inputGradient(nodes, dy, filter, operation.shapes[1]!, window, operation.outputs[0]!.shape)
}

const conv2DBackpropFilter: Lowering = (operation, nodes, find) => {
  const window = operation.attributes as unknown as Window
  const x = shaped(operation, 0, nodes, find)
  const dy = besides(x, whole(shaped(operation, 1, nodes, find)), operation.shapes[1]!, nodes).node
  const { shape } = operation.outputs[0]!
  const [, height, width] = dy.shape as [number, number, number]
  const [, , from, to] = shape as [number, number, number, number]
  const byTiles = suitsWinograd(window, from, to) && paysWinograd(height, width, from, to)
  return (byTiles ? filterGradientByTiles : filterGradient)(nodes, x, dy, window, shape)
}

const maxPool2D: Lowering = (operation, nodes, find) => {
  const pooling = operation.attributes as unknown as Pooling
  return maxPool(nodes, shaped(operation, 0, nodes, find), pooling, operation.outputs[0]!.shape)
}

const maxPoolGrad: Lowering = (operation, nodes, find) => {
  const pooling = operation.attributes as unknown as Pooling
  const [dy, x] = [shaped(operation, 0, nodes, find), shaped(operation, 1, nodes, find)]
  return maxPoolGradient(nodes, dy, x, pooling)
}

const avgPool2D: Lowering = (operation, nodes, find) => {
  const pooling = operation.attributes as unknown as Pooling
  return averagePool(nodes, shaped(operation, 0, nodes, find), pooling, operation.outputs[0]!.shape)
}

const avgPoolGrad: Lowering = (operation, nodes, find) => {
  const pooling = operation.attributes as unknown as Pooling
  return averagePoolGradient(nodes, shaped(operation, 0, nodes, find), pooling, operation.outputs[0]!.shape)
}

/** By the kind of operation; what is missing here is another way's work. */
export const lowerings: Readonly<Record<string, Lowering>> = {
  ...maps,
  ...folds,
  ArgMax: place('max'),
  ArgMin: place('min'),
  AvgPool: avgPool2D,
  AvgPoolGrad: avgPoolGrad,
  BatchMatMul: matMul,
  Concat: concat,
  Conv2D: conv2D,
  Conv2DBackpropFilter: conv2DBackpropFilter,
  Conv2DBackpropInput: conv2DBackpropInput,
  Gather: gather,
  GatherInBatches: gatherInBatches,
  MaxPool: maxPool2D,
  MaxPoolGrad: maxPoolGrad,
  SegmentSum: sumSegments,
}
