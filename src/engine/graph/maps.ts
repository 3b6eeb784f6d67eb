import type { Dtype, Operation, Value } from '../recording/record.ts'
import type { FormulaName } from './formulas.ts'
import { type Arg, type Node, type Nodes, NotWritten, rowStrides, spread, whole } from './node.ts'

/** The node of a value, made when its operation was written. */
export type Find = (value: Value) => Node

/** Writes one operation as nodes: that of its result, or one for each result. */
export type Lowering = (operation: Operation, nodes: Nodes, find: Find) => Node | Node[]

const isFloat = (dtype: Dtype) => dtype === 'float32'

/** Another type's numbers. */
export function cast(nodes: Nodes, arg: Arg, shape: readonly number[], to: Dtype): Arg {
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

export function castNode(nodes: Nodes, node: Node, to: Dtype): Node {
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
export function operand(operation: Operation, i: number, find: Find): Arg {
  return whole(find(operation.inputs[i]!), operation.shapes[i]!)
}

/** The same as a node of that very shape. */
export function shaped(operation: Operation, i: number, nodes: Nodes, find: Find): Node {
  const node = find(operation.inputs[i]!)
  const shape = operation.shapes[i]!
  const alike = node.shape.length === shape.length && shape.every((side, axis) => side === node.shape[axis])
  return alike ? node : nodes.map('copy', [whole(node, shape)], shape, node.dtype)
}

export function copyOf(operation: Operation, nodes: Nodes, arg: Arg): Node {
  const { shape, dtype } = operation.outputs[0]!
  return nodes.map('copy', [arg], shape, dtype)
}

export function floats(operation: Operation): void {
  if (operation.inputs.some(({ dtype }) => !isFloat(dtype))) throw new NotWritten(`${operation.kind} of whole numbers`)
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
  const { shape, dtype } = operation.outputs[0]!
  const { value } = (operation.attributes ?? {}) as { value?: number }
  const node = value === undefined ? find(operation.inputs[0]!) : nodes.constant(value, dtype)
  return copyOf(operation, nodes, { node, strides: shape.map(() => 0), offset: 0 })
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

/** Operations on single numbers, and those that only say where numbers are read; by kind. */
export const maps: Readonly<Record<string, Lowering>> = {
  Abs: floatOnly('absolute'),
  Add: same('add', 'addWhole'),
  AddN: addN,
  Cast: castTo,
  Ceil: floatOnly('ceil'),
  Equal: same('equal', 'equalWhole'),
  Exp: floatOnly('exp'),
  Fill: fill,
  Floor: floatOnly('floor'),
  Greater: same('greater', 'greaterWhole'),
  GreaterEqual: same('greaterEqual', 'greaterEqualWhole'),
  Less: same('less', 'lessWhole'),
  LessEqual: same('lessEqual', 'lessEqualWhole'),
  Log: floatOnly('log'),
  LogicalAnd: logic('and'),
  LogicalNot: logic('not'),
  LogicalOr: logic('or'),
  Maximum: same('maximum', 'maximumWhole'),
  Minimum: same('minimum', 'minimumWhole'),
  Multiply: same('multiply', 'multiplyWhole'),
  Neg: floatOnly('negate'),
  NotEqual: same('notEqual', 'notEqualWhole'),
  Pow: floatOnly('power'),
  RealDiv: floatOnly('divide'),
  Reciprocal: floatOnly('reciprocal'),
  Relu: floatOnly('relu'),
  Relu6: floatOnly('relu6'),
  Rsqrt: floatOnly('rsqrt'),
  Select: select,
  Sigmoid: floatOnly('sigmoid'),
  Slice: slice,
  Softplus: floatOnly('softplus'),
  Sqrt: floatOnly('sqrt'),
  Square: floatOnly('square'),
  SquaredDifference: floatOnly('squaredDifference'),
  Step: step,
  Sub: same('subtract', 'subtractWhole'),
  Tanh: floatOnly('tanh'),
  Tile: tile,
  Transpose: transpose,
}
