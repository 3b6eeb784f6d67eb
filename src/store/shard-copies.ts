import { randomBytes } from 'node:crypto'
import { close, createWriteStream, open } from 'node:fs'
import { rm, statfs } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { promisify } from 'node:util'
import { NoRoom, Unavailable } from '../errors.ts'
import type { ObjectStore } from './objects.ts'

const [openFile, closeFile] = [promisify(open), promisify(close)]

/** So many requests for parts of a shard are made before all of it is fetched: a look at a few images stays one. */
const requestsBefore = 64
/** Shards that are fetched at once. */
const parallel = 2

/** How much of the room in a folder its copies may take: others need some too. */
async function roomIn(folder: string): Promise<number> {
  const { bavail, bsize } = await statfs(folder)
  return (bavail * bsize) / 2
}

/** A file to write and read that has no name any more, so that it goes with this process, however it ends. */
async function openNameless(folder: string): Promise<number> {
  const path = join(folder, `gestalt-shard-${randomBytes(8).toString('hex')}`)
  const descriptor = await openFile(path, 'wx+', 0o600)
  await rm(path)
  return descriptor
}

interface Copy {
  requests: number
  /** Of the file, once all of it is here. */
  descriptor?: number
}

/**
 * Shards of a distant store on the disk of this machine, whole, once they turn out to be read often: a part of an
 * object takes a request of its own, and a batch takes a hundred parts. What has come stays until the process ends;
 * where the room is used up (half of what is free in TMPDIR), the other shards are read as before, since with random
 * reads it does not matter which of them are here.
 */
export function openShardCopies(objects: ObjectStore, folder = tmpdir()) {
  const copies = new Map<string, Copy>()
  let room: Promise<number> | undefined
  let [working, taken] = [0, 0]
  let full = false

  async function fetchWhole(key: string, copy: Copy): Promise<void> {
    const stored = await objects.stat(key)
    room ??= roomIn(folder)
    if (!stored || taken + stored.size > (await room)) return
    taken += stored.size
    let descriptor: number | undefined
    try {
      descriptor = await openNameless(folder)
      await pipeline(await objects.get(key), createWriteStream('', { fd: descriptor, autoClose: false }))
      copy.descriptor = descriptor
    } catch (error) {
      taken -= stored.size
      if (descriptor !== undefined) await closeFile(descriptor)
      throw error
    }
  }

  async function begin(key: string, copy: Copy): Promise<void> {
    working++
    try {
      await fetchWhole(key, copy)
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      // Reading its parts tells what is wrong with the store; without room nothing is.
      if (error instanceof NoRoom || code === 'ENOSPC' || code === 'EDQUOT') full = true
      else if (error instanceof Unavailable) copy.requests = 0
    } finally {
      working--
    }
  }

  return {
    /** The open file of a shard that is here; otherwise counts that it was asked for. */
    find(key: string): number | undefined {
      const copy = copies.get(key) ?? { requests: 0 }
      copies.set(key, copy)
      if (copy.descriptor !== undefined) return copy.descriptor
      copy.requests++
      if (copy.requests > requestsBefore && working < parallel && !full && copy.requests !== Number.POSITIVE_INFINITY) {
        copy.requests = Number.POSITIVE_INFINITY // asked for once
        void begin(key, copy)
      }
      return undefined
    },
    /** Gives the room back. */
    async close(): Promise<void> {
      full = true
      for (const { descriptor } of copies.values()) if (descriptor !== undefined) await closeFile(descriptor)
      copies.clear()
    },
  }
}
