import type { FormulaName } from '../graph/formulas.ts'
import { compare, compareIntegers } from './operands.ts'
import type { Writer } from './writer.ts'

/** Writes to = f(args) for 16 numbers; `spare` gives a vector for what comes in between. Masks 2 and up are free. */
type Formula = (w: Writer, to: number, args: readonly number[], spare: () => number, parameter: number) => void

type Vector3 = Parameters<Writer['a']['v']>[0]

const plain =
  (name: Vector3): Formula =>
  ({ a }, to, [x, y]) =>
    a.v(name, to, x!, y!)

/** The larger or smaller one; what is not a number remains so. */
const extreme =
  (name: 'maxps' | 'minps'): Formula =>
  ({ a }, to, [x, y]) => {
    a.vcmp('cmpps', 2, x!, x!, compare.unordered)
    a.v(name, to, x!, y!)
    setNaN(a, to, 2)
  }

function setNaN(a: Writer['a'], to: number, mask: number): void {
  // 0 / 0, without a constant: all bits set are not a number.
  a.v('pxord', to, to, to, { mask })
  a.v('divps', to, to, to, { mask })
}

const bools =
  (name: 'cmpps' | 'pcmpd', predicate: number): Formula =>
  (w, to, [x, y]) => {
    w.a.vcmp(name, 2, x!, y!, predicate)
    one(w, to, 2)
  }

/** 1 where the mask is set, else 0, as whole numbers. */
function one(w: Writer, to: number, mask: number): void {
  w.a.v('pxord', to, to, to)
  w.a.v('pord', to, to, w.integer(1), { mask, repeat: true })
}

function exp(w: Writer, to: number, x: number, spare: () => number): void {
  const { a } = w
  const [n, p] = [spare(), spare()]
  const load = (register: number, value: number) => a.v1('broadcastss', register, w.float(value))
  // Beyond these the result is 0 or infinite; what is not a number passes, since the second operand wins.
  load(n, 200)
  a.v('minps', to, n, x)
  load(n, -200)
  a.v('maxps', to, n, to)
  a.v('mulps', n, to, w.float(Math.LOG2E), { repeat: true })
  a.v1n('rndscaleps', n, n, 8)
  a.v('fnmadd231ps', to, n, w.float(0.693359375), { repeat: true })
  a.v('fnmadd231ps', to, n, w.float(-2.1219444e-4), { repeat: true })
  load(p, 1.98756915e-4)
  for (const c of [1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1, 1, 1])
    a.v('fmadd213ps', p, to, w.float(c), { repeat: true })
  a.v('scalefps', to, p, n)
}

/** Cephes' logf: the mantissa in [sqrt(1/2), sqrt(2)), a polynomial, and the exponent times ln 2 in two parts. */
function log(w: Writer, to: number, x: number, spare: () => number): void {
  const { a } = w
  const [e, f, p] = [spare(), spare(), spare()]
  a.v1('getexpps', e, x)
  a.v1n('getmantps', f, x, 8)
  a.v1('broadcastss', p, w.float(Math.SQRT2))
  a.vcmp('cmpps', 2, f, p, compare.gt)
  a.v('mulps', f, f, w.float(0.5), { mask: 2, repeat: true })
  a.v('addps', e, e, w.float(1), { mask: 2, repeat: true })
  a.v('subps', f, f, w.float(1), { repeat: true })
  a.v1('broadcastss', p, w.float(7.0376836292e-2))
  const terms = [-1.151461031e-1, 1.167699874e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1]
  for (const c of [...terms, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1])
    a.v('fmadd213ps', p, f, w.float(c), { repeat: true })
  // f - f^2 / 2 + f^3 p + e ln 2
  a.v('mulps', to, f, f)
  a.v('mulps', p, p, to)
  a.v('mulps', p, p, f)
  a.v('fmadd231ps', p, e, w.float(-2.1219444e-4), { repeat: true })
  a.v('fnmadd231ps', p, to, w.float(0.5), { repeat: true })
  a.v('addps', p, p, f)
  a.v('fmadd231ps', p, e, w.float(0.693359375), { repeat: true })
  // Of 0 and infinity the exponent is infinite, and so is the result.
  a.v('subps', to, e, e)
  a.vcmp('cmpps', 2, to, to, compare.unordered)
  a.v('addps', p, e, f, { mask: 2 })
  a.v1('movups', to, p)
}

function constantOver(w: Writer, to: number, value: number, x: number, spare: () => number): void {
  const c = spare()
  w.a.v1('broadcastss', c, w.float(value))
  w.a.v('divps', to, c, x)
}

const sign = -(2 ** 31)

export const formulas: Readonly<Partial<Record<FormulaName, Formula>>> = {
  copy: ({ a }, to, [x]) => {
    if (to !== x) a.v1('movups', to, x!)
  },
  add: plain('addps'),
  subtract: plain('subps'),
  multiply: plain('mulps'),
  divide: plain('divps'),
  maximum: extreme('maxps'),
  minimum: extreme('minps'),
  squaredDifference: ({ a }, to, [x, y]) => {
    a.v('subps', to, x!, y!)
    a.v('mulps', to, to, to)
  },
  square: ({ a }, to, [x]) => a.v('mulps', to, x!, x!),
  negate: (w, to, [x]) => w.a.v('pxord', to, x!, w.integer(sign), { repeat: true }),
  absolute: (w, to, [x]) => w.a.v('pandd', to, x!, w.integer(0x7fffffff), { repeat: true }),
  relu: ({ a }, to, [x], spare) => {
    const zero = spare()
    a.v('pxord', zero, zero, zero)
    a.v('maxps', to, zero, x!)
  },
  relu6: (w, to, [x], spare) => {
    const bound = spare()
    w.a.v('pxord', bound, bound, bound)
    w.a.v('maxps', to, bound, x!)
    w.a.v1('broadcastss', bound, w.float(6))
    w.a.v('minps', to, bound, to)
  },
  /** 1 above 0, else the parameter; what is not a number remains so. */
  step: (w, to, [x], spare, alpha) => {
    const [result, zero] = [spare(), spare()]
    w.a.v('pxord', zero, zero, zero)
    w.a.v1('broadcastss', result, w.float(alpha))
    w.a.vcmp('cmpps', 2, x!, zero, compare.gt)
    w.a.v1('broadcastss', result, w.float(1), { mask: 2 })
    w.a.vcmp('cmpps', 2, x!, x!, compare.unordered)
    w.a.v('blendmps', to, result, x!, { mask: 2 })
  },
  sqrt: ({ a }, to, [x]) => a.v1('sqrtps', to, x!),
  rsqrt: (w, to, [x], spare) => {
    w.a.v1('sqrtps', to, x!)
    constantOver(w, to, 1, to, spare)
  },
  reciprocal: (w, to, [x], spare) => constantOver(w, to, 1, x!, spare),
  floor: ({ a }, to, [x]) => a.v1n('rndscaleps', to, x!, 9),
  ceil: ({ a }, to, [x]) => a.v1n('rndscaleps', to, x!, 10),
  exp: (w, to, [x], spare) => exp(w, to, x!, spare),
  log: (w, to, [x], spare) => log(w, to, x!, spare),
  sigmoid: (w, to, [x], spare) => {
    const t = spare()
    w.a.v('pxord', t, x!, w.integer(sign), { repeat: true })
    exp(w, t, t, spare)
    w.a.v('addps', t, t, w.float(1), { repeat: true })
    constantOver(w, to, 1, t, spare)
  },
  /** log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|)), and log1p(t) = log(u) t / (u - 1) with u = 1 + t (Kahan). */
  softplus: (w, to, [x], spare) => {
    const { a } = w
    const [t, u, zero] = [spare(), spare(), spare()]
    a.v('pord', t, x!, w.integer(sign), { repeat: true })
    exp(w, t, t, spare)
    a.v('addps', u, t, w.float(1), { repeat: true })
    a.v1('broadcastss', zero, w.float(1))
    a.vcmp('cmpps', 4, u, zero, compare.neq)
    a.v('subps', zero, u, zero)
    a.v('divps', zero, t, zero, { mask: 4 })
    log(w, u, u, spare)
    // Where u is 1, log1p(t) is t.
    a.v('mulps', t, u, zero, { mask: 4 })
    a.v('pxord', zero, zero, zero)
    a.v('maxps', zero, zero, x!)
    a.v('addps', to, t, zero)
  },
  /** Cephes' tanhf: an odd polynomial near 0, else 1 - 2 / (exp(2 |x|) + 1) with the sign of x. */
  tanh: (w, to, [x], spare) => {
    const { a } = w
    const [size, far, near, squared] = [spare(), spare(), spare(), spare()]
    a.v('pandd', size, x!, w.integer(0x7fffffff), { repeat: true })
    a.v('addps', far, size, size)
    exp(w, far, far, spare)
    a.v('addps', far, far, w.float(1), { repeat: true })
    a.v1('broadcastss', near, w.float(-2))
    a.v('divps', far, near, far)
    a.v('addps', far, far, w.float(1), { repeat: true })
    a.v('pandd', near, x!, w.integer(sign), { repeat: true })
    a.v('pord', far, far, near)
    a.v('mulps', squared, x!, x!)
    a.v1('broadcastss', near, w.float(-5.70498872745e-3))
    for (const c of [2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1])
      a.v('fmadd213ps', near, squared, w.float(c), { repeat: true })
    a.v('mulps', near, near, squared)
    a.v('fmadd213ps', near, x!, x!)
    a.v1('broadcastss', squared, w.float(0.625))
    a.vcmp('cmpps', 2, size, squared, compare.lt)
    a.v('blendmps', to, far, near, { mask: 2 })
  },
  /** x ^ y = exp(y log |x|), with the sign of x where y is odd; nothing where x is negative, not infinite, and y not whole. */
  power: (w, to, [x, y], spare) => {
    const { a } = w
    const [result, t, u] = [spare(), spare(), spare()]
    a.v('pandd', result, x!, w.integer(0x7fffffff), { repeat: true })
    log(w, result, result, spare)
    a.v('mulps', result, result, y!)
    exp(w, result, result, spare)
    a.v('pxord', t, t, t)
    a.vcmp('cmpps', 2, x!, t, compare.lt)
    a.v1n('rndscaleps', t, y!, 8)
    a.vcmp('cmpps', 3, y!, t, compare.neq, 2)
    a.kandn(2, 3, 2)
    a.v1('broadcastss', u, w.float(Number.NEGATIVE_INFINITY))
    a.vcmp('cmpps', 3, x!, u, compare.neq, 3)
    a.v('mulps', t, y!, w.float(0.5), { repeat: true })
    a.v1n('rndscaleps', u, t, 8)
    a.vcmp('cmpps', 2, t, u, compare.neq, 2)
    a.v('pxord', result, result, w.integer(sign), { mask: 2, repeat: true })
    setNaN(a, result, 3)
    // Anything to the power 0 is 1.
    a.v('pxord', t, t, t)
    a.vcmp('cmpps', 2, y!, t, compare.eq)
    a.v1('broadcastss', result, w.float(1), { mask: 2 })
    a.v1('movups', to, result)
  },
  equal: bools('cmpps', compare.eq),
  notEqual: bools('cmpps', compare.neq),
  less: bools('cmpps', compare.lt),
  lessEqual: bools('cmpps', compare.le),
  greater: bools('cmpps', compare.gt),
  greaterEqual: bools('cmpps', compare.ge),
  addWhole: plain('paddd'),
  subtractWhole: plain('psubd'),
  multiplyWhole: plain('pmulld'),
  maximumWhole: plain('pmaxsd'),
  minimumWhole: plain('pminsd'),
  equalWhole: bools('pcmpd', compareIntegers.eq),
  notEqualWhole: bools('pcmpd', compareIntegers.neq),
  lessWhole: bools('pcmpd', compareIntegers.lt),
  lessEqualWhole: bools('pcmpd', compareIntegers.le),
  greaterWhole: bools('pcmpd', compareIntegers.gt),
  greaterEqualWhole: bools('pcmpd', compareIntegers.ge),
  and: plain('pandd'),
  or: plain('pord'),
  not: (w, to, [x]) => w.a.v('pxord', to, x!, w.integer(1), { repeat: true }),
  /** args[1] where args[0] is true, else args[2]. */
  select: (w, to, [condition, x, y], spare) => {
    const zero = spare()
    w.a.v('pxord', zero, zero, zero)
    w.a.vcmp('pcmpd', 2, condition!, zero, compareIntegers.neq)
    w.a.v('blendmps', to, y!, x!, { mask: 2 })
  },
  toFloat: ({ a }, to, [x]) => a.v1('cvtdq2ps', to, x!),
  /** As JavaScript does it: cut towards zero, modulo 2^32, and 0 where it is infinite or not a number. */
  toWhole: (w, to, [x], spare) => {
    const { a } = w
    const [turns, rest] = [spare(), spare()]
    a.v('mulps', turns, x!, w.float(2 ** -32), { repeat: true })
    a.v('addps', turns, turns, w.float(0.5), { repeat: true })
    a.v1n('rndscaleps', turns, turns, 9)
    a.v1('movups', rest, x!)
    a.v('fnmadd231ps', rest, turns, w.float(2 ** 32), { repeat: true })
    a.vcmp('cmpps', 2, rest, rest, compare.ordered)
    a.v1('cvttps2dq', to, rest, { mask: 2, zero: true })
  },
  isNotZero: (w, to, [x], spare) => {
    const zero = spare()
    w.a.v('pxord', zero, zero, zero)
    w.a.vcmp('cmpps', 2, x!, zero, compare.neq)
    one(w, to, 2)
  },
  isNotZeroWhole: (w, to, [x], spare) => {
    const zero = spare()
    w.a.v('pxord', zero, zero, zero)
    w.a.vcmp('pcmpd', 2, x!, zero, compareIntegers.neq)
    one(w, to, 2)
  },
}
