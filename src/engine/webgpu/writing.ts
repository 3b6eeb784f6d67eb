import { known, type Numbers, refuseFailed, type Value } from '../recording/record.ts'
import type { GpuBlock, Purpose } from './buffers.ts'
import type { World } from './world.ts'

/** What a value's memory is for, where there is no room for it. */
export const tensorOf = ({ shape }: Value): Purpose => ({ name: `a tensor [${shape.join(', ')}]`, shape })

/** Words of the numbers, as the device has them. */
function wordsOf(numbers: Numbers): Float32Array | Int32Array {
  return numbers instanceof Uint8Array ? Int32Array.from(numbers) : numbers
}

/** What is brought there, and what it is for. */
type Upload = { words: Float32Array | Int32Array; what: Purpose }

/** Blocks with these words. */
export async function upload(all: readonly Upload[], { buffers }: World, batch?: number): Promise<GpuBlock[]> {
  const wanted = all.map(({ words, what }) => ({ bytes: words.byteLength, what }))
  const blocks = await buffers.take(wanted, batch)
  for (const [i, { words }] of all.entries()) buffers.write(blocks[i]!, words)
  return blocks
}

/** Copies the numbers of leaves to the device that are not there yet. Throws what kept one from being computed. */
export async function bringToDevice(leaves: readonly Value[], world: World, batch?: number): Promise<void> {
  // Whatever it has, nothing is computed from what failed.
  for (const leaf of leaves) refuseFailed(leaf)
  const absent = [...new Set(leaves)].filter(({ block }) => !block)
  const wanted = absent.map((leaf) => ({ leaf, words: wordsOf(known(leaf)), what: tensorOf(leaf) }))
  const { buffers } = world
  for (const { leaf, words } of wanted) if (words.length === 1) leaf.block = buffers.single(words)
  const brought = wanted.filter(({ leaf }) => !leaf.block)
  const blocks = await upload(brought, world, batch)
  for (const [i, { leaf, words }] of brought.entries()) {
    leaf.block = blocks[i]
    if (words.length === 1) buffers.keepSingle(words, blocks[i]!)
  }
}
