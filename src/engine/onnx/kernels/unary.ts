import type { Dtype } from '../../recording/record.ts'
import type { Trace } from '../../recording/trace.ts'
import type { Graph } from '../graph.ts'
import type { KernelGroup, Lowering } from '../kernel.ts'
import { castTo } from './casts.ts'

type Build = (graph: Graph, x: string, attributes: Record<string, number>) => string

const one =
  (op: string): Build =>
  (graph, x) =>
    graph.emit(op, [x])

/** exp(x) - 1, by way of tanh where exp(x) is close to 1: 2 t / (1 - t) with t = tanh(x / 2). */
const expm1: Build = (graph, x) => {
  const t = graph.emit('Tanh', [graph.emit('Mul', [x, graph.scalar(0.5)])])
  const twice = graph.emit('Add', [t, t])
  const near = graph.emit('Div', [twice, graph.emit('Sub', [graph.scalar(1), t])])
  const far = graph.emit('Sub', [graph.emit('Exp', [x]), graph.scalar(1)])
  const small = graph.emit('Less', [graph.emit('Abs', [x]), graph.scalar(0.5)])
  return graph.emit('Where', [small, near, far])
}

/** log(1 + x) = 2 atanh(x / (2 + x)) where x is close to 0. */
const log1p: Build = (graph, x) => {
  const inner = graph.emit('Div', [x, graph.emit('Add', [x, graph.scalar(2)])])
  const half = graph.emit('Atanh', [inner])
  const far = graph.emit('Log', [graph.emit('Add', [x, graph.scalar(1)])])
  const small = graph.emit('Less', [graph.emit('Abs', [x]), graph.scalar(0.5)])
  return graph.emit('Where', [small, graph.emit('Add', [half, half]), far])
}

/** 1 above 0, else alpha: a steep slope between 0 and 1, so that what is not a number remains so. */
const step: Build = (graph, x, { alpha }) => {
  const above = graph.emit('HardSigmoid', [x], { alpha: { float: 3.4e38 }, beta: { float: 0 } })
  if (!alpha) return above
  return graph.emit('Add', [graph.emit('Mul', [above, graph.scalar(1 - alpha)]), graph.scalar(alpha)])
}

const finite: Build = (graph, x) => {
  const difference = graph.emit('Sub', [x, x])
  return graph.emit('Not', [graph.emit('IsNaN', [difference])])
}

const square: Build = (graph, x) => graph.emit('Mul', [x, x])

const rsqrt: Build = (graph, x) => graph.emit('Reciprocal', [graph.emit('Sqrt', [x])])

interface Unary {
  build: Build
  /** Whether whole numbers are computed as such; else as floats, cut to whole ones. */
  whole?: boolean
  /** The result's type; default that of the operand. */
  result?: Dtype
}

const whole = (build: Build): Unary => ({ build, whole: true })
const float = (build: Build): Unary => ({ build })

const unaries: Record<string, Unary> = {
  Abs: whole(one('Abs')),
  Acos: float(one('Acos')),
  Acosh: float(one('Acosh')),
  Asin: float(one('Asin')),
  Asinh: float(one('Asinh')),
  Atan: float(one('Atan')),
  Atanh: float(one('Atanh')),
  Ceil: float(one('Ceil')),
  Cos: float(one('Cos')),
  Cosh: float(one('Cosh')),
  Erf: float(one('Erf')),
  Exp: { build: one('Exp'), result: 'float32' },
  Expm1: float(expm1),
  Floor: float(one('Floor')),
  IsFinite: { build: finite, result: 'bool' },
  IsInf: { build: one('IsInf'), result: 'bool' },
  IsNan: { build: one('IsNaN'), result: 'bool' },
  Log: float(one('Log')),
  Log1p: float(log1p),
  Neg: whole(one('Neg')),
  Reciprocal: float(one('Reciprocal')),
  Round: float(one('Round')),
  Rsqrt: float(rsqrt),
  Sign: whole(one('Sign')),
  Sin: float(one('Sin')),
  Sinh: float(one('Sinh')),
  Sqrt: float(one('Sqrt')),
  Square: whole(square),
  Step: float(step),
  Tan: float(one('Tan')),
}

const predicates = new Set(['IsFinite', 'IsInf', 'IsNan'])

function traceUnary(kind: string, { result }: Unary): Trace {
  return ({ x }, attributes, tracer) => {
    const alpha = attributes.alpha as number | undefined
    return tracer.operation(kind, [x!], [{ shape: x!.shape, dtype: result ?? x!.dtype }], alpha ? { alpha } : undefined)
  }
}

function lowerUnary(kind: string, { build, whole }: Unary): Lowering {
  return (operation, graph) => {
    const from = operation.inputs[0]!.dtype
    const to = operation.outputs[0]!.dtype
    const within = whole && from !== 'bool' ? from : whole ? 'int32' : 'float32'
    const attributes = (operation.attributes ?? {}) as Record<string, number>
    graph.elementwise(operation, ([x]) => {
      const made = build(graph, castTo(graph, x!, from, within), attributes)
      return predicates.has(kind) ? made : castTo(graph, made, within, to)
    })
  }
}

const logicalNot: Lowering = (operation, graph) => {
  const from = operation.inputs[0]!.dtype
  graph.elementwise(operation, ([x]) => graph.emit('Not', [castTo(graph, x!, from, 'bool')]))
}

const traceCast: Trace = ({ x }, { dtype }, tracer) => {
  if (dtype === 'complex64') return undefined
  const to = dtype as Dtype
  return x!.dtype === to ? tracer.view(x!, x!.shape) : tracer.operation('Cast', [x!], [{ shape: x!.shape, dtype: to }])
}

const lowerCast: Lowering = (operation, graph) => {
  const from = operation.inputs[0]!.dtype
  const to = operation.outputs[0]!.dtype
  graph.elementwise(operation, ([x]) => castTo(graph, x!, from, to))
}

export const unary: KernelGroup = {
  traces: {
    ...Object.fromEntries(Object.entries(unaries).map(([kind, form]) => [kind, traceUnary(kind, form)])),
    LogicalNot: ({ x }, _, tracer) => tracer.operation('LogicalNot', [x!], [{ shape: x!.shape, dtype: 'bool' }]),
    Cast: traceCast,
  },
  lowerings: {
    ...Object.fromEntries(Object.entries(unaries).map(([kind, form]) => [kind, lowerUnary(kind, form)])),
    LogicalNot: logicalNot,
    Cast: lowerCast,
  },
}
