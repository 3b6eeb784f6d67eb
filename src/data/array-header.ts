import { Damaged } from '../errors.ts'

/** What the header of a file of one array says. */
export interface ArrayHeader {
  /** Rows first. */
  shape: readonly number[]
  /** As NumPy writes it: '|u1', '<f4'. */
  dtype: string
  /** Bytes before the numbers. */
  offset: number
}

/** No header of an array is longer. */
export const mostHeaderBytes = 4096

const magic = Buffer.from('\x93NUMPY', 'latin1')
const unsignedBytes = 0x08

function readNpyHeader(name: string, bytes: Buffer): ArrayHeader {
  const damaged = (what: string, cure = 'write it again with numpy.save') => new Damaged(`${name} ${what}`, cure)
  if (bytes.length < 12) throw damaged(`is cut short: ${bytes.length} bytes do not hold a .npy header`)
  const version = bytes[6]!
  if (version < 1 || version > 3) throw damaged(`has version ${version} of the .npy format; 1 to 3 are read`)
  const [start, length] = version === 1 ? [10, bytes.readUInt16LE(8)] : [12, bytes.readUInt32LE(8)]
  if (start + length > mostHeaderBytes)
    throw damaged(`has a header of ${length} bytes; structured arrays are not read`, 'save a plain array of bytes')
  if (bytes.length < start + length) throw damaged(`is cut short: ${bytes.length} bytes do not hold its header`)
  const text = bytes.toString('latin1', start, start + length)
  const dtype = /'descr':\s*'([^']+)'/.exec(text)?.[1]
  const order = /'fortran_order':\s*(True|False)/.exec(text)?.[1]
  const shape = /'shape':\s*\(([\d,\s]*)\)/.exec(text)?.[1]
  if (dtype === undefined || order === undefined || shape === undefined)
    throw damaged(`has a header that does not name a plain dtype, an order and a shape: ${text.trim().slice(0, 100)}`)
  if (order === 'True')
    throw damaged('is stored column by column (fortran_order)', 'save numpy.ascontiguousarray(array) instead')
  const sides = shape.split(',').filter((part) => part.trim() !== '')
  return { dtype, shape: sides.map(Number), offset: start + length }
}

function readIdxHeader(name: string, bytes: Buffer): ArrayHeader {
  const cure = 'write unsigned bytes as IDX, or save the array with numpy.save'
  const dimensions = bytes[3]!
  if (bytes[2] !== unsignedBytes)
    throw new Damaged(`${name} holds IDX type ${bytes[2]}; only unsigned bytes (8) are read`, cure)
  const offset = 4 + 4 * dimensions
  if (bytes.length < offset)
    throw new Damaged(`${name} is cut short: ${bytes.length} bytes do not hold its IDX header`, cure)
  return { dtype: '|u1', shape: Array.from({ length: dimensions }, (_, i) => bytes.readUInt32BE(4 + 4 * i)), offset }
}

/** Reads the header of a .npy or an IDX file from its first bytes. Throws Damaged on anything else. */
export function readArrayHeader(name: string, first: Uint8Array): ArrayHeader {
  const bytes = Buffer.from(first.buffer, first.byteOffset, first.byteLength)
  if (bytes.subarray(0, 6).equals(magic)) return readNpyHeader(name, bytes)
  if (bytes.length >= 4 && bytes[0] === 0 && bytes[1] === 0) return readIdxHeader(name, bytes)
  throw new Damaged(
    `${name} starts with ${bytes.subarray(0, 4).toString('hex') || 'nothing'}, which is neither .npy nor IDX`,
    'write it with numpy.save',
  )
}
