// TEMPORARY
import type { FormulaName } from '../graph/formulas.ts'

type F = (a: readonly string[], p: number) => string
const bin =
  (o: string): F =>
  ([x, y]) =>
    `(${x} ${o} ${y})`
const cmp =
  (o: string): F =>
  ([x, y]) =>
    `i32(${x} ${o} ${y})`
const fn =
  (n: string): F =>
  (a) =>
    `${n}(${a.join(', ')})`
export const preamble: Record<string, string> = {}
export const formulas: Record<FormulaName, F> = {
  copy: ([x]) => x!,
  add: bin('+'),
  subtract: bin('-'),
  multiply: bin('*'),
  divide: bin('/'),
  maximum: fn('max'),
  minimum: fn('min'),
  squaredDifference: ([x, y]) => `((${x} - ${y}) * (${x} - ${y}))`,
  square: ([x]) => `(${x} * ${x})`,
  negate: ([x]) => `(-${x})`,
  absolute: fn('abs'),
  relu: ([x]) => `max(${x}, 0.0f)`,
  relu6: ([x]) => `clamp(${x}, 0.0f, 6.0f)`,
  step: ([x], p) => `select(${p}f, 1.0f, ${x} > 0.0f)`,
  sqrt: fn('sqrt'),
  rsqrt: ([x]) => `(1.0f / sqrt(${x}))`,
  reciprocal: ([x]) => `(1.0f / ${x})`,
  floor: fn('floor'),
  ceil: fn('ceil'),
  exp: fn('exp'),
  log: fn('log'),
  sigmoid: ([x]) => `(1.0f / (1.0f + exp(-${x})))`,
  softplus: ([x]) => `(max(${x}, 0.0f) + log(1.0f + exp(-abs(${x}))))`,
  tanh: fn('tanh'),
  power: fn('pow'),
  equal: cmp('=='),
  notEqual: cmp('!='),
  less: cmp('<'),
  lessEqual: cmp('<='),
  greater: cmp('>'),
  greaterEqual: cmp('>='),
  addWhole: bin('+'),
  subtractWhole: bin('-'),
  multiplyWhole: bin('*'),
  maximumWhole: fn('max'),
  minimumWhole: fn('min'),
  equalWhole: cmp('=='),
  notEqualWhole: cmp('!='),
  lessWhole: cmp('<'),
  lessEqualWhole: cmp('<='),
  greaterWhole: cmp('>'),
  greaterEqualWhole: cmp('>='),
  and: bin('&'),
  or: bin('|'),
  not: ([x]) => `(1i - ${x})`,
  select: ([c, x, y]) => `select(${y}, ${x}, ${c} != 0i)`,
  toFloat: fn('f32'),
  toWhole: fn('i32'),
  isNotZero: ([x]) => `i32(${x} != 0.0f)`,
  isNotZeroWhole: ([x]) => `i32(${x} != 0i)`,
}
