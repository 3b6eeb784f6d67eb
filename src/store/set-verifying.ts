import { createHash } from 'node:crypto'
import { decodeIndex } from '../data/set-index.ts'
import type { SetManifest } from '../data/set-manifest.ts'
import { Damaged, NotFound } from '../errors.ts'
import { bucketPath } from './dataset-bytes.ts'
import { type ObjectStore, readAll } from './objects.ts'

/** What was found of one object of a set. */
export interface Verdict {
  path: string
  bytes: number
  /** What is wrong; absent where it is as it was stored. */
  fault?: string
}

async function judge(objects: ObjectStore, wanted: { path: string; bytes: number; sha256: string }): Promise<Verdict> {
  const { path } = wanted
  const key = path.startsWith(bucketPath) ? path.slice(bucketPath.length) : `datasets/${path}`
  const hash = createHash('sha256')
  let bytes = 0
  try {
    for await (const chunk of await objects.get(key)) {
      hash.update(chunk as Uint8Array)
      bytes += (chunk as Uint8Array).length
    }
  } catch (error) {
    if (error instanceof NotFound) return { path, bytes, fault: 'is not there' }
    if (error instanceof Damaged) return { path, bytes, fault: error.message }
    throw error
  }
  if (bytes !== wanted.bytes) return { path, bytes, fault: `has ${bytes} bytes instead of ${wanted.bytes}` }
  return hash.digest('hex') === wanted.sha256 ? { path, bytes } : { path, bytes, fault: 'its SHA-256 differs' }
}

/** Reads the index and every shard of a set, and compares them with the digests that were recorded. */
export async function* verifySet(
  objects: ObjectStore,
  { index }: SetManifest,
): AsyncGenerator<Verdict, void, undefined> {
  const own = await judge(objects, index)
  yield own
  if (own.fault !== undefined) return
  const { shards } = decodeIndex(index.path, await readAll(await objects.get(`datasets/${index.path}`)))
  for (const shard of shards) yield await judge(objects, shard)
}
