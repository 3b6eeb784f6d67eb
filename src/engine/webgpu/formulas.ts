import { tf } from '../../tf.ts'
import type { FormulaName } from '../graph/formulas.ts'
import { functions } from './functions.ts'

/** A formula of WGSL expressions, which are calls, names, numbers or in brackets; truths are i32. */
type Formula = (args: readonly string[], parameter: number) => string

/** A number as an expression: those that no literal can say are made from their bits. */
export function numeral(value: number, whole = false): string {
  if (whole) return `i32(${value})`
  const near = Math.fround(value)
  if (Object.is(near, 0)) return '0f'
  if (Number.isFinite(near) && Math.abs(near) >= 2 ** -126) return `${near}f`
  const [bits] = new Uint32Array(Float32Array.of(near).buffer)
  return `bits(0x${bits!.toString(16)}u)`
}

/** What formulas call, by name; each may call others. */
export const preamble: Readonly<Record<string, string>> = functions

const call =
  (name: string): Formula =>
  (args) =>
    `${name}(${args.join(', ')})`

const between =
  (sign: string): Formula =>
  ([a, b]) =>
    `(${a} ${sign} ${b})`

const compare =
  (sign: string): Formula =>
  ([a, b]) =>
    `i32(${a} ${sign} ${b})`

const turned =
  (name: string): Formula =>
  ([a, b]) =>
    `${name}(${b}, ${a})`

const { SELU_SCALE: scale, SELU_SCALEALPHA: scaleAlpha } = tf.backend_util

/** How each formula is written. What it calls is in functions.ts. */
export const formulas: Readonly<Record<FormulaName, Formula>> = {
  copy: ([x]) => x!,
  add: between('+'),
  subtract: between('-'),
  multiply: between('*'),
  divide: call('quotient'),
  maximum: call('larger'),
  minimum: call('smaller'),
  squaredDifference: call('squaredDifference'),
  square: call('squared'),
  negate: ([x]) => `(-(${x}))`,
  absolute: call('abs'),
  relu: call('relu'),
  relu6: call('relu6'),
  step: ([x], alpha) => `stepOf(${x}, ${numeral(alpha)})`,
  sqrt: call('root'),
  rsqrt: call('rootUnder1'),
  reciprocal: ([x]) => `quotient(1f, ${x})`,
  floor: call('floor'),
  ceil: call('ceil'),
  exp: call('exponential'),
  log: call('logarithm'),
  sigmoid: call('sigmoid'),
  softplus: call('softplus'),
  tanh: call('hyperbolicTangent'),
  power: call('powerOf'),
  equal: call('isEqual'),
  notEqual: ([a, b]) => `(1 - isEqual(${a}, ${b}))`,
  less: call('isLess'),
  lessEqual: call('isAtMost'),
  greater: turned('isLess'),
  greaterEqual: turned('isAtMost'),
  addWhole: between('+'),
  subtractWhole: between('-'),
  multiplyWhole: between('*'),
  maximumWhole: call('max'),
  minimumWhole: call('min'),
  equalWhole: compare('=='),
  notEqualWhole: compare('!='),
  lessWhole: compare('<'),
  lessEqualWhole: compare('<='),
  greaterWhole: compare('>'),
  greaterEqualWhole: compare('>='),
  and: between('&'),
  or: between('|'),
  not: ([x]) => `(${x} ^ 1)`,
  select: ([condition, x, y]) => `select(${y}, ${x}, ${condition} != 0)`,
  toFloat: call('f32'),
  toWhole: call('toWhole'),
  // Also what is not a number is not zero.
  isNotZero: ([x]) => `i32((bitcast<u32>(${x}) & 0x7fffffffu) != 0u)`,
  isNotZeroWhole: ([x]) => `i32(${x} != 0)`,
  sign: call('signOf'),
  round: call('rounded'),
  isNan: ([x]) => `i32(isNan(${x}))`,
  isInfinite: ([x]) => `i32(isInfinite(${x}))`,
  isFinite: ([x]) => `i32((bitcast<u32>(${x}) & 0x7f800000u) != 0x7f800000u)`,
  sin: ([x]) => `sineFrom(${x}, 0)`,
  cos: ([x]) => `sineFrom(${x}, 1)`,
  tan: call('tangent'),
  asin: call('arcSine'),
  acos: call('arcCosine'),
  atan: call('arcTangent'),
  atan2: call('angle'),
  sinh: call('hyperbolicSine'),
  cosh: call('hyperbolicCosine'),
  asinh: call('areaSine'),
  acosh: call('areaCosine'),
  atanh: call('areaTangent'),
  erf: call('errorFunction'),
  expm1: call('exponentialLess1'),
  log1p: call('logarithmOf1'),
  elu: call('elu'),
  /** Of dy and y. */
  eluGradient: call('eluGradient'),
  selu: ([x]) => `selu(${x}, ${numeral(scale)}, ${numeral(scaleAlpha)})`,
  leakyRelu: ([x], alpha) => `sloped(${x}, ${numeral(alpha)})`,
  prelu: call('sloped'),
  /** Of x, the lower bound and the upper one. */
  clip: call('clipped'),
  modulo: call('modulo'),
  floorDivide: call('floorOfQuotient'),
  absoluteWhole: call('abs'),
  negateWhole: ([x]) => `(-(${x}))`,
  signWhole: call('sign'),
  squareWhole: ([x]) => `(${x} * ${x})`,
  squaredDifferenceWhole: ([a, b]) => `((${a} - ${b}) * (${a} - ${b}))`,
  clipWhole: ([x, low, high]) => `min(max(${x}, ${low}), ${high})`,
  divideWhole: call('wholeQuotient'),
  floorDivideWhole: call('wholeFloor'),
  moduloWhole: call('wholeModulo'),
  powerWhole: call('wholePower'),
}
