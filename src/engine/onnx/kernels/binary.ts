import { tf } from '../../../tf.ts'
import type { Dtype } from '../../recording/record.ts'
import { sameShape } from '../../recording/shape.ts'
import type { Trace } from '../../recording/trace.ts'
import type { Graph } from '../graph.ts'
import type { KernelGroup, Lowering } from '../kernel.ts'
import { castTo, inDouble } from './casts.ts'

type Build = (graph: Graph, a: string, b: string) => string

interface Binary {
  build: Build
  /** The type in which it is computed; default that of the operands. */
  within?: (dtype: Dtype) => Dtype
  /** The result's type; default that of the first operand. */
  result?: Dtype
  /** How whole numbers are computed where it is another way. */
  whole?: Build
}

const one =
  (op: string): Build =>
  (graph, a, b) =>
    graph.emit(op, [a, b])

const negated =
  (op: string): Build =>
  (graph, a, b) =>
    graph.emit('Not', [graph.emit(op, [a, b])])

const squaredDifference: Build = (graph, a, b) => {
  const difference = graph.emit('Sub', [a, b])
  return graph.emit('Mul', [difference, difference])
}

/** The remainder with the sign of b. */
const mod: Build = (graph, a, b) => {
  const remainder = (x: string) => graph.emit('Mod', [x, b], { fmod: 1 })
  const zero = graph.scalar(0)
  const first = remainder(a)
  const alike = graph.emit('Equal', [graph.emit('Less', [a, zero]), graph.emit('Less', [b, zero])])
  return graph.emit('Where', [alike, first, remainder(graph.emit('Add', [first, b]))])
}

const wholeMod: Build = (graph, a, b) =>
  inDouble(graph, [a, b], ([x, y]) => {
    const times = graph.emit('Floor', [graph.emit('Div', [x!, y!])])
    return graph.emit('Sub', [x!, graph.emit('Mul', [times, y!])])
  })

const floorDiv: Build = (graph, a, b) => graph.emit('Floor', [graph.emit('Div', [a, b])])

/** Division of whole numbers by zero would stop the process. */
const wholeDiv =
  (cut: boolean): Build =>
  (graph, a, b) =>
    inDouble(graph, [a, b], ([x, y]) => {
      const quotient = graph.emit('Div', [x!, y!])
      return cut ? graph.emit('Floor', [quotient]) : quotient
    })

const wholePow: Build = (graph, a, b) => inDouble(graph, [a, b], ([x, y]) => graph.emit('Pow', [x!, y!]))

/** The angle of the point (x, y): that of the first quadrant, mirrored by the signs, which zeros have too. */
const atan2: Build = (graph, y, x) => {
  const zero = graph.scalar(0)
  const both = (op: string, ...names: [string, string]) => graph.emit(op, names)
  const isNegative = (v: string) => both('Or', both('Less', v, zero), both('Less', graph.emit('Reciprocal', [v]), zero))
  const slope = graph.emit('Abs', [both('Div', y, x)])
  const origin = both('And', both('Equal', y, zero), both('Equal', x, zero))
  const diagonal = both('And', graph.emit('IsInf', [y]), graph.emit('IsInf', [x]))
  const known = graph.emit('Where', [diagonal, graph.scalar(1), slope])
  const base = graph.emit('Atan', [graph.emit('Where', [origin, zero, known])])
  const angle = graph.emit('Where', [isNegative(x), both('Sub', graph.scalar(Math.PI), base), base])
  return graph.emit('Where', [isNegative(y), graph.emit('Neg', [angle]), angle])
}

const comparable = (dtype: Dtype): Dtype => (dtype === 'bool' ? 'int32' : dtype)
const toBool = (): Dtype => 'bool'
const comparison = (build: Build): Binary => ({ build, within: comparable, result: 'bool' })
const logic = (build: Build): Binary => ({ build, within: toBool, result: 'bool' })
const arithmetic = (build: Build, whole?: Build): Binary => ({ build, within: comparable, whole })

const binaries: Record<string, Binary> = {
  Add: arithmetic(one('Add')),
  Atan2: { build: atan2, within: () => 'float32' },
  BitwiseAnd: { build: one('BitwiseAnd') },
  Equal: comparison(one('Equal')),
  FloorDiv: { ...arithmetic(floorDiv, wholeDiv(true)), result: 'int32' },
  Greater: comparison(one('Greater')),
  GreaterEqual: comparison(one('GreaterOrEqual')),
  Less: comparison(one('Less')),
  LessEqual: comparison(one('LessOrEqual')),
  LogicalAnd: logic(one('And')),
  LogicalOr: logic(one('Or')),
  Maximum: arithmetic(one('Max')),
  Minimum: arithmetic(one('Min')),
  Mod: arithmetic(mod, wholeMod),
  Multiply: arithmetic(one('Mul')),
  NotEqual: comparison(negated('Equal')),
  Pow: arithmetic(one('Pow'), wholePow),
  RealDiv: arithmetic(one('Div'), wholeDiv(false)),
  SquaredDifference: arithmetic(squaredDifference),
  Sub: arithmetic(one('Sub')),
}

const kindsOfTruth = new Set(
  Object.entries(binaries).flatMap(([kind, { result }]) => (result === 'bool' ? [kind] : [])),
)

/** The shape of two operands that broadcast. */
export function broadcast(a: readonly number[], b: readonly number[]): readonly number[] {
  if (b.length === 0 || sameShape(a, b)) return a
  return a.length === 0 ? b : tf.backend_util.assertAndGetBroadcastShape(a as number[], b as number[])
}

/** Two operands' type together, as tfjs widens them. */
function widest(a: Dtype, b: Dtype): Dtype {
  if (a === 'float32' || b === 'float32') return 'float32'
  return a === 'int32' || b === 'int32' ? 'int32' : 'bool'
}

export function traceBinary(kind: string): Trace {
  const { result } = binaries[kind]!
  return ({ a, b }, _, tracer) => {
    const shape = broadcast(a!.shape, b!.shape)
    return tracer.operation(kind, [a!, b!], [{ shape, dtype: result ?? a!.dtype }])
  }
}

function lowerBinary(kind: string, { build, within, whole }: Binary): Lowering {
  return (operation, graph) => {
    const [left, right] = operation.inputs.map(({ dtype }) => dtype) as [Dtype, Dtype]
    const common = widest(left, right)
    const type = within?.(common) ?? common
    const form = type === 'int32' && whole ? whole : build
    const to = operation.outputs[0]!.dtype
    graph.elementwise(operation, ([a, b]) => {
      const made = form(graph, castTo(graph, a!, left, type), castTo(graph, b!, right, type))
      return kindsOfTruth.has(kind) ? made : castTo(graph, made, type, to)
    })
  }
}

const addN: Trace = (inputs, _, tracer) => {
  const terms = Object.values(inputs)
  return tracer.operation('AddN', terms, [{ shape: terms[0]!.shape, dtype: terms[0]!.dtype }])
}

/** The runtime sums any number of floats in one pass, but no whole numbers. */
const lowerAddN: Lowering = (operation, graph) => {
  const floats = operation.outputs[0]!.dtype === 'float32'
  graph.elementwise(operation, (names) => {
    if (names.length === 1) return graph.emit('Identity', names)
    if (floats) return graph.emit('Sum', names)
    const { dtype } = operation.outputs[0]!
    const terms = names.map((name) => castTo(graph, name, dtype, 'int32'))
    const sum = terms.reduce((so, term) => graph.emit('Add', [so, term]))
    return castTo(graph, sum, 'int32', dtype)
  })
}

/** A condition of rank 1 chooses among rows. */
const select: Trace = ({ condition, t, e }, _, tracer) => {
  const rows = condition!.shape.length === 1 && t!.shape.length > 1
  const seen = rows ? [condition!.shape[0]!, ...t!.shape.slice(1).fill(1)] : condition!.shape
  const dtype = widest(t!.dtype as Dtype, e!.dtype as Dtype)
  return tracer.operation('Select', [{ ...condition!, shape: seen }, t!, e!], [{ shape: t!.shape, dtype }])
}

const lowerSelect: Lowering = (operation, graph) => {
  const [condition, t, e] = operation.inputs
  const to = operation.outputs[0]!.dtype
  // The runtime chooses among numbers only.
  const within = to === 'bool' ? 'int32' : to
  graph.elementwise(operation, ([c, x, y]) => {
    const chosen = graph.emit('Where', [
      castTo(graph, c!, condition!.dtype, 'bool'),
      castTo(graph, x!, t!.dtype, within),
      castTo(graph, y!, e!.dtype, within),
    ])
    return castTo(graph, chosen, within, to)
  })
}

/** The bounds are inputs, so that other bounds need no other graph. */
const clip: Trace = ({ x }, { clipValueMin, clipValueMax }, tracer) => {
  const dtype = x!.dtype as Dtype
  const bound = (value: unknown) => {
    const values = dtype === 'int32' ? Int32Array.of(value as number) : Float32Array.of(value as number)
    return tracer.leaf(values, [], dtype === 'int32' ? 'int32' : 'float32')
  }
  const [low, high] = [bound(clipValueMin), bound(clipValueMax)]
  const made = tracer.operation('ClipByValue', [x!, low, high], [{ shape: x!.shape, dtype }])
  tracer.release(low)
  tracer.release(high)
  return made
}

const lowerClip: Lowering = (operation, graph) => {
  const from = operation.inputs[0]!.dtype
  const within = operation.inputs[1]!.dtype
  graph.elementwise(operation, ([x, low, high]) =>
    castTo(graph, graph.emit('Clip', [castTo(graph, x!, from, within), low!, high!]), within, from),
  )
}

const lowered = (kind: string): [string, Lowering] => [kind, lowerBinary(kind, binaries[kind]!)]

export const binary: KernelGroup = {
  traces: {
    ...Object.fromEntries(Object.keys(binaries).map((kind) => [kind, traceBinary(kind)])),
    AddN: addN,
    ClipByValue: clip,
    Select: select,
  },
  lowerings: {
    ...Object.fromEntries(Object.keys(binaries).map(lowered)),
    AddN: lowerAddN,
    ClipByValue: lowerClip,
    Select: lowerSelect,
  },
}
