import { sizeOf } from '../onnx/layout.ts'
import type { Dtype, Operation, Value } from '../onnx/record.ts'
import { averagePool, averagePoolGradient } from './average-pooling.ts'
import { convolve, inputGradient, type Window } from './convolution.ts'
import { placeOfExtreme } from './extremes.ts'
import { filterGradient } from './filter-gradient.ts'
import type { FormulaName } from './formulas.ts'
import { type Arg, type Node, type Nodes, NotWritten, rowStrides, spread, whole } from './node.ts'
import { maxPool, maxPoolGradient, type Pooling } from './pooling.ts'
import { multiply } from './product.ts'
import { gatherRows, segmentSum, sideBySide } from './rows.ts'
import { paysWinograd, suitsWinograd } from './winograd.ts'
import { filterGradientByTiles } from './winograd-filter.ts'

/** The node of a value, made when its operation was written. */
export type Find = (value: Value) => Node

/** Writes one operation as nodes; the node of its first result. */
type Lowering = (operation: Operation, nodes: Nodes, find: Find) => Node

const isFloat = (dtype: Dtype) => dtype === 'float32'

/** Another type's numbers. */
function cast(nodes: Nodes, arg: Arg, shape: readonly number[], to: Dtype): Arg {
  const from = arg.node.dtype
  if (from === to) return arg
  // Truth values are whole numbers in registers.
  if (from === 'bool' && to === 'int32') return whole(nodes.map('copy', [arg], shape, to))
  const formula: FormulaName =
    to === 'float32' ? 'toFloat' : to === 'int32' ? 'toWhole' : isFloat(from) ? 'isNotZero' : 'isNotZeroWhole'
  return whole(nodes.map(formula, [arg], shape, to))
}

const same =
  (float: FormulaName, whole_?: FormulaName): Lowering =>
  (operation, nodes, find) => {
    const { shape, dtype } = operation.outputs[0]!
    const types = operation.inputs.map((input) => input.dtype)
    const floats = types.includes('float32')
    if (!floats && !whole_) throw new NotWritten(`${operation.kind} of whole numbers`)
    const within: Dtype = floats ? 'float32' : 'int32'
    const args = operation.inputs.map((input, i) =>
      cast(nodes, spread(find(input), operation.shapes[i]!, shape), shape, within),
    )
    const made = nodes.map(floats ? float : whole_!, args, shape, dtype === 'bool' ? 'bool' : within)
    const alpha = operation.attributes?.alpha as number | undefined
    if (alpha !== undefined) throw new NotWritten(`${operation.kind} with alpha`)
    if (made.dtype === dtype) return made
    return castNode(nodes, made, dtype)
  }

function castNode(nodes: Nodes, node: Node, to: Dtype): Node {
  return cast(nodes, whole(node), node.shape, to).node
}

const floatOnly =
  (formula: FormulaName): Lowering =>
  (operation, nodes, find) => {
    if (operation.inputs.some(({ dtype }) => !isFloat(dtype)))
      throw new NotWritten(`${operation.kind} of whole numbers`)
    return same(formula)(operation, nodes, find)
  }

const logic =
  (formula: FormulaName): Lowering =>
  (operation, nodes, find) => {
    const { shape } = operation.outputs[0]!
    const args = operation.inputs.map((input, i) =>
      cast(nodes, spread(find(input), operation.shapes[i]!, shape), shape, 'bool'),
    )
    return nodes.map(formula, args, shape, 'bool')
  }

/** Reads operand i in the shape in which the operation sees it. */
function operand(operation: Operation, i: number, find: Find): Arg {
  return whole(find(operation.inputs[i]!), operation.shapes[i]!)
}

/** The same as a node of that very shape. */
function shaped(operation: Operation, i: number, nodes: Nodes, find: Find): Node {
  const node = find(operation.inputs[i]!)
  const shape = operation.shapes[i]!
  const alike = node.shape.length === shape.length && shape.every((side, axis) => side === node.shape[axis])
  return alike ? node : nodes.map('copy', [whole(node, shape)], shape, node.dtype)
}

function copyOf(operation: Operation, nodes: Nodes, arg: Arg): Node {
  const { shape, dtype } = operation.outputs[0]!
  return nodes.map('copy', [arg], shape, dtype)
}

function floats(operation: Operation): void {
  if (operation.inputs.some(({ dtype }) => !isFloat(dtype))) throw new NotWritten(`${operation.kind} of whole numbers`)
}

const fold =
  (kind: 'sum' | 'max' | 'min', mean = false): Lowering =>
  (operation, nodes, find) => {
    const { axes } = operation.attributes as { axes: number[] }
    const seen = operation.shapes[0]!
    const arg = operand(operation, 0, find)
    if (arg.node.dtype === 'bool') throw new NotWritten(`${operation.kind} of truth values`)
    const made = nodes.fold(
      kind,
      arg,
      seen,
      seen.map((_, i) => axes.includes(i)),
    )
    if (!mean) return made
    const count = axes.reduce((product, axis) => product * seen[axis]!, 1)
    const divisor: Arg = { node: nodes.constant(count), strides: made.shape.map(() => 0), offset: 0 }
    return nodes.map('divide', [whole(made), divisor], made.shape, 'float32')
  }

const place =
  (kind: 'max' | 'min'): Lowering =>
  (operation, nodes, find) =>
    placeOfExtreme(nodes, kind, find(operation.inputs[0]!), operation.shapes[0]!, operation.attributes!.axis as number)

const softmax: Lowering = (operation, nodes, find) => {
  floats(operation)
  const shape = operation.shapes[0]!
  const arg = operand(operation, 0, find)
  const last = shape.map((_, i) => i === shape.length - 1)
  const kept = shape.map((side, i) => (last[i] ? 1 : side))
  const largest = nodes.fold('max', arg, shape, last)
  const centred = nodes.map('subtract', [arg, spread(largest, kept, shape)], shape, 'float32')
  const powers = nodes.map('exp', [whole(centred)], shape, 'float32')
  const sum = nodes.fold('sum', whole(powers), shape, last)
  // One division a row, and a product for each number.
  const factor = nodes.map('reciprocal', [whole(sum)], sum.shape, 'float32')
  return nodes.map('multiply', [whole(powers), spread(factor, kept, shape)], shape, 'float32')
}

/** Their numbers lie in the program's memory. */
const mostClasses = 2 ** 14

const oneHot: Lowering = (operation, nodes, find) => {
  const { onValue, offValue } = operation.attributes as { onValue: number; offValue: number }
  const { shape, dtype } = operation.outputs[0]!
  const depth = shape.at(-1)!
  if (depth > mostClasses) throw new NotWritten('OneHot of so many classes')
  const classes = nodes.table(
    Array.from({ length: depth }, (_, i) => i),
    'int32',
  )
  const indices = spread(find(operation.inputs[0]!), operation.shapes[0]!, shape)
  if (indices.node.dtype !== 'int32') throw new NotWritten('OneHot of anything but whole numbers')
  const hot = nodes.map('equalWhole', [indices, spread(classes, [depth], shape)], shape, 'bool')
  if (onValue === 1 && offValue === 0) return castNode(nodes, nodes.map('copy', [whole(hot)], shape, 'bool'), dtype)
  const number = (value: number): Arg => ({
    node: nodes.constant(value, dtype),
    strides: shape.map(() => 0),
    offset: 0,
  })
  return nodes.map('select', [whole(hot), number(onValue), number(offValue)], shape, dtype)
}

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

const tile: Lowering = (operation, nodes, find) => {
  const { reps } = operation.attributes as { reps: number[] }
  const seen = operation.shapes[0]!
  const strides = rowStrides(seen)
  const { dtype } = operation.outputs[0]!
  const shape = seen.flatMap((side, i) => [reps[i]!, side])
  const steps = seen.flatMap((side, i) => [0, side === 1 ? 0 : strides[i]!])
  return nodes.map('copy', [{ node: find(operation.inputs[0]!), strides: steps, offset: 0 }], shape, dtype)
}

const strided =
  (steps: (operation: Operation, strides: number[]) => { strides: number[]; offset: number }): Lowering =>
  (operation, nodes, find) => {
    const strides = rowStrides(operation.shapes[0]!)
    return copyOf(operation, nodes, { node: find(operation.inputs[0]!), ...steps(operation, strides) })
  }

const transpose = strided(({ attributes }, strides) => ({
  strides: (attributes as { perm: number[] }).perm.map((axis) => strides[axis]!),
  offset: 0,
}))

const slice = strided(({ attributes }, strides) => ({
  strides,
  offset: (attributes as { from: number[] }).from.reduce((sum, place, i) => sum + place * strides[i]!, 0),
}))

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

const select: Lowering = (operation, nodes, find) => {
  const { shape, dtype } = operation.outputs[0]!
  const args = operation.inputs.map((input, i) =>
    cast(nodes, spread(find(input), operation.shapes[i]!, shape), shape, i === 0 ? 'bool' : dtype),
  )
  return nodes.map('select', args, shape, dtype)
}

const step: Lowering = (operation, nodes, find) => {
  floats(operation)
  const { shape } = operation.outputs[0]!
  const { alpha = 0 } = (operation.attributes ?? {}) as { alpha?: number }
  return nodes.map('step', [operand(operation, 0, find)], shape, 'float32', alpha)
}

const addN: Lowering = (operation, nodes, find) => {
  floats(operation)
  const { shape } = operation.outputs[0]!
  let sum = operand(operation, 0, find)
  for (let i = 1; i < operation.inputs.length; i++)
    sum = whole(nodes.map('add', [sum, operand(operation, i, find)], shape, 'float32'))
  return operation.inputs.length === 1 ? copyOf(operation, nodes, sum) : sum.node
}

const castTo: Lowering = (operation, nodes, find) => {
  const { shape, dtype } = operation.outputs[0]!
  const made = cast(nodes, operand(operation, 0, find), shape, dtype)
  return made.node.dtype === dtype ? made.node : nodes.map('copy', [made], shape, dtype)
}

const fill: Lowering = (operation, nodes, find) => {
  const { shape } = operation.outputs[0]!
  return copyOf(operation, nodes, { node: find(operation.inputs[0]!), strides: shape.map(() => 0), offset: 0 })
}

/** By the kind of operation; what is missing here is another way's work. */
export const lowerings: Readonly<Record<string, Lowering>> = {
  Abs: floatOnly('absolute'),
  Add: same('add', 'addWhole'),
  AddN: addN,
  ArgMax: place('max'),
  ArgMin: place('min'),
  AvgPool: avgPool2D,
  AvgPoolGrad: avgPoolGrad,
  BatchMatMul: matMul,
  Cast: castTo,
  Ceil: floatOnly('ceil'),
  Concat: concat,
  Conv2D: conv2D,
  Conv2DBackpropFilter: conv2DBackpropFilter,
  Conv2DBackpropInput: conv2DBackpropInput,
  Equal: same('equal', 'equalWhole'),
  Exp: floatOnly('exp'),
  Fill: fill,
  Floor: floatOnly('floor'),
  Gather: gather,
  GatherInBatches: gatherInBatches,
  Greater: same('greater', 'greaterWhole'),
  GreaterEqual: same('greaterEqual', 'greaterEqualWhole'),
  Less: same('less', 'lessWhole'),
  LessEqual: same('lessEqual', 'lessEqualWhole'),
  Log: floatOnly('log'),
  LogicalAnd: logic('and'),
  LogicalNot: logic('not'),
  LogicalOr: logic('or'),
  Max: fold('max'),
  MaxPool: maxPool2D,
  MaxPoolGrad: maxPoolGrad,
  Maximum: same('maximum', 'maximumWhole'),
  Mean: fold('sum', true),
  Min: fold('min'),
  Minimum: same('minimum', 'minimumWhole'),
  Multiply: same('multiply', 'multiplyWhole'),
  Neg: floatOnly('negate'),
  NotEqual: same('notEqual', 'notEqualWhole'),
  OneHot: oneHot,
  Pow: floatOnly('power'),
  RealDiv: floatOnly('divide'),
  Reciprocal: floatOnly('reciprocal'),
  Relu: floatOnly('relu'),
  Relu6: floatOnly('relu6'),
  Rsqrt: floatOnly('rsqrt'),
  SegmentSum: sumSegments,
  Select: select,
  Sigmoid: floatOnly('sigmoid'),
  Slice: slice,
  Softmax: softmax,
  Softplus: floatOnly('softplus'),
  Sqrt: floatOnly('sqrt'),
  Square: floatOnly('square'),
  SquaredDifference: floatOnly('squaredDifference'),
  Step: step,
  Sub: same('subtract', 'subtractWhole'),
  Sum: fold('sum'),
  Tanh: floatOnly('tanh'),
  Tile: tile,
  Transpose: transpose,
}
