import { tf } from '../../../tf.ts'
import { type Dtype, type Operation, Value } from '../../recording/record.ts'
import { sizeOf } from '../../recording/shape.ts'
import type { Attributes, Trace, Tracer } from '../../recording/trace.ts'
import { elementTypes } from '../emitter.ts'
import type { Graph } from '../graph.ts'
import type { KernelGroup, Lowering } from '../kernel.ts'
import { castTo } from './casts.ts'

type TensorInfo = tf.TensorInfo

interface Reduction {
  op: Parameters<Graph['reduce']>[1]
  /** The type in which it is computed, and that of the result. */
  within: (dtype: Dtype) => Dtype
  result: (dtype: Dtype) => Dtype
  /** Of no numbers, as the cpu backend of tfjs has it. */
  ofNone: number
}

const same = (dtype: Dtype): Dtype => dtype
const numeric = (dtype: Dtype): Dtype => (dtype === 'bool' ? 'int32' : dtype)
const float = (): Dtype => 'float32'
const whole = (): Dtype => 'int32'

const reductions: Record<string, Reduction> = {
  All: { op: 'ReduceMin', within: whole, result: same, ofNone: 0 },
  Any: { op: 'ReduceMax', within: whole, result: same, ofNone: 0 },
  Max: { op: 'ReduceMax', within: numeric, result: same, ofNone: Number.NaN },
  Mean: { op: 'ReduceMean', within: float, result: float, ofNone: 0 },
  Min: { op: 'ReduceMin', within: numeric, result: same, ofNone: Number.NaN },
  Prod: { op: 'ReduceProd', within: numeric, result: numeric, ofNone: 1 },
  Sum: { op: 'ReduceSum', within: numeric, result: numeric, ofNone: 0 },
}

const arrays = { float32: Float32Array, int32: Int32Array, bool: Uint8Array }

function converted(x: TensorInfo, dtype: Dtype, tracer: Tracer): TensorInfo {
  if (x.dtype === dtype) return tracer.view(x, x.shape)
  return tracer.operation('Cast', [x], [{ shape: x.shape, dtype }])[0]!
}

function axesOf(attributes: Attributes, shape: number[]): number[] {
  const axis = (attributes.reductionIndices ?? attributes.axis) as number | number[]
  return tf.util.parseAxisParam(axis, shape).sort((a, b) => a - b)
}

function without(shape: readonly number[], axes: readonly number[], keepDims: boolean): number[] {
  if (keepDims) return shape.map((side, i) => (axes.includes(i) ? 1 : side))
  return shape.filter((_, i) => !axes.includes(i))
}

function traceReduction(kind: string, { within, result, ofNone }: Reduction): Trace {
  return ({ x }, attributes, tracer) => {
    const axes = axesOf(attributes, x!.shape)
    const keepDims = Boolean(attributes.keepDims)
    const dtype = x!.dtype as Dtype
    const to = result(dtype)
    const shape = without(x!.shape, axes, keepDims)
    if (sizeOf(x!.shape) === 0) return tracer.leaf(new arrays[to](sizeOf(shape)).fill(ofNone), shape, to)
    if (axes.length === 0) return converted(x!, to, tracer)
    const operand = converted(x!, within(dtype), tracer)
    const outputs = [{ shape, dtype: operand.dtype }]
    const [made] = tracer.operation(kind, [operand], outputs, { axes, keepDims })
    tracer.release(operand)
    if (made!.dtype === to) return made!
    const fitted = converted(made!, to, tracer)
    tracer.release(made!)
    return fitted
  }
}

function lowerReduction({ op }: Reduction): Lowering {
  return (operation, graph) => {
    const { axes, keepDims } = operation.attributes as { axes: number[]; keepDims: boolean }
    graph.reduce(operation, op, axes, keepDims)
    const extreme = op === 'ReduceMax' || op === 'ReduceMin'
    if (extreme && operation.inputs[0]!.dtype === 'float32') keepMissing(operation, graph, axes, keepDims)
  }
}

/**
 * The runtime's largest and smallest numbers may pass over what is no number, its sums do not: where the sum is none,
 * so is the extreme. That is so too of infinities of both signs, where tfjs finds one of them.
 */
function keepMissing(operation: Operation, graph: Graph, axes: readonly number[], keepDims: boolean): void {
  const [extreme] = operation.outputs as [Value]
  const { shape } = extreme
  const total = new Value(shape, 'float32')
  graph.reduce({ ...operation, outputs: [total] }, 'ReduceSum', axes, keepDims)
  graph.elementwise({ ...operation, inputs: [extreme, total], shapes: [shape, shape] }, ([found, sum]) =>
    graph.emit('Where', [graph.emit('IsNaN', [sum!]), sum!, found!]),
  )
}

function traceExtreme(kind: 'ArgMax' | 'ArgMin'): Trace {
  return ({ x }, attributes, tracer) => {
    const axis = tf.util.parseAxisParam(attributes.axis as number, x!.shape)[0] ?? 0
    const shape = without(x!.shape, [axis], false)
    if (sizeOf(x!.shape) <= 1) return tracer.leaf(new Int32Array(sizeOf(shape)), shape, 'int32')
    return tracer.operation(kind, [x!], [{ shape, dtype: 'int32' }], { axis })
  }
}

function lowerExtreme(kind: 'ArgMax' | 'ArgMin'): Lowering {
  return (operation, graph) => {
    const { axis } = operation.attributes as { axis: number }
    const from = operation.inputs[0]!.dtype
    const x = castTo(graph, graph.plain(operation, 0), from, from === 'bool' ? 'int32' : from)
    const places = graph.emit(kind, [x], { axis, keepdims: 0 })
    graph.result(operation, graph.emit('Cast', [places], { to: elementTypes.int32 }))
  }
}

/** Running sums and products along one axis. */
function traceRunning(kind: 'Cumsum' | 'Cumprod'): Trace {
  return ({ x }, { axis, exclusive, reverse }, tracer) => {
    const dtype = numeric(x!.dtype as Dtype)
    const operand = converted(x!, dtype, tracer)
    const along = tf.util.parseAxisParam(axis as number, x!.shape)[0]!
    const attributes = { axis: along, exclusive: Boolean(exclusive), reverse: Boolean(reverse) }
    const made = tracer.operation(kind, [operand], [{ shape: x!.shape, dtype }], attributes)
    tracer.release(operand)
    return made
  }
}

interface Running {
  axis: number
  exclusive: boolean
  reverse: boolean
}

const lowerCumsum: Lowering = (operation, graph) => {
  const { axis, exclusive, reverse } = operation.attributes as unknown as Running
  const inputs = [graph.plain(operation, 0), graph.constant('int64', [], [axis])]
  graph.result(operation, graph.emit('CumSum', inputs, { exclusive: exclusive ? 1 : 0, reverse: reverse ? 1 : 0 }))
}

/** By doubling: what has the product of 1, 2, 4, ... numbers is multiplied by that of as many before them. */
const lowerCumprod: Lowering = (operation, graph) => {
  const { axis, exclusive, reverse } = operation.attributes as unknown as Running
  const { shape, dtype } = operation.outputs[0]!
  const side = shape[axis]!
  const shifted = (name: string, by: number) => {
    const [from, to] = reverse ? [by, side] : [0, side - by]
    const kept = graph.emit('Slice', [name, graph.integers([from]), graph.integers([to]), graph.integers([axis])])
    // Said for every axis: the runtime moves transpositions past what is padded on some only, and gets it wrong.
    const before = shape.map((_, i) => (i === axis && !reverse ? by : 0))
    const after = shape.map((_, i) => (i === axis && reverse ? by : 0))
    return graph.emit('Pad', [kept, graph.integers([...before, ...after]), graph.scalar(1, dtype)])
  }
  let name = graph.plain(operation, 0)
  if (exclusive) name = shifted(name, 1)
  for (let by = 1; by < side; by *= 2) name = graph.emit('Mul', [name, shifted(name, by)])
  graph.result(operation, name)
}

export const reduction: KernelGroup = {
  traces: {
    ...Object.fromEntries(Object.entries(reductions).map(([kind, form]) => [kind, traceReduction(kind, form)])),
    ArgMax: traceExtreme('ArgMax'),
    ArgMin: traceExtreme('ArgMin'),
    Cumprod: traceRunning('Cumprod'),
    Cumsum: traceRunning('Cumsum'),
  },
  lowerings: {
    ...Object.fromEntries(Object.entries(reductions).map(([kind, form]) => [kind, lowerReduction(form)])),
    ArgMax: lowerExtreme('ArgMax'),
    ArgMin: lowerExtreme('ArgMin'),
    Cumprod: lowerCumprod,
    Cumsum: lowerCumsum,
  },
}
