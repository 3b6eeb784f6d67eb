import { cast, castNode, type Lowering, operand } from './maps.ts'
import { type Arg, type Fold, NotWritten, spread, whole } from './node.ts'

const fold =
  (kind: Fold, mean = false): Lowering =>
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

const softmax: Lowering = (operation, nodes, find) => {
  const shape = operation.shapes[0]!
  const arg = cast(nodes, operand(operation, 0, find), shape, 'float32')
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
export const mostClasses = 2 ** 14

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

/** Operations that fold sides, by kind. */
export const folds: Readonly<Record<string, Lowering>> = {
  All: fold('min'),
  Any: fold('max'),
  Max: fold('max'),
  Mean: fold('sum', true),
  Min: fold('min'),
  OneHot: oneHot,
  Prod: fold('product'),
  Softmax: softmax,
  Sum: fold('sum'),
}
