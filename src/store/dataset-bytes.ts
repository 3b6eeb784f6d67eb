import { open, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { ByteSource } from '../data/dataset.ts'
import { Damaged, NotFound } from '../errors.ts'
import { isKey, type ObjectStore, readAll } from './objects.ts'
import { openShardFiles } from './shard-files.ts'

async function sizeOf(file: string): Promise<number | undefined> {
  try {
    const found = await stat(file)
    return found.isFile() ? found.size : undefined
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined
    throw error
  }
}

async function readFileRange(file: string, start: number, end: number): Promise<Uint8Array> {
  const handle = await open(file, 'r')
  try {
    const bytes = Buffer.alloc(end - start)
    let at = 0
    while (at < bytes.length) {
      const { bytesRead } = await handle.read(bytes, at, bytes.length - at, start + at)
      if (bytesRead === 0) throw new Damaged(`${file} ends before byte ${end}`, 'put the whole file there again')
      at += bytesRead
    }
    return bytes
  } finally {
    await handle.close()
  }
}

/** Paths of objects that lie elsewhere in the store than below datasets/ start with this. */
export const bucketPath = '@bucket/'

/** The object that a path of a dataset names; undefined where it is none that could be. */
function keyOf(path: string): string | undefined {
  const key = path.startsWith(bucketPath) ? path.slice(bucketPath.length) : `datasets/${path}`
  return isKey(key) ? key : undefined
}

/** Shards are read at random, by millions of small parts, and never change under their name. */
const isShard = (path: string) => /^sets\/[^/]+\/[^/]+\/[^/]+\.tar$/.test(path)

/**
 * Datasets from the object store (`datasets/<path>`) where they were added, else from the first folder that has them.
 * With `copies` shards of a distant store that are read often come to this machine's disk: for processes that train.
 */
export function datasetBytes(
  objects: ObjectStore,
  folders: readonly string[],
  { copies = false }: { copies?: boolean } = {},
): ByteSource {
  const shards = openShardFiles(objects, { copies })
  async function locate(path: string) {
    const key = keyOf(path)
    if (key === undefined) return undefined
    const stored = await objects.stat(key)
    if (stored) return { key, size: stored.size }
    for (const folder of path.startsWith(bucketPath) ? [] : folders) {
      const file = join(folder, path)
      const size = await sizeOf(file)
      if (size !== undefined) return { file, size }
    }
    return undefined
  }
  return {
    async stat(path) {
      const found = await locate(path)
      return found && { size: found.size }
    },
    async read(path, range) {
      const key = keyOf(path)
      if (range && key !== undefined && (isShard(path) || path.startsWith(bucketPath)))
        return (await shards.read(key, range)) ?? readAll(await objects.get(key, range))
      const found = await locate(path)
      if (!found)
        throw new NotFound(
          `there is no dataset file ${path}`,
          `add it with 'gestalt dataset add', or put it below one of: ${folders.join(', ') || 'GESTALT_DATASETS'}`,
        )
      if (found.key !== undefined) return readAll(await objects.get(found.key, range))
      return readFileRange(found.file, range?.start ?? 0, range?.end ?? found.size)
    },
    async *list(prefix) {
      for await (const { key } of objects.list(`datasets/${prefix}`)) yield key.slice('datasets/'.length)
    },
  }
}
