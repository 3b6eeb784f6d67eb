import { createHash } from 'node:crypto'
import { Readable, Transform } from 'node:stream'
import { Damaged, InvalidDefinition } from '../errors.ts'

/** Bytes from `start` up to but without `end`. */
export interface ByteRange {
  start: number
  end?: number
}

export interface StoredObject {
  key: string
  /** Bytes. */
  size: number
  /** Of the bytes, in hexadecimal. */
  sha256: string
}

/**
 * Files under keys such as `runs/<id>/checkpoints/<name>`: an S3 bucket or a directory. An object is there whole or
 * not at all; what is read in full is verified against a checksum that was recorded when it was written.
 */
export interface ObjectStore {
  /** Stores under the key, replacing what was there, and verifies what is stored. Throws NoRoom. */
  put(key: string, bytes: AsyncIterable<Uint8Array> | Uint8Array, options?: { type?: string }): Promise<StoredObject>
  /** Throws NotFound. Without a range the stream fails with Damaged at its end where the bytes are not what was put. */
  get(key: string, range?: ByteRange): Promise<Readable>
  stat(key: string): Promise<{ size: number; type?: string; modified: Date } | undefined>
  /** All objects whose key starts with the prefix, in no promised order. */
  list(prefix: string): AsyncIterable<{ key: string; size: number }>
  /** Nothing happens where there is no such object. */
  remove(key: string): Promise<void>
  /** An address that serves the object for so many seconds without a token, under another name or media type. */
  link(key: string, options: { seconds: number; name?: string; type?: string }): Promise<string>
  /** The file of this machine that holds the object, where the store is a folder; undefined where there is none. */
  file?(key: string): Promise<string | undefined>
  /** Writes, reads and removes a small object, or says what is wrong. */
  check(): Promise<void>
}

const segment = /^[A-Za-z0-9!_.()'*=-]{1,200}$/

/** Whether a key is one we store under: no way out of the folder, nothing a file system or a URL reads otherwise. */
export function isKey(key: string): boolean {
  return key.length <= 900 && key.split('/').every((part) => segment.test(part) && part !== '.' && part !== '..')
}

export function refuseKey(key: string): void {
  if (!isKey(key))
    throw new InvalidDefinition(
      [
        {
          pointer: '',
          detail: `'${key.slice(0, 100)}' is not made of letters, digits and !_.()'*=- in parts divided by /`,
        },
      ],
      'the object key',
    )
}

/** The whole of a stream. */
export async function readAll(stream: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  for await (const chunk of stream) chunks.push(chunk)
  return Buffer.concat(chunks)
}

/** Hashes and counts what passes. */
export function digesting(): { stream: Transform; size(): number; sha256(): string } {
  const hash = createHash('sha256')
  let size = 0
  const stream = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      hash.update(chunk)
      size += chunk.length
      done(null, chunk)
    },
  })
  return { stream, size: () => size, sha256: () => hash.digest('hex') }
}

/** Passes the bytes on, and fails at their end with Damaged where they are not what was put under the key. */
export function verified(source: Readable, { key, size, sha256 }: StoredObject): Readable {
  const hash = createHash('sha256')
  let seen = 0
  const check = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      hash.update(chunk)
      seen += chunk.length
      done(null, chunk)
    },
    flush(done) {
      if (seen === size && hash.digest('hex') === sha256) done()
      else done(damaged(key, seen === size ? 'its digest differs' : `it has ${seen} bytes instead of ${size}`))
    },
  })
  source.on('error', (error) => check.destroy(error))
  check.on('close', () => source.destroy())
  return source.pipe(check)
}

export function damaged(key: string, how: string): Damaged {
  return new Damaged(`the object ${key} is not as it was stored: ${how}`, 'restore it from a copy, or make it again')
}

/** Bytes as a stream, in pieces that do not copy them. */
export function asStream(bytes: AsyncIterable<Uint8Array> | Uint8Array): Readable {
  if (!(bytes instanceof Uint8Array)) return Readable.from(bytes, { objectMode: false })
  const whole = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return Readable.from(
    (function* () {
      for (let at = 0; at < whole.length; at += 2 ** 20) yield whole.subarray(at, at + 2 ** 20)
    })(),
    { objectMode: false },
  )
}
