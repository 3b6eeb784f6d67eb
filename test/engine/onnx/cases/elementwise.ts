import { tf } from '../../../../src/tf.ts'
import { bools, type Case, floats, given, integers, type Operand, oddities } from '../parity.ts'

type Unary = (x: tf.Tensor) => tf.Tensor

const positive = (x: number) => Math.abs(x) + 0.1
const inUnit = (x: number) => x / 2.1
const aboveOne = (x: number) => Math.abs(x) + 1.1
/** Nothing within the reach of a kink. */
const apart = (x: number) => (Math.abs(x) < 0.05 ? x + 0.2 : x)

interface Form {
  compute: Unary
  domain?: (x: number) => number
  bound?: number
  gradient?: boolean
  /** Numbers on which the runtime is less exact, left out. */
  odd?: number[]
  integers?: boolean
}

const finite = oddities.filter(Number.isFinite)
const unaries: Record<string, Form> = {
  Abs: { compute: tf.abs, gradient: true, domain: apart, integers: true },
  Acos: { compute: tf.acos, gradient: true, domain: inUnit },
  Acosh: { compute: tf.acosh, gradient: true, domain: aboveOne },
  Asin: { compute: tf.asin, gradient: true, domain: inUnit },
  Asinh: { compute: tf.asinh, gradient: true },
  Atan: { compute: tf.atan, gradient: true },
  Atanh: { compute: tf.atanh, gradient: true, domain: inUnit },
  Ceil: { compute: tf.ceil, gradient: true },
  Cos: { compute: tf.cos, gradient: true, odd: [0, 1, -1, 100, Number.NaN, Number.POSITIVE_INFINITY] },
  Cosh: { compute: tf.cosh, gradient: true },
  Elu: { compute: tf.elu, gradient: true, domain: apart },
  Erf: { compute: tf.erf, gradient: true },
  Exp: { compute: tf.exp, gradient: true, integers: true },
  Expm1: { compute: tf.expm1, gradient: true },
  Floor: { compute: tf.floor, gradient: true },
  IsFinite: { compute: tf.isFinite },
  IsInf: { compute: tf.isInf },
  IsNan: { compute: tf.isNaN },
  LeakyRelu: { compute: (x) => tf.leakyRelu(x, 0.2), gradient: true, domain: apart },
  Log: { compute: tf.log, gradient: true, domain: positive },
  Log1p: { compute: tf.log1p, gradient: true, domain: positive },
  Neg: { compute: tf.neg, gradient: true, integers: true },
  Reciprocal: { compute: tf.reciprocal, gradient: true, domain: positive },
  Relu: { compute: tf.relu, gradient: true, domain: apart, integers: true },
  Relu6: { compute: tf.relu6, gradient: true, domain: (x) => apart(x) * 4, integers: true },
  Round: { compute: tf.round, gradient: true },
  Rsqrt: { compute: tf.rsqrt, gradient: true, domain: positive },
  Selu: { compute: tf.selu, gradient: true, domain: apart },
  Sigmoid: { compute: tf.sigmoid, gradient: true },
  Sign: { compute: tf.sign, gradient: true, integers: true, odd: finite },
  Sin: { compute: tf.sin, gradient: true, odd: [0, 1, -1, 100, Number.NaN, Number.POSITIVE_INFINITY] },
  Sinh: { compute: tf.sinh, gradient: true },
  Softplus: { compute: tf.softplus, gradient: true, bound: 3e-6 },
  Sqrt: { compute: tf.sqrt, gradient: true, domain: positive },
  Square: { compute: tf.square, gradient: true, integers: true },
  Step: { compute: (x) => tf.step(x), gradient: true },
  Tan: { compute: tf.tan, gradient: true, odd: [0, 1, -1, 100, Number.NaN, Number.POSITIVE_INFINITY] },
  Tanh: { compute: tf.tanh, gradient: true },
}

const shapes = [[], [1], [7], [3, 5], [2, 3, 3, 2], [2, 4, 4, 16]]

function unaryCases([kernel, { compute, domain, bound, gradient, odd, integers: whole }]: [string, Form]): Case[] {
  const one = (operand: Operand, more: Partial<Case> = {}): Case => ({
    kernel,
    operands: [operand],
    compute,
    bound,
    ...more,
  })
  return [
    ...shapes.map((shape) => one(floats(shape, domain), { gradient })),
    one(floats([0, 3])),
    one(given(odd ?? oddities), { title: 'odd numbers' }),
    ...(whole ? [one(integers([9]))] : []),
  ]
}

const infinities = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]

const casts: Case[] = [
  { from: given([0, 1.7, -1.7, 2.5e9, -3e9, Number.NaN, Number.POSITIVE_INFINITY, 1e-3]), to: 'int32' as const },
  { from: given([0, -0, 0.3, Number.NaN, -2]), to: 'bool' as const },
  { from: integers([5]), to: 'float32' as const },
  { from: integers([5], 2, -2), to: 'bool' as const },
  { from: bools([5]), to: 'int32' as const },
  { from: bools([5]), to: 'float32' as const },
  { from: floats([0]), to: 'int32' as const },
].map(({ from, to }) => ({
  kernel: 'Cast',
  title: `to ${to}`,
  operands: [from],
  compute: (x) => tf.cast(x, to),
}))

export const elementwiseTable: Case[] = [
  ...Object.entries(unaries).flatMap(unaryCases),
  { kernel: 'Step', title: 'alpha', operands: [given(oddities)], compute: (x) => tf.step(x, 0.25) },
  { kernel: 'LogicalNot', operands: [bools([6])], compute: tf.logicalNot },
  { kernel: 'EluGrad', operands: [floats([3, 4], apart)], compute: tf.elu, gradient: true },
  { kernel: 'ClipByValue', operands: [floats([3, 4])], compute: (x) => tf.clipByValue(x, -1, 0.5), gradient: true },
  { kernel: 'ClipByValue', operands: [given(oddities)], compute: (x) => tf.clipByValue(x, -1, 1) },
  { kernel: 'ClipByValue', operands: [integers([6])], compute: (x) => tf.clipByValue(x, -2, 3) },
  { kernel: 'Prelu', operands: [floats([2, 3, 4], apart), floats([4], apart, 3)], compute: tf.prelu, gradient: true },
  { kernel: 'Prelu', operands: [given(oddities), given([0.25])], compute: tf.prelu },
  { kernel: 'Prelu', operands: [integers([7]), given([0.25])], compute: tf.prelu },
  { kernel: 'Prelu', operands: [integers([7]), integers([7], 5, -5, 3)], compute: tf.prelu },
  {
    kernel: 'LeakyRelu',
    title: 'infinite slopes of both signs in one graph',
    operands: [floats([7], apart)],
    compute: (x) => infinities.map((slope) => tf.leakyRelu(x, slope)),
  },
  { kernel: 'Softmax', operands: [floats([3, 5])], compute: (x) => tf.softmax(x), gradient: true },
  { kernel: 'Softmax', operands: [floats([2, 3, 4])], compute: (x) => tf.softmax(x), gradient: true },
  { kernel: 'Softmax', operands: [floats([4])], compute: (x) => tf.softmax(x) },
  { kernel: 'Softmax', operands: [floats([2, 1])], compute: (x) => tf.softmax(x) },
  { kernel: 'Softmax', operands: [given([1e4, 0, -1e4, 1, 1, 1], [2, 3])], compute: (x) => tf.softmax(x) },
  { kernel: 'Softmax', operands: [given([Number.NaN, 0, 1, 1, 2, 3], [2, 3])], compute: (x) => tf.softmax(x) },
  {
    kernel: 'Exp',
    title: 'log of softmax',
    operands: [floats([3, 5])],
    compute: (x) => tf.logSoftmax(x),
    gradient: true,
  },
  ...casts,
]
