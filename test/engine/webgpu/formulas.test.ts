import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { FormulaName } from '../../../src/engine/graph/formulas.ts'
import { Nodes } from '../../../src/engine/graph/node.ts'
import { formulas } from '../../../src/engine/webgpu/formulas.ts'
import { preambleOf } from '../../../src/engine/webgpu/preamble.ts'
import { groupsFor } from '../../../src/engine/webgpu/shader.ts'
import { tf } from '../../../src/tf.ts'
import { numbers, oddities } from '../onnx/parity.ts'
import { RawDevice } from './raw.ts'

type Compute = (...args: number[]) => number

const { fround, sign, PI } = Math
const truth = (is: boolean) => (is ? 1 : 0)
const { SELU_SCALE: scale, SELU_SCALEALPHA: scaleAlpha } = tf.backend_util

/** tfjs rounds halves to even numbers. */
function rounded(x: number): number {
  const low = Math.floor(x)
  if (x - low !== 0.5) return Math.round(x)
  return low % 2 === 0 ? low : low + 1
}

function modulo(a: number, b: number): number {
  const rest = a % b
  return (a < 0 && b < 0) || (a >= 0 && b >= 0) ? rest : (rest + b) % b
}

function gamma(x: number): number {
  // The series of the error function, to the last place of a double for what is small enough to sum.
  let [term, sum] = [x, x]
  for (let n = 1; n < 120; n++) {
    term *= (-x * x) / n
    sum += term / (2 * n + 1)
  }
  return (2 / Math.sqrt(PI)) * sum
}

const erf = (x: number) => (Math.abs(x) < 4 ? gamma(x) : Number.isNaN(x) ? x : sign(x))

/** As tfjs' cpu backend computes them, by the number of operands. */
const ofOne: Partial<Record<FormulaName, Compute>> = {
  copy: (x) => x,
  square: (x) => x * x,
  negate: (x) => -x,
  absolute: Math.abs,
  relu: (x) => Math.max(0, x),
  relu6: (x) => Math.min(Math.max(0, x), 6),
  step: (x) => (Number.isNaN(x) ? x : x > 0 ? 1 : 0.25),
  sqrt: Math.sqrt,
  rsqrt: (x) => 1 / Math.sqrt(x),
  reciprocal: (x) => 1 / x,
  floor: Math.floor,
  ceil: Math.ceil,
  exp: Math.exp,
  log: Math.log,
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  softplus: (x) => (x > 30 ? x : Math.log1p(Math.exp(x))),
  tanh: Math.tanh,
  sign: (x) => (x < 0 ? -1 : x > 0 ? 1 : 0),
  round: rounded,
  sin: (x) => (Math.abs(x) < 1e5 || !Number.isFinite(x) ? Math.sin(x) : Number.NEGATIVE_INFINITY),
  cos: (x) => (Math.abs(x) < 1e5 || !Number.isFinite(x) ? Math.cos(x) : Number.NEGATIVE_INFINITY),
  tan: (x) => (Math.abs(x) < 1e5 || !Number.isFinite(x) ? Math.tan(x) : Number.NEGATIVE_INFINITY),
  asin: Math.asin,
  acos: Math.acos,
  atan: Math.atan,
  sinh: Math.sinh,
  cosh: Math.cosh,
  asinh: Math.asinh,
  acosh: Math.acosh,
  atanh: Math.atanh,
  erf,
  expm1: Math.expm1,
  log1p: Math.log1p,
  elu: (x) => (x >= 0 ? x : Math.expm1(x)),
  selu: (x) => (x >= 0 ? scale * x : scaleAlpha * Math.expm1(x)),
  leakyRelu: (x) => (x < 0 ? 0.25 * x : x),
}

const truthsOfOne: Partial<Record<FormulaName, Compute>> = {
  toWhole: (x) => x | 0,
  isNotZero: (x) => truth(x !== 0),
  isNan: (x) => truth(Number.isNaN(x)),
  isInfinite: (x) => truth(Math.abs(x) === Number.POSITIVE_INFINITY),
  isFinite: (x) => truth(Number.isFinite(x)),
}

const ofTwo: Partial<Record<FormulaName, Compute>> = {
  add: (a, b) => a + b,
  subtract: (a, b) => a - b,
  multiply: (a, b) => a * b,
  divide: (a, b) => a / b,
  maximum: Math.max,
  minimum: Math.min,
  squaredDifference: (a, b) => (a - b) * (a - b),
  power: (a, b) => a ** b,
  atan2: Math.atan2,
  eluGradient: (dy, y) => (y >= 0 ? dy : dy * (y + 1)),
  prelu: (x, alpha) => (x < 0 ? alpha * x : x),
  modulo,
  floorDivide: (a, b) => Math.floor(a / b),
}

const truthsOfTwo: Partial<Record<FormulaName, Compute>> = {
  equal: (a, b) => truth(a === b),
  notEqual: (a, b) => truth(a !== b),
  less: (a, b) => truth(a < b),
  lessEqual: (a, b) => truth(a <= b),
  greater: (a, b) => truth(a > b),
  greaterEqual: (a, b) => truth(a >= b),
}

const wholeOfTwo: Partial<Record<FormulaName, Compute>> = {
  addWhole: (a, b) => (a + b) | 0,
  subtractWhole: (a, b) => (a - b) | 0,
  multiplyWhole: Math.imul,
  maximumWhole: Math.max,
  minimumWhole: Math.min,
  equalWhole: (a, b) => truth(a === b),
  notEqualWhole: (a, b) => truth(a !== b),
  lessWhole: (a, b) => truth(a < b),
  lessEqualWhole: (a, b) => truth(a <= b),
  greaterWhole: (a, b) => truth(a > b),
  greaterEqualWhole: (a, b) => truth(a >= b),
  and: (a, b) => a & b,
  or: (a, b) => a | b,
  divideWhole: (a, b) => (a / b) | 0,
  floorDivideWhole: (a, b) => Math.floor(a / b) | 0,
  moduloWhole: (a, b) => modulo(a, b) | 0,
  squaredDifferenceWhole: (a, b) => Math.imul(a - b, a - b),
}

const wholeOfOne: Partial<Record<FormulaName, Compute>> = {
  absoluteWhole: (a) => Math.abs(a) | 0,
  negateWhole: (a) => -a | 0,
  signWhole: sign,
  squareWhole: (a) => Math.imul(a, a),
  isNotZeroWhole: (a) => truth(a !== 0),
}

/** Single numbers of which there is a formula for three operands, or of special ones. */
const others: Partial<Record<FormulaName, true>> = {
  clip: true,
  clipWhole: true,
  not: true,
  powerWhole: true,
  select: true,
  toFloat: true,
}

const edges = [0, 1, -1, 7, -7, 3, -2, 65536, 2147483647, -2147483648]
const wide = [1e-3, 3e-3, 0.02, 0.3, 0.7, 1.5, 4, 9.5, 20, 60, 87, 100, 1000, 31415, 2147483520, 3e9, 7e12]
const single = [
  ...oddities,
  ...wide,
  ...wide.map((x) => -x),
  ...numbers(500),
  ...numbers(300, 3).map((x) => 20 * x),
].map(fround)
const few = [...oddities, 0.1, 3, 7, -9, 1234.5, 6e-5]
const pairs = [
  ...few.flatMap((a) => few.map((b) => [a, b])),
  ...numbers(300, 5).map((a, i) => [a, numbers(300, 6)[i]! * 3]),
].map(([a, b]) => [fround(a!), fround(b!)] as const)
const wholePairs = edges.flatMap((a) => edges.map((b) => [a, b] as const))

/** How far a formula may be from the exact number: in parts of it, and at least in parts of 1 where it nears a zero of its own. */
const bounds: Partial<Record<FormulaName, [relative: number, absolute: number]>> = {
  sin: [3e-7, 2e-6],
  cos: [3e-7, 2e-6],
  tan: [2e-6, 4e-6],
  acos: [5e-7, 2e-7],
  log: [3e-7, 1e-7],
  atan2: [6e-7, 0],
  asinh: [6e-7, 0],
  acosh: [2e-6, 0],
  power: [2e-5, 0],
  erf: [5e-7, 0],
}

function check(name: FormulaName, args: readonly number[], got: number, exact: number): void {
  const wanted = fround(exact)
  const text = `${name}(${args.join(', ')}) is ${got}, not ${wanted}`
  if (got === wanted || Object.is(got, wanted)) return
  // So far from 0 only that there is a number is certain.
  if (Number.isNaN(got) ? false : wanted === Number.NEGATIVE_INFINITY && ['sin', 'cos', 'tan'].includes(name)) return
  const [relative, absolute] = bounds[name] ?? [8e-7, 0]
  // What is too small for a float of full precision may be 0, and what is too large infinite.
  const close = Math.abs(got - wanted) <= Math.max(relative * Math.abs(wanted), absolute, 2.4e-38)
  if (!close) expect(got, text).toBe(wanted)
}

describe('formulas in WGSL', () => {
  let device: RawDevice

  beforeAll(async () => {
    device = await RawDevice.open()
  })

  afterAll(() => device.close())

  /** All formulas of a table of the same numbers, in one shader. */
  async function results(
    names: readonly FormulaName[],
    args: readonly (readonly number[])[],
    from: boolean,
    to: boolean,
  ) {
    const nodes = new Nodes(1)
    const count = args.length
    const width = args[0]!.length
    const x = nodes.leaf(0, [count, width], from ? 'int32' : 'float32')
    const y = nodes.leaf(1, [names.length, count], to ? 'int32' : 'float32')
    const operands = Array.from({ length: width }, (_, i) => `x[${width}u * at + ${i}u]`)
    const lines = names.map((name, i) => `y[${i * count}u + at] = ${formulas[name](operands, 0.25)};`)
    const code = `@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
      let at = id.x;
      if (at >= ${count}u) { return; }
      ${lines.join('\n')}
    }`
    const shader = {
      label: 'formulas',
      bound: [
        { name: 'x', of: x, element: from ? 'i32' : 'f32' },
        { name: 'y', of: y, element: to ? 'i32' : 'f32', writes: true },
      ] as const,
      code: preambleOf(code) + code,
      groups: groupsFor(Math.ceil(count / 64)),
    }
    const given = (from ? Int32Array : Float32Array).from(args.flat())
    return device.run([shader], new Map([[x, given]]), y)
  }

  async function compare(
    table: Partial<Record<FormulaName, Compute>>,
    args: readonly (readonly number[])[],
    [from, to]: [boolean, boolean],
  ) {
    const names = Object.keys(table) as FormulaName[]
    const got = await results(names, args, from, to)
    for (const [i, name] of names.entries())
      for (const [j, operands] of args.entries())
        check(name, operands, got[i * args.length + j]!, table[name]!(...operands))
  }

  it('are those of tfjs for one number', async () => {
    await compare(
      ofOne,
      single.map((x) => [x]),
      [false, false],
    )
    await compare(
      truthsOfOne,
      single.map((x) => [x]),
      [false, true],
    )
  })

  it('are those of tfjs for two numbers', async () => {
    await compare(ofTwo, pairs, [false, false])
    await compare(truthsOfTwo, pairs, [false, true])
  })

  it('are those of tfjs for whole numbers', async () => {
    await compare(wholeOfTwo, wholePairs, [true, true])
    await compare(
      wholeOfOne,
      edges.map((x) => [x]),
      [true, true],
    )
    const small = [-3, -1, 0, 1, 2, 5].flatMap((a) => [-2, -1, 0, 1, 2, 3, 9].map((b) => [a, b]))
    await compare({ powerWhole: (a, b) => (a ** b) | 0 }, small, [true, true])
    await compare(
      { toFloat: (x) => x },
      edges.map((x) => [x]),
      [true, false],
    )
    await compare({ not: (x) => 1 - x }, [[0], [1]], [true, true])
  })

  it('are those of tfjs for three numbers', async () => {
    const bounded = (x: number, low: number, high: number) => (x > high ? high : x < low ? low : x)
    const triples = single.map((x) => [x, -1.5, 0.75])
    await compare({ clip: bounded }, triples, [false, false])
    const whole = edges.map((x) => [x, -2, 5])
    await compare({ clipWhole: bounded, select: (c, x, y) => (c ? x : y) }, whole, [true, true])
  })

  it('are all in a table of this test', () => {
    const tables = [ofOne, truthsOfOne, ofTwo, truthsOfTwo, wholeOfTwo, wholeOfOne, others]
    const tested = tables.flatMap((table) => Object.keys(table))
    expect(Object.keys(formulas).filter((name) => !tested.includes(name))).toEqual([])
  })
})
