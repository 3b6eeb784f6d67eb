import { folds } from '../graph/folds.ts'
import { type Lowering, maps, shaped } from '../graph/maps.ts'
import { type Arg, type Node, type Nodes, NotWritten, whole } from '../graph/node.ts'
import { productLowerings } from '../graph/products.ts'
import { quad, type Window } from '../graph/window.ts'
import { sizeOf } from '../recording/shape.ts'
import { averagePool, averagePoolGradient } from './average-pooling.ts'
import { convolve, inputGradient } from './convolution.ts'
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

/** By tiles where that is faster. */
function gradientOfFilter(nodes: Nodes, x: Node, dy: Node, window: Window, shape: readonly number[]): Node {
  const [, height, width] = quad(dy.shape)
  const [, , from, to] = quad(shape)
  const byTiles = suitsWinograd(window, from, to) && paysWinograd(height, width, from, to)
  return (byTiles ? filterGradientByTiles : filterGradient)(nodes, x, dy, window, shape)
}

const products = productLowerings({
  ...{ multiply, convolve, inputGradient, filterGradient: gradientOfFilter, wholeNumbers: false },
})

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
  ...products,
  ArgMax: place('max'),
  ArgMin: place('min'),
  AvgPool: avgPool2D,
  AvgPoolGrad: avgPoolGrad,
  Concat: concat,
  Gather: gather,
  GatherInBatches: gatherInBatches,
  MaxPool: maxPool2D,
  MaxPoolGrad: maxPoolGrad,
  SegmentSum: sumSegments,
}
