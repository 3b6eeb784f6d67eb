import { createHash } from 'node:crypto'
import { Damaged, InvalidDefinition } from '../errors.ts'
import type { ForeignTensor } from '../models/weights/name-map.ts'
import { type ObjectStore, readAll } from './objects.ts'

/** Where a tensor's bytes lie in its file, and what they are. */
export interface PlacedTensor extends ForeignTensor {
  name: string
  /** From the beginning of the file. */
  start: number
  end: number
}

export interface FileHeader {
  /** In the order of their places. */
  tensors: PlacedTensor[]
  meta: Record<string, string>
  /** Where the header ends and the numbers begin. */
  body: number
}

/** Of every type of numbers that the format knows and that takes whole bytes. */
const widths: Record<string, number> = {
  ...{ F64: 8, F32: 4, F16: 2, BF16: 2, F8_E4M3: 1, F8_E5M2: 1 },
  ...{ I64: 8, U64: 8, I32: 4, U32: 4, I16: 2, U16: 2, I8: 1, U8: 1, BOOL: 1, C64: 8 },
}

/** More than any net's names take. */
const longestHeader = 16 * 2 ** 20

const whole = (n: unknown): n is number => Number.isSafeInteger(n) && (n as number) >= 0

function placeOf(name: string, value: unknown, body: number): PlacedTensor | string {
  const { dtype, shape, data_offsets: offsets } = (value ?? {}) as Record<string, unknown>
  const width = typeof dtype === 'string' && Object.hasOwn(widths, dtype) ? widths[dtype] : undefined
  if (width === undefined) return `tensor ${name} has the type ${dtype}`
  if (!Array.isArray(shape) || !shape.every(whole)) return `tensor ${name} has no shape`
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(whole)) return `tensor ${name} has no place`
  const [start, end] = offsets as [number, number]
  if (end - start !== width * shape.reduce((product, side) => product * side, 1))
    return `tensor ${name} is not as long as its shape says`
  return { name, dtype: dtype as string, shape, start: body + start, end: body + end }
}

/** Why the tensors do not fill the rest of the file one after the other; undefined where they do. */
function misplaced(tensors: PlacedTensor[], body: number, size: number): string | undefined {
  let at = body
  for (const { name, start, end } of tensors.sort((a, b) => a.start - b.start || a.end - b.end)) {
    if (start !== at) return `tensor ${name} overlaps another one or leaves a gap`
    at = end
  }
  return at === size ? undefined : `it has ${size} bytes where its header says ${at}`
}

/** How long the header is that these first eight bytes announce; undefined where there can be none of that length. */
function headerLength(first: Buffer, size: number): number | undefined {
  if (first.length < 8) return undefined
  const length = first.readBigUInt64LE(0)
  return length > longestHeader || length > size - 8 ? undefined : Number(length)
}

function parseHeader(json: Buffer, size: number): FileHeader | string {
  const body = 8 + json.length
  let header: unknown
  try {
    header = JSON.parse(json.toString('utf8'))
  } catch {
    return 'its header is no JSON'
  }
  if (typeof header !== 'object' || header === null || Array.isArray(header)) return 'its header is no object'
  const { __metadata__: meta = {}, ...rest } = header as Record<string, unknown>
  if (typeof meta !== 'object' || meta === null || Object.values(meta).some((text) => typeof text !== 'string'))
    return 'its metadata are not texts'
  const tensors: PlacedTensor[] = []
  for (const [name, value] of Object.entries(rest)) {
    const placed = placeOf(name, value, body)
    if (typeof placed === 'string') return placed
    tensors.push(placed)
  }
  return misplaced(tensors, body, size) ?? { tensors, meta: meta as Record<string, string>, body }
}

const short = (size: number) => `it has ${size} bytes, and no header of safetensors within them`

/** The header of a stored safetensors file; nothing behind it is read. A text says why there is none. */
export async function readHeader(objects: ObjectStore, key: string, size: number): Promise<FileHeader | string> {
  const first = await readAll(await objects.get(key, { start: 0, end: Math.min(8, size) }))
  const length = headerLength(first, size)
  if (length === undefined) return short(size)
  return parseHeader(await readAll(await objects.get(key, { start: 8, end: 8 + length })), size)
}

/** Takes exactly so many bytes at a time from a stream. */
function taker(stream: AsyncIterable<Uint8Array>) {
  const source = stream[Symbol.asyncIterator]()
  const hash = createHash('sha256')
  const next = async () => {
    const { value, done } = await source.next()
    if (!done) hash.update(value)
    return done ? undefined : (value as Uint8Array)
  }
  let rest: Uint8Array = new Uint8Array(0)
  return {
    async take(count: number): Promise<Buffer> {
      // A tensor has memory of its own, aligned for any type of numbers.
      const taken = Buffer.from(new ArrayBuffer(count))
      let at = 0
      while (at < count) {
        if (rest.length === 0) {
          const more = await next()
          if (!more) return taken.subarray(0, at)
          rest = more
        }
        const part = rest.subarray(0, count - at)
        taken.set(part, at)
        at += part.length
        rest = rest.subarray(part.length)
      }
      return taken
    },
    /** Reads to the end, which is where a store says whether all was as it had been put. */
    async end(): Promise<void> {
      while (await next()) {}
    },
    sha256: () => hash.digest('hex'),
  }
}

/**
 * The tensors of a whole stored file in the order of their places, one in memory at a time; those that `wants` refuses
 * are passed over. Throws Damaged where the file is no longer what was stored.
 */
export async function* streamTensors(
  objects: ObjectStore,
  { key, size, fileSha256 }: { key: string; size: number; fileSha256: string },
  wants: (name: string) => boolean,
): AsyncGenerator<{ tensor: PlacedTensor; bytes: Buffer }> {
  const fail = (why: string) => new Damaged(`the object ${key} does not read back: ${why}`, 'restore it from a copy')
  const { take, end, sha256 } = taker(await objects.get(key))
  const length = headerLength(await take(8), size)
  if (length === undefined) throw fail(short(size))
  const header = parseHeader(await take(length), size)
  if (typeof header === 'string') throw fail(header)
  for (const tensor of header.tensors) {
    const bytes = await take(tensor.end - tensor.start)
    if (bytes.length < tensor.end - tensor.start) throw fail('it ends early')
    if (wants(tensor.name)) yield { tensor, bytes }
  }
  await end()
  if (sha256() !== fileSha256) throw fail('its digest differs')
}

function halfToFloat(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1
  const exponent = (bits >> 10) & 31
  const fraction = bits & 1023
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15))
}

/** The numbers of a tensor as 32-bit floats; `bytes` have memory of their own. Throws InvalidDefinition for others. */
export function toFloats({ name, dtype }: Pick<PlacedTensor, 'name' | 'dtype'>, bytes: Buffer): Float32Array {
  const { buffer, byteOffset, length } = bytes
  if (dtype === 'F32') return new Float32Array(buffer, byteOffset, length / 4)
  if (dtype === 'F64') return Float32Array.from(new Float64Array(buffer, byteOffset, length / 8))
  if (dtype === 'BF16') {
    const upper = Uint32Array.from(new Uint16Array(buffer, byteOffset, length / 2), (bits) => bits << 16)
    return new Float32Array(upper.buffer)
  }
  if (dtype === 'F16') {
    const halves = Float32Array.from({ length: 2 ** 16 }, (_, bits) => halfToFloat(bits))
    return Float32Array.from(new Uint16Array(buffer, byteOffset, length / 2), (bits) => halves[bits]!)
  }
  throw new InvalidDefinition([{ pointer: `/${name}`, detail: `its numbers are ${dtype}` }], 'the file')
}
