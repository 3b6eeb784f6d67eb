import { tf } from '../../../tf.ts'
import type { Attributes, Trace } from '../../recording/trace.ts'
import type { Graph } from '../graph.ts'
import type { KernelGroup, Lowering } from '../kernel.ts'
import { broadcast } from './binary.ts'
import { castTo } from './casts.ts'

type Build = (graph: Graph, x: string, attributes: Record<string, number>) => string

const one =
  (op: string): Build =>
  (graph, x) =>
    graph.emit(op, [x])

const selu: Build = (graph, x) => {
  const alpha = tf.backend_util.SELU_SCALEALPHA / tf.backend_util.SELU_SCALE
  return graph.emit('Selu', [x], { alpha: { float: alpha }, gamma: { float: tf.backend_util.SELU_SCALE } })
}

const activations: Record<string, Build> = {
  Elu: one('Elu'),
  LeakyRelu: (graph, x, { alpha }) => graph.emit('LeakyRelu', [x], { alpha: { float: alpha! } }),
  Relu: one('Relu'),
  Relu6: (graph, x) => graph.emit('Clip', [x, graph.scalar(0), graph.scalar(6)]),
  Selu: selu,
  Sigmoid: one('Sigmoid'),
  Softplus: one('Softplus'),
  Tanh: one('Tanh'),
}

function traceActivation(kind: string): Trace {
  return ({ x }, attributes, tracer) => {
    const kept = kind === 'LeakyRelu' ? { alpha: attributes.alpha } : undefined
    const dtype = kind === 'LeakyRelu' ? 'float32' : x!.dtype
    return tracer.operation(kind, [x!], [{ shape: x!.shape, dtype }], kept)
  }
}

function lowerActivation(build: Build): Lowering {
  return (operation, graph) => {
    const from = operation.inputs[0]!.dtype
    const to = operation.outputs[0]!.dtype
    const attributes = (operation.attributes ?? {}) as Record<string, number>
    graph.elementwise(operation, ([x]) =>
      castTo(graph, build(graph, castTo(graph, x!, from, 'float32'), attributes), 'float32', to),
    )
  }
}

const prelu: Trace = ({ x, alpha }, _, tracer) =>
  tracer.operation('Prelu', [x!, alpha!], [{ shape: broadcast(x!.shape, alpha!.shape), dtype: 'float32' }])

const lowerPrelu: Lowering = (operation, graph) =>
  graph.elementwise(operation, (names) => {
    const [x, alpha] = names.map((name, i) => castTo(graph, name, operation.inputs[i]!.dtype, 'float32'))
    const negative = graph.emit('Less', [x!, graph.scalar(0)])
    return graph.emit('Where', [negative, graph.emit('Mul', [x!, alpha!]), x!])
  })

const eluGrad: Trace = ({ dy, y }, _, tracer) =>
  tracer.operation('EluGrad', [dy!, y!], [{ shape: y!.shape, dtype: 'float32' }])

const lowerEluGrad: Lowering = (operation, graph) =>
  graph.elementwise(operation, ([dy, y]) => {
    const slope = graph.emit('Mul', [dy!, graph.emit('Add', [y!, graph.scalar(1)])])
    return graph.emit('Where', [graph.emit('GreaterOrEqual', [y!, graph.scalar(0)]), dy!, slope])
  })

/** Over the last axis. */
const softmax: Trace = ({ logits }, _, tracer) =>
  tracer.operation('Softmax', [logits!], [{ shape: logits!.shape, dtype: 'float32' }])

const lowerSoftmax: Lowering = (operation, graph) => {
  const name = castTo(graph, graph.plain(operation, 0), operation.inputs[0]!.dtype, 'float32')
  graph.result(operation, graph.emit('Softmax', [name], { axis: -1 }))
}

const kernelOf: Record<string, string> = {
  elu: 'Elu',
  leakyrelu: 'LeakyRelu',
  relu: 'Relu',
  relu6: 'Relu6',
  sigmoid: 'Sigmoid',
  prelu: 'Prelu',
}

export const activation: KernelGroup = {
  traces: {
    ...Object.fromEntries(Object.keys(activations).map((kind) => [kind, traceActivation(kind)])),
    EluGrad: eluGrad,
    Prelu: prelu,
    Softmax: softmax,
  },
  lowerings: {
    ...Object.fromEntries(Object.entries(activations).map(([kind, build]) => [kind, lowerActivation(build)])),
    EluGrad: lowerEluGrad,
    Prelu: lowerPrelu,
    Softmax: lowerSoftmax,
  },
}

/** The trace of the activation that fused kernels name, and its attributes; undefined where there is none. */
export function fusedActivation({ activation: name, leakyreluAlpha }: Attributes) {
  if (!name || name === 'linear') return undefined
  return { trace: activation.traces[kernelOf[name as string]!]!, attributes: { alpha: leakyreluAlpha } }
}
