import { tf } from '../../../tf.ts'
import type { Dtype } from '../../recording/record.ts'
import { sizeOf } from '../../recording/shape.ts'
import type { Trace } from '../../recording/trace.ts'
import { elementTypes } from '../emitter.ts'
import type { Graph } from '../graph.ts'
import type { KernelGroup, Lowering } from '../kernel.ts'
import { castTo } from './casts.ts'
import { compose } from './composition.ts'

const toInt64 = (graph: Graph, name: string) => graph.emit('Cast', [name], { to: elementTypes.int64 })

const gather: Trace = ({ x, indices }, attributes, tracer) => {
  const axis = tf.util.parseAxisParam(attributes.axis as number, x!.shape)[0]!
  const batchDims = (attributes.batchDims as number | undefined) ?? 0
  const shapes = tf.backend_util.segment_util.collectGatherOpShapeInfo(
    x as tf.Tensor,
    indices as tf.Tensor,
    axis,
    batchDims,
  )
  const { batchSize, outerSize, dimSize, sliceSize, outputShape } = shapes
  const output = { shape: outputShape, dtype: x!.dtype }
  if (batchDims === 0) return tracer.operation('Gather', [x!, indices!], [output], { axis })
  const seen = [
    { ...x!, shape: [batchSize, outerSize, dimSize, sliceSize] },
    { ...indices!, shape: [batchSize, sizeOf(indices!.shape) / batchSize, 1] },
  ]
  return tracer.operation('GatherInBatches', seen, [output])
}

const lowerGather: Lowering = (operation, graph) => {
  const { axis } = operation.attributes as { axis: number }
  const places = castTo(graph, graph.plain(operation, 1), operation.inputs[1]!.dtype, 'int32')
  graph.result(operation, graph.emit('Gather', [graph.plain(operation, 0), places], { axis }))
}

/** From x [batch, outer, n, slice], at places [batch, m, 1]: [batch, outer, m, slice]. */
const lowerGatherInBatches: Lowering = (operation, graph) => {
  const places = toInt64(graph, graph.plain(operation, 1))
  const rows = graph.transpose(graph.plain(operation, 0), [0, 2, 1, 3])
  const made = graph.emit('GatherND', [rows, places], { batch_dims: 1 })
  graph.result(operation, graph.reshape(graph.transpose(made, [0, 2, 1, 3]), operation.outputs[0]!.shape))
}

const gatherNd: Trace = ({ params, indices }, _, tracer) => {
  const [shape] = tf.backend_util.prepareAndValidate(params!, indices!)
  return tracer.operation('GatherNd', [params!, indices!], [{ shape, dtype: params!.dtype }])
}

const lowerGatherNd: Lowering = (operation, graph) => {
  const places = toInt64(graph, graph.plain(operation, 1))
  graph.result(operation, graph.emit('GatherND', [graph.plain(operation, 0), places]))
}

/** Rows x [..., d] summed by their ids [...]: [numSegments, d]. Ids out of range are left out by nobody: they must fit. */
const unsortedSegmentSum: Trace = ({ x, segmentIds }, { numSegments }, tracer) => {
  const rest = x!.shape.slice(segmentIds!.shape.length)
  const shape = [numSegments as number, ...rest]
  const [rows, width] = [sizeOf(segmentIds!.shape), sizeOf(rest)]
  const dtype = x!.dtype
  if (rows * width === 0) return tracer.leaf(new Float32Array(sizeOf(shape)), shape, dtype)
  const seen = [
    { ...x!, shape: [rows, width] },
    { ...segmentIds!, shape: [rows] },
  ]
  return tracer.operation('SegmentSum', seen, [{ shape, dtype }])
}

/** Nanoseconds for one multiplication and addition of a product of matrices, and for one sum where it is scattered. */
const productCost = 0.02
const scatterCost = 4

/**
 * Rows [n, d] to the sums of those with the same id [segments, d]. The runtime's scattering sums in parallel without
 * care for equal ids, so rows of one id are summed beforehand, by a product with the matrix of which ids are equal,
 * or all by a product with one-hot ids; many rows for many ids are scattered number by number, which is done in turn.
 */
export function segmentSum(graph: Graph, rows: string, ids: string, n: number, d: number, segments: number): string {
  const byProduct = productCost * d + 1
  const [apart, together, scattered] = [n * n * byProduct, n * segments * byProduct, n * d * scatterCost]
  const zeros = () => graph.emit('Expand', [graph.scalar(0), graph.integers([segments, d])])
  const equal = (a: string, b: string) => {
    const alike = graph.emit('Equal', [a, b])
    return graph.emit('Cast', [alike], { to: elementTypes.float32 })
  }
  if (together <= Math.min(apart, scattered)) {
    const all = graph.constant(
      'int32',
      [segments, 1],
      Int32Array.from({ length: segments }, (_, i) => i),
    )
    return graph.emit('Gemm', [equal(all, graph.reshape(ids, [1, n])), rows])
  }
  if (apart <= scattered) {
    const sums = graph.emit('Gemm', [equal(graph.reshape(ids, [n, 1]), graph.reshape(ids, [1, n])), rows])
    return graph.emit('ScatterND', [zeros(), toInt64(graph, graph.reshape(ids, [n, 1])), sums])
  }
  const places = graph.emit('Expand', [toInt64(graph, graph.reshape(ids, [n, 1])), graph.integers([n, d])])
  return graph.emit('ScatterElements', [zeros(), places, rows], { axis: 0, reduction: 'add' })
}

const lowerSegmentSum: Lowering = (operation, graph) => {
  const [n, d] = operation.shapes[0] as [number, number]
  const { shape, dtype } = operation.outputs[0]!
  const rows = castTo(graph, graph.plain(operation, 0), operation.inputs[0]!.dtype, 'float32')
  const ids = castTo(graph, graph.plain(operation, 1), operation.inputs[1]!.dtype, 'int32')
  const made = segmentSum(graph, rows, ids, n, d, sizeOf(shape) / d)
  graph.result(operation, graph.reshape(castTo(graph, made, 'float32', dtype), shape))
}

/** Sums the updates at places [n, r] in a tensor of zeros: rows by the number of their place. */
const scatterNd: Trace = ({ indices, updates }, attributes, tracer) => {
  const shape = attributes.shape as number[]
  const info = tf.backend_util.calculateShapes(updates as tf.Tensor, indices as tf.Tensor, shape)
  const { sliceRank, numUpdates, sliceSize } = info
  const dtype = updates!.dtype
  if (numUpdates * sliceSize === 0) return tracer.leaf(new Float32Array(sizeOf(shape)), shape, dtype)
  const seen = [
    { ...updates!, shape: [numUpdates, sliceSize] },
    { ...indices!, shape: [numUpdates, sliceRank] },
  ]
  return tracer.operation('ScatterNd', seen, [{ shape, dtype }])
}

const lowerScatterNd: Lowering = (operation, graph) => {
  const [n, d] = operation.shapes[0] as [number, number]
  const rank = operation.shapes[1]![1]!
  const { shape, dtype } = operation.outputs[0]!
  const places = castTo(graph, graph.plain(operation, 1), operation.inputs[1]!.dtype, 'int32')
  const strides = Int32Array.from({ length: rank }, (_, axis) => sizeOf(shape.slice(axis + 1, rank)))
  const parts = graph.emit('Mul', [places, graph.constant('int32', [rank], strides)])
  const ids = graph.emit('ReduceSum', [parts, graph.integers([1])], { keepdims: 0 })
  const rows = castTo(graph, graph.plain(operation, 0), operation.inputs[0]!.dtype, 'float32')
  const made = segmentSum(graph, rows, ids, n, d, sizeOf(shape) / d)
  graph.result(operation, graph.reshape(castTo(graph, made, 'float32', dtype), shape))
}

/** Puts updates in the place of what is there. */
const scatterUpdate: Trace = ({ tensor, indices, updates }, _, tracer) => {
  if (sizeOf(updates!.shape) === 0) return tracer.view(tensor!, tensor!.shape)
  const output = { shape: tensor!.shape, dtype: tensor!.dtype }
  return tracer.operation('TensorScatterUpdate', [tensor!, indices!, updates!], [output])
}

const lowerScatterUpdate: Lowering = (operation, graph) => {
  const [base, indices, updates] = [0, 1, 2].map((i) => graph.plain(operation, i)) as [string, string, string]
  graph.result(operation, graph.emit('ScatterND', [base, toInt64(graph, indices), updates]))
}

/** The same in a tensor of one number; the number is an input. */
const sparseToDense: Trace = ({ sparseIndices, sparseValues, defaultValue }, attributes, tracer) => {
  const shape = attributes.outputShape as number[]
  const [indices, values] = [sparseIndices!, sparseValues!]
  const info = tf.backend_util.calculateShapes(values as tf.Tensor, indices as tf.Tensor, shape)
  const seen = { ...indices, shape: [info.numUpdates, info.sliceRank] }
  const rows = { ...values, shape: [info.numUpdates, ...shape.slice(info.sliceRank)] }
  return compose(tracer, (call) => {
    const filled: Trace = (_, __, inner) => inner.operation('Fill', [defaultValue!], [{ shape, dtype: values.dtype }])
    const tensor = call(filled, {})
    return call(scatterUpdate, { tensor, indices: seen, updates: rows })
  })
}

const oneHot: Trace = ({ indices }, { dtype, depth, onValue, offValue }, tracer) => {
  const shape = [...indices!.shape, depth as number]
  const seen = { ...indices!, shape: [...indices!.shape, 1] }
  return tracer.operation('OneHot', [seen], [{ shape, dtype: dtype as Dtype }], { onValue, offValue })
}

/** By comparison with 0, 1, ...: indices out of range leave all off. */
const lowerOneHot: Lowering = (operation, graph) => {
  const { onValue, offValue } = operation.attributes as { onValue: number; offValue: number }
  const { shape, dtype } = operation.outputs[0]!
  const depth = shape.at(-1)!
  const indices = castTo(graph, graph.plain(operation, 0), operation.inputs[0]!.dtype, 'int32')
  const all = graph.constant(
    'int32',
    [depth],
    Int32Array.from({ length: depth }, (_, i) => i),
  )
  const alike = graph.emit('Equal', [indices, all])
  const plain = onValue === 1 && offValue === 0
  const [on, off] = [graph.scalar(onValue, dtype), graph.scalar(offValue, dtype)]
  graph.result(operation, plain ? castTo(graph, alike, 'bool', dtype) : graph.emit('Where', [alike, on, off]))
}

const topK: Trace = ({ x }, { k, sorted }, tracer) => {
  const shape = [...x!.shape.slice(0, -1), k as number]
  const outputs = [
    { shape, dtype: x!.dtype },
    { shape, dtype: 'int32' as const },
  ]
  return tracer.operation('TopK', [x!], outputs, { sorted: Boolean(sorted) })
}

const lowerTopK: Lowering = (operation, graph) => {
  const { sorted } = operation.attributes as { sorted: boolean }
  const { shape, dtype } = operation.outputs[0]!
  const within = dtype === 'bool' ? 'int32' : dtype
  const inputs = [castTo(graph, graph.plain(operation, 0), dtype, within), graph.integers([shape.at(-1)!])]
  const [values, places] = graph.emitMany('TopK', inputs, 2, { axis: -1, sorted: sorted ? 1 : 0 })
  graph.result(operation, castTo(graph, values!, within, dtype), 0)
  graph.result(operation, graph.emit('Cast', [places!], { to: elementTypes.int32 }), 1)
}

export const selection: KernelGroup = {
  traces: {
    GatherNd: gatherNd,
    GatherV2: gather,
    OneHot: oneHot,
    ScatterNd: scatterNd,
    SparseToDense: sparseToDense,
    TensorScatterUpdate: scatterUpdate,
    TopK: topK,
    UnsortedSegmentSum: unsortedSegmentSum,
  },
  lowerings: {
    Gather: lowerGather,
    GatherInBatches: lowerGatherInBatches,
    GatherNd: lowerGatherNd,
    OneHot: lowerOneHot,
    ScatterNd: lowerScatterNd,
    SegmentSum: lowerSegmentSum,
    TensorScatterUpdate: lowerScatterUpdate,
    TopK: lowerTopK,
  },
}
