import { InvalidDefinition } from '../errors.ts'
import { disarrange, foreignShape } from '../models/weights/layout.ts'
import { byAxes, ruleOf } from '../models/weights/name-map.ts'
import { presets } from '../models/weights/presets.ts'
import { learnedTensors } from './learned-tensors.ts'
import type { ObjectStore } from './objects.ts'
import { encodeHeader } from './safetensors.ts'
import { streamTensors, toFloats } from './tensor-stream.ts'

interface Renamed {
  name: string
  shape: readonly number[]
  turn(data: Float32Array): Float32Array
}

const same = (name: string, shape: readonly number[]): Renamed => ({ name, shape, turn: (data) => data })

/** Our names to those of a preset; a tensor that has none there is undefined. */
function renaming(preset: string) {
  const map = presets[preset]!
  const byOurs = new Map(Object.entries(map.tensors).map(([theirs, given]) => [ruleOf(given).to, { theirs, given }]))
  return (name: string, ours: readonly number[]): Renamed | undefined => {
    const found = byOurs.get(name)
    if (!found) return undefined
    const { layout = byAxes(ours.length), cells } = ruleOf(found.given)
    const arrangement = { layout, cells: cells as [number, number] | undefined }
    const shape = foreignShape(arrangement, ours)
    return shape && { name: found.theirs, shape, turn: (data) => disarrange(arrangement, ours, data) }
  }
}

/**
 * A checkpoint's weights and statistics as a safetensors file, without the optimiser's slots, under their own names or
 * a preset's; what a preset has no name for is left out. Throws InvalidDefinition where the file would lack a tensor
 * of the preset's net.
 */
export async function exportWeights(
  objects: ObjectStore,
  checkpoint: { key: string; size: number; fileSha256: string },
  { preset, classifies }: { preset: string | undefined; classifies: boolean },
  facts: Record<string, string>,
): Promise<AsyncGenerator<Uint8Array>> {
  const rename = preset === undefined ? same : renaming(preset)
  const renamed = new Map<string, Renamed>()
  for (const [name, { ours, shape }] of await learnedTensors(objects, checkpoint, 'the checkpoint')) {
    // A head that tells no classes apart is not what others mean by one.
    if (preset !== undefined && !classifies && ours.startsWith('weights/head/')) continue
    const made = rename(ours, shape)
    if (made) renamed.set(name, made)
  }
  if (preset !== undefined) assertWhole(preset, new Set([...renamed.values()].map(({ name }) => name)))
  const entries = [...renamed.values()].map(
    ({ name, shape }) => [name, { dtype: 'F32', shape }] as [string, { dtype: 'F32'; shape: readonly number[] }],
  )
  async function* pieces() {
    yield encodeHeader(entries, facts)
    for await (const { tensor, bytes } of streamTensors(objects, checkpoint, (name) => renamed.has(name))) {
      const { buffer, byteOffset, byteLength } = renamed.get(tensor.name)!.turn(toFloats(tensor, bytes))
      yield new Uint8Array(buffer, byteOffset, byteLength)
    }
  }
  return pieces()
}

function assertWhole(preset: string, names: ReadonlySet<string>): void {
  const { tensors, optional = [] } = presets[preset]!
  const missing = Object.keys(tensors).filter((name) => !names.has(name) && !optional.includes(name))
  if (missing.length === 0) return
  const faults = missing.map((name) => ({
    pointer: `/names/${name}`,
    detail: `the checkpoint has no ${ruleOf(tensors[name]!).to} for it: its net is not that of '${preset}'`,
  }))
  throw new InvalidDefinition(faults.slice(0, 100), 'the export')
}
