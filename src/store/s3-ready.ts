import { createHash } from 'node:crypto'
import { type FileHandle, mkdtemp, open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { NoRoom } from '../errors.ts'
import type { StoredObject } from './objects.ts'

/** Larger objects are sent in parts of at least this size, in bytes. */
export const partSize = 8 * 2 ** 20
/** S3 takes no more parts of one object. */
const mostParts = 10_000

/** Bytes whose size and digest are known before they are sent, to be had again for another try. */
export interface Ready extends StoredObject {
  crc32: number
  part(start: number, end: number): Promise<Buffer>
  dispose(): Promise<void>
}

/** Where the parts of an object of this size begin and end. */
export function partsOf(size: number): { number: number; start: number; end: number }[] {
  const length = Math.max(partSize, Math.ceil(size / mostParts))
  return Array.from({ length: Math.ceil(size / length) }, (_, place) => ({
    number: place + 1,
    start: place * length,
    end: Math.min((place + 1) * length, size),
  }))
}

function inMemory(key: string, bytes: Buffer): Ready {
  const sha256 = createHash('sha256').update(bytes).digest('hex')
  const part = async (start: number, end: number) => bytes.subarray(start, end)
  return { key, size: bytes.length, sha256, crc32: crc32(bytes), part, dispose: async () => {} }
}

async function fill(file: FileHandle, start: number, end: number): Promise<Buffer> {
  const part = Buffer.allocUnsafe(end - start)
  for (let at = 0; at < part.length; ) {
    const { bytesRead } = await file.read(part, at, part.length - at, start + at)
    if (bytesRead === 0) throw new Error('the file of an upload has become shorter')
    at += bytesRead
  }
  return part
}

function noRoomHere(error: unknown): unknown {
  const { code = '', message } = error as NodeJS.ErrnoException
  if (!['ENOSPC', 'EDQUOT', 'EFBIG'].includes(code)) return error
  const cure = 'free some disk space there, or name another folder with TMPDIR'
  return new NoRoom(`there is no room in ${tmpdir()} for an upload on its way: ${message}`, cure, { cause: error })
}

/** Puts what came so far and what follows into a file that goes when the upload is over. */
async function inFile(key: string, first: readonly Uint8Array[], rest: AsyncIterator<Uint8Array>): Promise<Ready> {
  const folder = await mkdtemp(join(tmpdir(), 'gestalt-upload-')).catch((error: unknown) => {
    throw noRoomHere(error)
  })
  let file: FileHandle | undefined
  const dispose = async () => {
    await file?.close()
    await rm(folder, { recursive: true, force: true })
  }
  try {
    const handle = await open(join(folder, 'object'), 'wx+', 0o600)
    file = handle
    const hash = createHash('sha256')
    let [size, crc] = [0, 0]
    const write = async (chunk: Uint8Array) => {
      // Hashed while the system writes.
      const written = handle.writeFile(chunk).catch((error: unknown) => {
        throw noRoomHere(error)
      })
      hash.update(chunk)
      crc = crc32(chunk, crc)
      size += chunk.length
      await written
    }
    for (const chunk of first) await write(chunk)
    for (let next = await rest.next(); !next.done; next = await rest.next()) await write(next.value)
    const part = (start: number, end: number) => fill(handle, start, end)
    return { key, size, sha256: hash.digest('hex'), crc32: crc, part, dispose }
  } catch (error) {
    await dispose()
    throw error
  }
}

/** Reads the whole source: into memory what fits into one part, into a file what is larger. */
export async function ready(key: string, bytes: AsyncIterable<Uint8Array> | Uint8Array): Promise<Ready> {
  if (bytes instanceof Uint8Array) return inMemory(key, Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength))
  const source = bytes[Symbol.asyncIterator]()
  const chunks: Uint8Array[] = []
  let size = 0
  try {
    for (let next = await source.next(); !next.done; next = await source.next()) {
      chunks.push(next.value)
      size += next.value.length
      if (size > partSize) return await inFile(key, chunks, source)
    }
  } catch (error) {
    await source.return?.().catch(() => {})
    throw error
  }
  return inMemory(key, Buffer.concat(chunks))
}
