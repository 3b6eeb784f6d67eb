import { tf, type Variable } from '../tf.ts'
import type { StoredTensor } from './checkpoint.ts'
import type { Learner } from './method.ts'

type Stateful = Pick<Learner, 'weights' | 'memory'>

/** What a learner has learned and remembers, by the names in checkpoints. */
function partsOf({ weights, memory }: Stateful): Map<string, Variable | Float32Array> {
  return new Map<string, Variable | Float32Array>([
    ...Object.entries(weights).map(([name, part]) => [`weights/${name}`, part] as const),
    ...Object.entries(memory).map(([name, part]) => [`memory/${name}`, part] as const),
  ])
}

/** Shapes by the names in checkpoints. */
export function shapesOf(learner: Stateful): Record<string, readonly number[]> {
  const entries = [...partsOf(learner)].map(([name, part]) => [
    name,
    part instanceof Float32Array ? [part.length] : part.shape,
  ])
  return Object.fromEntries(entries)
}

/** Sets one part of a learner. The tensor has to be of 32-bit floats and of its shape. */
export function putTensor(learner: Stateful, name: string, { data, shape }: StoredTensor): void {
  const part = partsOf(learner).get(name)
  const size = part instanceof Float32Array ? part.length : part?.size
  if (!part || !(data instanceof Float32Array) || data.length !== size)
    throw new RangeError(`the learner has no tensor ${name} of shape [${shape}]`)
  if (part instanceof Float32Array) part.set(data)
  else tf.tidy(() => part.assign(tf.tensor(data, part.shape)))
}
