import { createHash } from 'node:crypto'
import { endianness } from 'node:os'
import { Damaged } from '../errors.ts'

/** A tar file that holds images of a set. */
export interface Shard {
  /** For a ByteSource. */
  path: string
  bytes: number
  sha256: string
}

/**
 * Where each image of a set lies: columns with a row an image, those of training first. 18 bytes an image, 26 with
 * sequences; the images themselves stay where they are.
 */
export interface SetIndex {
  shards: readonly Shard[]
  train: number
  test: number
  /** Which shard, and which bytes of it. */
  shard: Uint16Array
  offset: Float64Array
  length: Uint32Array
  /** -1: none. */
  label: Int32Array
  /** Which video, and which of its frames; absent for single images. */
  sequence?: Int32Array
  frame?: Int32Array
}

/*
 * The file: 'GESTSET' and a version byte, then as little-endian 32-bit numbers the images of training and of test, the
 * bytes of the JSON list of shards, and 1 where there are sequences; the list, filled up to 8 bytes; the columns in the
 * order offset, length, label, (sequence, frame,) shard; last the SHA-256 of all before it.
 */
const magic = Uint8Array.from([...Buffer.from('GESTSET'), 1])
const fixedBytes = 24
const digestBytes = 32
export const mostShards = 2 ** 16

const upTo8 = (bytes: number) => Math.ceil(bytes / 8) * 8

function columnsOf(index: SetIndex) {
  const { offset, length, label, sequence, frame, shard } = index
  return [offset, length, label, ...(sequence && frame ? [sequence, frame] : []), shard]
}

function refuseBigEndian(): void {
  if (endianness() !== 'LE') throw new Error('image sets are read on little-endian machines only')
}

/** The bytes of the file. */
export function encodeIndex(index: SetIndex): Uint8Array {
  refuseBigEndian()
  const list = Buffer.from(JSON.stringify(index.shards))
  const columns = columnsOf(index)
  const head = fixedBytes + upTo8(list.length)
  const size = columns.reduce((sum, column) => sum + column.byteLength, head)
  const file = new Uint8Array(size + digestBytes)
  file.set(magic)
  const view = new DataView(file.buffer)
  const numbers = [index.train, index.test, list.length, index.sequence ? 1 : 0]
  for (const [i, value] of numbers.entries()) view.setUint32(8 + 4 * i, value, true)
  file.set(list, fixedBytes)
  let at = head
  for (const column of columns) {
    file.set(new Uint8Array(column.buffer, column.byteOffset, column.byteLength), at)
    at += column.byteLength
  }
  file.set(createHash('sha256').update(file.subarray(0, size)).digest(), size)
  return file
}

/** Throws Damaged where these are not the bytes that were written. */
export function decodeIndex(path: string, bytes: Uint8Array): SetIndex {
  refuseBigEndian()
  const damaged = (what: string) => new Damaged(`${path} ${what}`, 'restore it from a copy, or add the set again')
  const size = bytes.length - digestBytes
  if (size < fixedBytes) throw damaged('is cut short')
  if (!Buffer.from(magic.subarray(0, 7)).equals(bytes.subarray(0, 7))) throw damaged('is no index of a set')
  if (bytes[7] !== magic[7]) throw damaged(`has version ${bytes[7]}; this software reads ${magic[7]}`)
  if (!createHash('sha256').update(bytes.subarray(0, size)).digest().equals(bytes.subarray(size)))
    throw damaged('is not as it was written: its digest differs')
  // Columns of 8-byte numbers cannot begin anywhere.
  const whole = bytes.byteOffset % 8 === 0 ? bytes : bytes.slice()
  const view = new DataView(whole.buffer, whole.byteOffset, size)
  const [train, test, listBytes, sequenced] = [0, 1, 2, 3].map((i) => view.getUint32(8 + 4 * i, true)) as [
    number,
    number,
    number,
    number,
  ]
  const shards = JSON.parse(Buffer.from(whole.subarray(fixedBytes, fixedBytes + listBytes)).toString()) as Shard[]
  const n = train + test
  let at = whole.byteOffset + fixedBytes + upTo8(listBytes)
  const next = <T>(Column: new (buffer: ArrayBufferLike, at: number, length: number) => T, width: number) => {
    const column = new Column(whole.buffer, at, n)
    at += width * n
    return column
  }
  const offset = next(Float64Array, 8)
  const length = next(Uint32Array, 4)
  const label = next(Int32Array, 4)
  const frames = sequenced ? { sequence: next(Int32Array, 4), frame: next(Int32Array, 4) } : {}
  return { shards, train, test, offset, length, label, ...frames, shard: next(Uint16Array, 2) }
}
