import { tf } from '../../../../src/tf.ts'
import { bools, type Case, floats, given, integers, type Operand, oddities } from '../parity.ts'

type Binary = (a: tf.Tensor, b: tf.Tensor) => tf.Tensor

interface Form {
  compute: Binary
  /** Some gradients of tfjs know no broadcasting. */
  gradient?: boolean | 'alike'
  /** Of the first operand. */
  domain?: (x: number) => number
  /** Of the second operand. */
  divisor?: boolean
  integers?: boolean
  odd?: boolean
  bound?: number
}

const away = (x: number) => (x < 0 ? x - 0.5 : x + 0.5)

const binaries: Record<string, Form> = {
  Add: { compute: tf.add, gradient: true, integers: true, odd: true },
  Atan2: { compute: tf.atan2, gradient: true, divisor: true, odd: true },
  FloorDiv: { compute: tf.floorDiv, divisor: true, integers: true },
  Maximum: { compute: tf.maximum, gradient: 'alike', integers: true, odd: true },
  Minimum: { compute: tf.minimum, gradient: 'alike', integers: true, odd: true },
  Mod: { compute: tf.mod, gradient: true, divisor: true, integers: true },
  Multiply: { compute: tf.mul, gradient: true, integers: true, odd: true },
  Pow: { compute: tf.pow, gradient: true, domain: (x) => Math.abs(x) + 0.2 },
  RealDiv: { compute: tf.div, gradient: true, divisor: true, odd: true },
  SquaredDifference: { compute: tf.squaredDifference, gradient: 'alike', integers: true },
  Sub: { compute: tf.sub, gradient: true, integers: true, odd: true },
  Equal: { compute: tf.equal, integers: true, odd: true },
  NotEqual: { compute: tf.notEqual, integers: true, odd: true },
  Greater: { compute: tf.greater, integers: true, odd: true },
  GreaterEqual: { compute: tf.greaterEqual, integers: true, odd: true },
  Less: { compute: tf.less, integers: true, odd: true },
  LessEqual: { compute: tf.lessEqual, integers: true, odd: true },
}

const shapes: [number[], number[]][] = [
  [[], []],
  [[5], [5]],
  [[3, 5], [5]],
  [
    [3, 1],
    [1, 4],
  ],
  [[2, 3, 4], []],
  [
    [2, 3, 3, 16],
    [1, 1, 1, 16],
  ],
  [[2, 3, 3, 2], [2]],
  [[4], [2, 3, 4]],
]

/** Each odd number with each. */
const grid = oddities.flatMap((a) => oddities.map((b) => [a, b] as const))

function binaryCases([kernel, { compute, gradient, domain, divisor, integers: whole, odd, bound }]: [
  string,
  Form,
]): Case[] {
  const one = (operands: Operand[], more: Partial<Case> = {}): Case => ({ kernel, operands, compute, bound, ...more })
  return [
    ...shapes.map(([a, b]) =>
      one([floats(a, domain), floats(b, divisor ? away : undefined, 9)], {
        gradient: gradient === 'alike' ? a.join() === b.join() : gradient,
      }),
    ),
    one([floats([0, 3]), floats([3])]),
    ...(odd ? [one([given(grid.map(([a]) => a)), given(grid.map(([, b]) => b))], { title: 'odd numbers' })] : []),
    ...(whole ? [one([integers([9]), integers([9], 5, -5, 4)]), one([integers([2, 3]), integers([], 4, 2)])] : []),
  ]
}

const edges = [0, 1, -1, 7, -7, 2147483647, -2147483648]
const pairs = edges.flatMap((a) => edges.map((b) => [a, b] as const))
const wholeLeft = given(
  pairs.map(([a]) => a),
  undefined,
  'int32',
)
const wholeRight = given(
  pairs.map(([, b]) => b),
  undefined,
  'int32',
)

const whole: Case[] = (['Add', 'Sub', 'Maximum', 'Mod', 'FloorDiv', 'Less', 'Equal'] as const).map((kernel) => ({
  kernel,
  title: 'the ends of int32, and zero',
  operands: [wholeLeft, wholeRight],
  compute: binaries[kernel]!.compute,
  bound: 0,
}))

const condition = (shape: number[]) => bools(shape, 3)

export const binaryTable: Case[] = [
  ...Object.entries(binaries).flatMap(binaryCases),
  ...whole,
  { kernel: 'Pow', operands: [integers([5], 4, -4), integers([5], 4, 0, 2)], compute: tf.pow },
  { kernel: 'Pow', title: 'a square', operands: [given(oddities), given([2])], compute: tf.pow },
  { kernel: 'LogicalAnd', operands: [bools([6]), bools([6], 2)], compute: tf.logicalAnd },
  { kernel: 'LogicalOr', operands: [bools([2, 3]), bools([3], 2)], compute: tf.logicalOr },
  { kernel: 'Equal', operands: [bools([6]), bools([6], 2)], compute: tf.equal },
  {
    kernel: 'BitwiseAnd',
    operands: [integers([6], 90, 0), integers([6], 90, 0, 3)],
    compute: (a, b) => tf.engine().runKernel('BitwiseAnd', { a, b }) as tf.Tensor,
  },
  {
    kernel: 'AddN',
    operands: [floats([2, 3]), floats([2, 3], undefined, 4), floats([2, 3], undefined, 6)],
    compute: (...terms) => tf.addN(terms),
    gradient: true,
  },
  { kernel: 'AddN', operands: [floats([3])], compute: (...terms) => tf.addN(terms), gradient: true },
  { kernel: 'AddN', operands: [integers([3]), integers([3])], compute: (...terms) => tf.addN(terms) },
  {
    kernel: 'AddN',
    // No two are true at one place: tfjs would say 2 there, as a bool.
    operands: [given([1, 0, 0, 0], [4], 'bool'), given([0, 1, 0, 0], [4], 'bool'), given([0, 0, 0, 1], [4], 'bool')],
    compute: (...terms) => tf.addN(terms),
  },
  ...[
    [condition([2, 3]), floats([2, 3]), floats([2, 3], undefined, 8)],
    [condition([1]), floats([1]), floats([1], undefined, 8)],
  ].map((operands) => ({
    kernel: 'Select',
    operands,
    compute: (c: tf.Tensor, a: tf.Tensor, b: tf.Tensor) => tf.where(c, a, b),
    gradient: true,
  })),
  { kernel: 'Select', operands: [condition([5]), integers([5]), integers([5], 5, 0, 2)], compute: tf.where },
  { kernel: 'Select', operands: [condition([9]), bools([9]), bools([9], 2)], compute: tf.where },
]
