import { tf } from '../../../tf.ts'
import type { Dtype } from '../../recording/record.ts'
import { sizeOf } from '../../recording/shape.ts'
import type { Trace, Tracer } from '../../recording/trace.ts'
import type { KernelGroup, Lowering } from '../kernel.ts'

const arrays = { float32: Float32Array, int32: Int32Array, bool: Uint8Array }

/** Up to so many equal numbers are fed as they are; more are made from one. */
const fewNumbers = 256

/** The number is an input, so that another one needs no other graph. */
function filled(tracer: Tracer, shape: number[], value: number, dtype: Dtype) {
  const numbers = (size: number) => new arrays[dtype](size).fill(value)
  const size = sizeOf(shape)
  if (size <= fewNumbers) return tracer.leaf(numbers(size), shape, dtype)
  const single = tracer.leaf(numbers(1), [], dtype)
  const made = tracer.operation('Fill', [single], [{ shape, dtype }])
  tracer.release(single)
  return made
}

const fill: Trace = (_, { shape, value, dtype }, tracer) => {
  const type = (dtype ?? tf.util.inferDtype(value as number)) as tf.DataType
  if (type === 'string' || type === 'complex64') return undefined
  return filled(tracer, shape as number[], Number(value), type)
}

const lowerFill: Lowering = (operation, graph) => {
  const { shape } = operation.outputs[0]!
  graph.result(operation, graph.emit('Expand', [graph.plain(operation, 0), graph.integers(shape)]))
}

export const creation: KernelGroup = {
  traces: {
    Fill: fill,
    OnesLike: ({ x }, _, tracer) => filled(tracer, x!.shape, 1, x!.dtype as Dtype),
    ZerosLike: ({ x }, _, tracer) => filled(tracer, x!.shape, 0, x!.dtype as Dtype),
  },
  lowerings: { Fill: lowerFill },
}
