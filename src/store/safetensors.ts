import { Damaged } from '../errors.ts'
import type { StoredTensor } from '../models/checkpoint.ts'

/** What the header of a file says of one tensor. */
export interface TensorHeader {
  dtype: StoredTensor['dtype']
  shape: readonly number[]
}

const bytesPerNumber = { F32: 4, F16: 2, I32: 4, I64: 8, U8: 1 } as const
const arrays = { F32: Float32Array, F16: Uint16Array, I32: Int32Array, I64: BigInt64Array, U8: Uint8Array } as const

/** The format's own bound, in bytes. */
const longestHeader = 100_000_000

function numbersIn(shape: readonly number[]): number {
  return shape.reduce((product, n) => product * n, 1)
}

/** Bytes that a tensor takes. */
export function byteLength({ dtype, shape }: TensorHeader): number {
  return numbersIn(shape) * bytesPerNumber[dtype]
}

/**
 * The head of a safetensors file (huggingface/safetensors, format 0.x): a 64-bit length and a JSON object. The bytes of
 * the tensors follow it in the order of `tensors`, without gaps, little-endian.
 */
export function encodeHeader(tensors: readonly [string, TensorHeader][], meta: Record<string, string>): Buffer {
  const header: Record<string, unknown> = { __metadata__: meta }
  let at = 0
  for (const [name, tensor] of tensors) {
    const end = at + byteLength(tensor)
    header[name] = { dtype: tensor.dtype, shape: tensor.shape, data_offsets: [at, end] }
    at = end
  }
  const json = Buffer.from(JSON.stringify(header))
  const padded = Math.ceil(json.length / 8) * 8 // spaces at its end keep the tensors aligned
  const head = Buffer.alloc(8 + padded, ' ')
  head.writeBigUInt64LE(BigInt(padded), 0)
  json.copy(head, 8)
  return head
}

/** A whole file, piece by piece, without copying the tensors. The widest numbers come first, so that all are aligned. */
export function* encodeSafetensors(
  tensors: Record<string, StoredTensor>,
  meta: Record<string, string>,
): Generator<Uint8Array> {
  const order = Object.entries(tensors).sort(
    ([a, { dtype: x }], [b, { dtype: y }]) => bytesPerNumber[y] - bytesPerNumber[x] || (a < b ? -1 : 1),
  )
  for (const [name, { dtype, shape, data }] of order)
    if (!(data instanceof arrays[dtype]) || data.length !== numbersIn(shape))
      throw new RangeError(`tensor ${name} of ${dtype} [${shape}] holds ${data.length} numbers of another kind`)
  yield encodeHeader(order, meta)
  for (const [, { data }] of order) yield new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
}

interface Entry extends TensorHeader {
  name: string
  start: number
  end: number
}

function parseEntry(name: string, value: unknown, fail: (why: string) => Damaged): Entry {
  const { dtype, shape, data_offsets: offsets } = (value ?? {}) as Record<string, unknown>
  const whole = (n: unknown): n is number => Number.isSafeInteger(n) && (n as number) >= 0
  if (typeof dtype !== 'string' || !Object.hasOwn(arrays, dtype)) throw fail(`tensor ${name} has the type ${dtype}`)
  if (!Array.isArray(shape) || !shape.every(whole)) throw fail(`tensor ${name} has no shape`)
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(whole)) throw fail(`${name} has no place`)
  const [start, end] = offsets as [number, number]
  const entry = { name, dtype: dtype as StoredTensor['dtype'], shape, start, end }
  if (end - start !== byteLength(entry)) throw fail(`tensor ${name} is not as long as its shape says`)
  return entry
}

/** The tensors must fill the rest of the file, one after the other. */
function checkPlaces(entries: Entry[], length: number, fail: (why: string) => Damaged): void {
  let at = 0
  for (const entry of entries.sort((a, b) => a.start - b.start || a.end - b.end)) {
    if (entry.start !== at) throw fail(`tensor ${entry.name} overlaps another one or leaves a gap`)
    at = entry.end
  }
  if (at !== length) throw fail(`it has ${length} bytes of tensors where its header says ${at}`)
}

/** Reads a whole file. Throws Damaged with `what` in its message where anything in it does not fit. */
export function decodeSafetensors(
  file: Buffer,
  what: string,
): { tensors: Record<string, StoredTensor>; meta: Record<string, string> } {
  const fail = (why: string) => new Damaged(`${what} does not read back: ${why}`, 'use another one, or make it again')
  if (file.length < 8) throw fail(`it has ${file.length} bytes`)
  const length = file.readBigUInt64LE(0)
  if (length > longestHeader || length > file.length - 8) throw fail(`its header would have ${length} bytes`)
  const body = 8 + Number(length)
  let header: Record<string, unknown>
  try {
    header = JSON.parse(file.toString('utf8', 8, body))
  } catch (cause) {
    throw new Damaged(`${what} does not read back: its header is no JSON`, 'use another one', { cause })
  }
  if (typeof header !== 'object' || header === null || Array.isArray(header)) throw fail('its header is no object')
  const { __metadata__: meta = {}, ...rest } = header
  if (typeof meta !== 'object' || meta === null || Object.values(meta).some((text) => typeof text !== 'string'))
    throw fail('its metadata are not texts')
  const entries = Object.entries(rest).map(([name, value]) => parseEntry(name, value, fail))
  checkPlaces(entries, file.length - body, fail)
  const tensors: Record<string, StoredTensor> = {}
  for (const { name, dtype, shape, start, end } of entries) {
    const bytes = new Uint8Array(end - start) // a copy of its own is aligned, and lets go of the file
    bytes.set(file.subarray(body + start, body + end))
    tensors[name] = { dtype, shape, data: new arrays[dtype](bytes.buffer) }
  }
  return { tensors, meta: meta as Record<string, string> }
}
