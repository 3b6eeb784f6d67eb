import type { tf } from '../../../tf.ts'
import type { Attributes, Trace, Tracer } from '../../recording/trace.ts'

type TensorInfo = tf.TensorInfo

/** A kernel that is recorded as several others: all they make is released but the last result. */
export function compose(
  tracer: Tracer,
  build: (
    call: (trace: Trace, inputs: Record<string, TensorInfo>, attributes?: Attributes) => TensorInfo,
  ) => TensorInfo,
): TensorInfo {
  const made: TensorInfo[] = []
  const result = build((trace, inputs, attributes = {}) => {
    const results = trace(inputs, attributes, tracer)
    const info = Array.isArray(results) ? results[0]! : results!
    made.push(info)
    return info
  })
  for (const info of made) if (info !== result) tracer.release(info)
  return result
}
