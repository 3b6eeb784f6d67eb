import { Damaged } from '../errors.ts'
import type { ObjectStore } from './objects.ts'
import { type PlacedTensor, readHeader } from './tensor-stream.ts'

/** A tensor of a checkpoint that features depend on, under the name that a learner has for it. */
export interface LearnedTensor extends PlacedTensor {
  ours: string
}

/**
 * What a checkpoint holds of a learner, by its header: weights (their average where one was kept) and memory, without
 * what the optimiser remembers. By the names in the file. Throws Damaged where that does not read back.
 */
export async function learnedTensors(
  objects: ObjectStore,
  { key, size }: { key: string; size: number },
  what: string,
): Promise<Map<string, LearnedTensor>> {
  const header = await readHeader(objects, key, size)
  if (typeof header === 'string')
    throw new Damaged(`${what} does not read back: ${header}`, 'restore it from a copy, or name another')
  const averaged = new Set(header.tensors.flatMap(({ name }) => (name.startsWith('average/') ? [name.slice(8)] : [])))
  const entries = header.tensors.flatMap((tensor): [string, LearnedTensor][] => {
    const [, part, own = ''] = /^(weights|memory|average)\/(.+)$/s.exec(tensor.name) ?? []
    if (part === undefined || (part === 'weights' && averaged.has(own))) return []
    return [[tensor.name, { ...tensor, ours: `${part === 'average' ? 'weights' : part}/${own}` }]]
  })
  return new Map(entries)
}
