import type { TensorInfo } from '@tensorflow/tfjs-core'
import { tf } from '../../../tf.ts'
import type { Trace } from '../../recording/trace.ts'
import type { KernelGroup } from '../kernel.ts'

/** scale (x - mean) / sqrt(variance + epsilon) + offset, as operations that the graph computes in one pass. */
const fusedBatchNorm: Trace = (inputs, attributes, tracer) => {
  const { x, mean, variance, scale, offset } = inputs
  const combine = (kind: string, a: TensorInfo, b: TensorInfo) => {
    const shape = tf.backend_util.assertAndGetBroadcastShape(a.shape, b.shape)
    return tracer.operation(kind, [a, b], [{ shape, dtype: 'float32' }])[0]!
  }
  const made: TensorInfo[] = []
  const keep = (info: TensorInfo) => {
    made.push(info)
    return info
  }
  const epsilon = keep(tracer.leaf(Float32Array.of(attributes.varianceEpsilon as number), [], 'float32'))
  const steady = keep(combine('Add', variance!, epsilon))
  const inverse = keep(tracer.operation('Rsqrt', [steady], [{ shape: steady.shape, dtype: 'float32' }])[0]!)
  const factor = scale ? keep(combine('Multiply', inverse, scale)) : inverse
  const moved = keep(combine('Multiply', mean!, factor))
  const scaled = keep(combine('Multiply', x!, factor))
  const centred = combine('Sub', scaled, moved)
  const result = offset ? combine('Add', keep(centred), offset) : centred
  for (const info of made) tracer.release(info)
  return result
}

export const normalisation: KernelGroup = { traces: { FusedBatchNorm: fusedBatchNorm }, lowerings: {} }
