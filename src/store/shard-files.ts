import { close, open, read } from 'node:fs'
import { promisify } from 'node:util'
import type { ObjectStore } from './objects.ts'

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
 * Parts of objects that never change, where the store is a folder: their files are looked up and opened once, and the
 * least used is closed when there are many. A part of an object otherwise costs five calls of the system beside the
 * one that reads it.
 */
export function openShardFiles(objects: ObjectStore) {
  const files = new Map<string, OpenFile>()

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

  return {
    /** Undefined where the store is no folder of this machine, or has no such object; fewer bytes where it ends before. */
    async read(key: string, { start, end }: { start: number; end: number }): Promise<Uint8Array | undefined> {
      if (!objects.file) return undefined
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
        const bytes = Buffer.allocUnsafeSlow(end - start)
        let at = 0
        while (at < bytes.length) {
          const { bytesRead } = await readFile(descriptor, bytes, at, bytes.length - at, start + at)
          if (bytesRead === 0) break
          at += bytesRead
        }
        return bytes.subarray(0, at)
      } finally {
        file.users--
        void retire(file)
      }
    },
  }
}
