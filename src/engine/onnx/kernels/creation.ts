import { tf } from '../../../tf.ts'
import type { Dtype } from '../../recording/record.ts'
import { sizeOf } from '../../recording/shape.ts'
import type { Trace, Tracer } from '../../recording/trace.ts'
import type { KernelGroup, Lowering } from '../kernel.ts'

const arrays = { float32: Float32Array, int32: Int32Array, bool: Uint8Array }

/** Up to so many numbers of a known kind are part of the graph; a runtime may keep these for as long as it keeps that. */
const fewNumbers = 256

/** The number is an input, so that another one needs no other graph. */
function filled(tracer: Tracer, shape: number[], value: number, dtype: Dtype) {
  const size = sizeOf(shape)
  if (size <= 1) return tracer.leaf(new arrays[dtype](size).fill(value), shape, dtype)
  const single = tracer.leaf(arrays[dtype].of(value), [], dtype)
  const made = tracer.operation('Fill', [single], [{ shape, dtype }])
  tracer.release(single)
  return made
}

/** As many zeros or ones, which nobody has to bring to where the graph is computed. */
function alike(tracer: Tracer, { shape, dtype }: tf.TensorInfo, value: number) {
  const size = sizeOf(shape)
  if (size <= 1 || size > fewNumbers) return filled(tracer, shape, value, dtype as Dtype)
  return tracer.operation('Fill', [], [{ shape, dtype }], { value })
}

const fill: Trace = (_, { shape, value, dtype }, tracer) => {
  const type = (dtype ?? tf.util.inferDtype(value as number)) as tf.DataType
  if (type === 'string' || type === 'complex64') return undefined
  return filled(tracer, shape as number[], Number(value), type)
}

const lowerFill: Lowering = (operation, graph) => {
  const { shape, dtype } = operation.outputs[0]!
  const { value } = (operation.attributes ?? {}) as { value?: number }
  const single = value === undefined ? graph.plain(operation, 0) : graph.constant(dtype, [], [value])
  graph.result(operation, graph.emit('Expand', [single, graph.integers(shape)]))
}

export const creation: KernelGroup = {
  traces: {
    Fill: fill,
    OnesLike: ({ x }, _, tracer) => alike(tracer, x!, 1),
    ZerosLike: ({ x }, _, tracer) => alike(tracer, x!, 0),
  },
  lowerings: { Fill: lowerFill },
}
