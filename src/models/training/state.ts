import { Damaged } from '../../errors.ts'
import { type Tensor, tf, type Variable } from '../../tf.ts'
import type { Checkpoint, StoredTensor } from '../checkpoint.ts'
import type { Learner } from '../method.ts'
import type { Average } from './average.ts'
import type { LossScale } from './loss-scale.ts'
import type { Stepper } from './optimizer.ts'

type Part = Variable | Float32Array

/** What accompanies a learner while it is trained. */
export interface Companions {
  stepper?: Stepper | undefined
  average?: Average | undefined
  lossScale?: LossScale | undefined
}

/** Everything that changes in a training, under the names it has in a checkpoint. */
function parts(
  learner: Pick<Learner, 'weights' | 'memory'>,
  { stepper, average, lossScale }: Companions,
): Record<string, Part> {
  const named: Record<string, Part> = {}
  for (const [name, weight] of Object.entries(learner.weights)) named[`weights/${name}`] = weight
  for (const [name, memory] of Object.entries(learner.memory)) named[`memory/${name}`] = memory
  for (const [name, slot] of Object.entries(stepper?.slots ?? {})) named[`optimizer/${name}`] = slot
  for (const [name, value] of Object.entries(average?.values ?? {})) named[`average/${name}`] = value
  for (const [name, value] of Object.entries(lossScale?.values ?? {})) named[`loss-scale/${name}`] = value
  return named
}

async function store(part: Part): Promise<StoredTensor> {
  if (part instanceof Float32Array) return { dtype: 'F32', shape: [part.length], data: part.slice() }
  return { dtype: 'F32', shape: [...part.shape], data: (await part.data()) as Float32Array }
}

/** A copy of the whole state. */
export async function takeState(
  learner: Pick<Learner, 'weights' | 'memory'>,
  companions: Companions = {},
): Promise<Checkpoint['tensors']> {
  const named = Object.entries(parts(learner, companions))
  // All are asked for before one is waited for.
  const stored = await Promise.all(named.map(([, part]) => store(part)))
  return Object.fromEntries(named.map(([name], i) => [name, stored[i]!]))
}

/**
 * Puts a checkpoint's state into a learner and those that accompany it. Throws Damaged where a tensor is
 * missing or of another shape; nothing is changed then.
 */
export function restoreState(
  checkpoint: Checkpoint,
  learner: Pick<Learner, 'weights' | 'memory'>,
  companions: Companions = {},
): void {
  const found = Object.entries(parts(learner, companions)).map(([name, part]) => {
    const stored = checkpoint.tensors[name]
    const shape = part instanceof Float32Array ? [part.length] : part.shape
    if (!(stored?.data instanceof Float32Array) || !tf.util.arraysEqual([...stored.shape], shape))
      throw new Damaged(
        `the checkpoint of step ${checkpoint.step} has no tensor '${name}' of shape [${shape}]`,
        'it belongs to another definition: start the run anew',
      )
    return { part, data: stored.data, shape }
  })
  for (const { part, data, shape } of found) {
    if (part instanceof Float32Array) part.set(data)
    else tf.tidy(() => part.assign(tf.tensor(data, shape) as Tensor))
  }
}
