import { createHash } from 'node:crypto'
import { gunzipSync } from 'node:zlib'
import { Damaged } from '../errors.ts'

/** An array of bytes as an IDX file holds it, row-major. */
export interface IdxArray {
  shape: readonly number[]
  data: Uint8Array
}

const cure = 'fetch the file again from where it came from'
const unsignedByte = 0x08

/** Refuses to unpack more than this: no IDX file of the MNIST family comes near it. */
const mostBytes = 1 << 30

/** The bytes inside a gzip file. Throws Damaged where it is none, is cut short or does not match its checksum. */
export function unzip(name: string, bytes: Uint8Array): Uint8Array {
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b)
    throw new Damaged(`${name} is not a gzip file: it starts with ${hex(bytes.subarray(0, 2))} instead of 1f 8b`, cure)
  try {
    return gunzipSync(bytes, { maxOutputLength: mostBytes })
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    const what =
      code === 'Z_BUF_ERROR'
        ? 'ends early: the file is cut short'
        : code === 'ERR_BUFFER_TOO_LARGE'
          ? `unpacks to more than ${mostBytes} bytes`
          : `does not unpack: ${(cause as Error).message}`
    throw new Damaged(`${name} ${what}`, cure, { cause })
  }
}

/**
 * Reads an IDX file of unsigned bytes (the format of MNIST: two zero bytes, a type, a number of dimensions, the
 * dimensions as 32-bit big-endian numbers, then the bytes). Throws Damaged on anything else, a byte too few or too
 * many included.
 */
export function readIdx(name: string, bytes: Uint8Array, dimensions: number): IdxArray {
  const damaged = (what: string) => new Damaged(`${name} ${what}`, cure)
  const header = 4 + 4 * dimensions
  if (bytes.length < 4) throw damaged(`is cut short: ${bytes.length} bytes do not hold an IDX header`)
  if (bytes[0] !== 0 || bytes[1] !== 0)
    throw damaged(`is not an IDX file: it starts with ${hex(bytes.subarray(0, 2))} instead of 00 00`)
  if (bytes[2] !== unsignedByte)
    throw damaged(`holds IDX type ${hex(bytes.subarray(2, 3))}; only unsigned bytes (08) are read`)
  if (bytes[3] !== dimensions) throw damaged(`has ${bytes[3]} dimensions instead of ${dimensions}`)
  if (bytes.length < header) throw damaged(`is cut short: ${bytes.length} bytes do not hold its IDX header`)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const shape = Array.from({ length: dimensions }, (_, i) => view.getUint32(4 + 4 * i))
  if (shape.includes(0)) throw damaged(`has a dimension of 0: ${shape.join(' x ')}`)
  const wanted = shape.reduce((product, side) => product * side, 1)
  const given = bytes.length - header
  if (given < wanted) throw damaged(`is cut short: ${shape.join(' x ')} needs ${wanted} bytes, it has ${given}`)
  if (given > wanted) throw damaged(`has ${given - wanted} bytes too many after ${shape.join(' x ')}`)
  return { shape, data: bytes.subarray(header) }
}

export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

function hex(bytes: Uint8Array): string {
  return bytes.length === 0 ? 'nothing' : Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(' ')
}
