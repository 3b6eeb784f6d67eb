import { close, open, read } from 'node:fs'
import { promisify } from 'node:util'
import type { ObjectStore } from './objects.ts'
import { openShardCopies } from './shard-copies.ts'

const [openFile, readFile, closeFile] = [promisify(open), promisify(read), promisify(close)]

/** Files that are kept open at once. */
const mostOpen = 256

interface OpenFile {
  descriptor: Promise<number | undefined>
  /** Reads at work; a file is closed when there are none. */
  users: number
  dropped: boolean
}

/**
 * Parts of objects that never change. Where the store is a folder, their files are looked up and opened once, and the
 * least used is closed when there are many: a part of an object otherwise costs five calls of the system beside the one
 * that reads it. Where it is distant, they are read from copies once there are some.
 */
export function openShardFiles(objects: ObjectStore, options: { copies: boolean }) {
  const files = new Map<string, OpenFile>()
  const copies = options.copies && !objects.file ? openShardCopies(objects) : undefined

  async function find(key: string): Promise<number | undefined> {
    const path = await objects.file?.(key)
    return path === undefined ? undefined : openFile(path, 'r')
  }

  async function retire(file: OpenFile): Promise<void> {
    if (!file.dropped || file.users > 0) return
    const descriptor = await file.descriptor.catch(() => undefined)
    if (descriptor !== undefined) await closeFile(descriptor)
  }

  function take(key: string): OpenFile {
    const file = files.get(key) ?? { descriptor: find(key), users: 0, dropped: false }
    // The one asked for last is the last to go.
    files.delete(key)
    files.set(key, file)
    if (files.size > mostOpen) {
      const [oldest, old] = files.entries().next().value!
      files.delete(oldest)
      old.dropped = true
      void retire(old)
    }
    return file
  }

  async function readFrom(descriptor: number, start: number, end: number): Promise<Uint8Array> {
    const bytes = Buffer.allocUnsafeSlow(end - start)
    let at = 0
    while (at < bytes.length) {
      const { bytesRead } = await readFile(descriptor, bytes, at, bytes.length - at, start + at)
      if (bytesRead === 0) break
      at += bytesRead
    }
    return bytes.subarray(0, at)
  }

  return {
    /** Undefined where the shard is not on this machine; fewer bytes where it ends before. */
    async read(key: string, { start, end }: { start: number; end: number }): Promise<Uint8Array | undefined> {
      if (!objects.file) {
        const copy = copies?.find(key)
        return copy === undefined ? undefined : readFrom(copy, start, end)
      }
      const file = take(key)
      file.users++
      try {
        const descriptor = await file.descriptor.catch((error: unknown) => {
          files.delete(key)
          throw error
        })
        if (descriptor === undefined) {
          files.delete(key) // it may be put later
          return undefined
        }
        return await readFrom(descriptor, start, end)
      } finally {
        file.users--
        void retire(file)
      }
    },
  }
}
