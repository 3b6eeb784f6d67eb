import { describe, expect, it } from 'vitest'
import { npyHeader, toFloat16 } from '../../src/store/npy.ts'
import { decodeSafetensors, encodeSafetensors } from '../../src/store/safetensors.ts'

const tensors = {
  'weights/a': { dtype: 'F32' as const, shape: [2, 2], data: new Float32Array([1, -0, Number.NaN, Infinity]) },
  'memory/bytes': { dtype: 'U8' as const, shape: [3], data: new Uint8Array([1, 2, 255]) },
  'memory/halves': { dtype: 'F16' as const, shape: [1, 1], data: new Uint16Array([0x3c00]) },
  'memory/long': { dtype: 'I64' as const, shape: [1], data: new BigInt64Array([-(2n ** 60n)]) },
  'memory/none': { dtype: 'I32' as const, shape: [0, 4], data: new Int32Array(0) },
  'optimizer/steps': { dtype: 'I32' as const, shape: [], data: new Int32Array([7]) },
}
const meta = { seed: '7', note: 'ä "quoted"' }
const file = Buffer.concat([...encodeSafetensors(tensors, meta)])

/** A file with another header before the same bytes. */
function withHeader(header: unknown, body = Buffer.alloc(8)): Buffer {
  const json = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(json.length))
  return Buffer.concat([length, json, body])
}

describe('a safetensors file', () => {
  it('gives back every tensor to the last bit', () => {
    const back = decodeSafetensors(file, 'it')
    expect(back.meta).toEqual(meta)
    expect(back.tensors).toEqual(tensors)
    expect(Object.is(back.tensors['weights/a']!.data[1], -0)).toBe(true)
  })

  it('has the layout of the format: length, JSON, tensors without gaps', () => {
    const length = Number(file.readBigUInt64LE(0))
    const header = JSON.parse(file.toString('utf8', 8, 8 + length))
    expect(length % 8).toBe(0)
    expect(header['weights/a']).toEqual({ dtype: 'F32', shape: [2, 2], data_offsets: [12, 28] })
    expect(file.readFloatLE(8 + length + 12)).toBe(1)
    expect(file.length).toBe(8 + length + 8 + 4 + 16 + 2 + 3)
  })

  it('reads one written by hand', () => {
    const header = { x: { dtype: 'F32', shape: [2], data_offsets: [0, 8] } }
    const body = Buffer.from(new Float32Array([0.5, -2]).buffer)
    const { tensors: read } = decodeSafetensors(withHeader(header, body), 'it')
    expect(read.x!.data).toEqual(new Float32Array([0.5, -2]))
  })

  it('is not written from numbers of another kind or count', () => {
    const wrong = { x: { dtype: 'F32' as const, shape: [3], data: new Float32Array(2) } }
    expect(() => [...encodeSafetensors(wrong, {})]).toThrow(RangeError)
  })

  const entry = { dtype: 'F32', shape: [1], data_offsets: [0, 4] }
  it.each([
    ['of no bytes', Buffer.alloc(0)],
    ['cut in its header', file.subarray(0, 40)],
    ['cut in a tensor', file.subarray(0, -1)],
    ['with bytes behind', Buffer.concat([file, Buffer.alloc(1)])],
    ['with a header longer than itself', Buffer.alloc(64, 0xff)],
    ['whose header is no JSON', withHeader('{"a"')],
    ['whose header is a list', withHeader([])],
    ['of an unknown type', withHeader({ a: { ...entry, dtype: 'F8' }, b: { ...entry, data_offsets: [4, 8] } })],
    ['with a negative shape', withHeader({ a: { ...entry, shape: [-1] } })],
    ['with a shape that is too large', withHeader({ a: { ...entry, shape: [2 ** 40, 2 ** 40] } })],
    ['whose tensors overlap', withHeader({ a: entry, b: { ...entry, data_offsets: [2, 6] } })],
    ['with a gap', withHeader({ a: { ...entry, data_offsets: [4, 8] } })],
    ['with less than it says', withHeader({ a: entry, b: { ...entry, data_offsets: [4, 8] } }, Buffer.alloc(6))],
    ['with metadata that are no texts', withHeader({ __metadata__: { a: 1 } }, Buffer.alloc(0))],
  ])('%s is refused as damaged', (_how, bytes) => {
    expect(() => decodeSafetensors(bytes, 'the checkpoint of step 5')).toThrow(
      expect.objectContaining({ code: 'damaged', message: expect.stringContaining('the checkpoint of step 5') }),
    )
  })
})

describe('half-precision numbers', () => {
  it.each([
    [0, 0x0000],
    [-0, 0x8000],
    [1, 0x3c00],
    [-2, 0xc000],
    [65504, 0x7bff],
    [65519.996, 0x7bff],
    [65520, 0x7c00],
    [Infinity, 0x7c00],
    [-Infinity, 0xfc00],
    [Number.NaN, 0x7e00],
    [2 ** -14, 0x0400],
    [2 ** -24, 0x0001],
    [2 ** -25, 0x0000],
    [2 ** -25 * 1.001, 0x0001],
    [-(2 ** -24) * 1.5, 0x8002],
    [2 ** -14 * (1 - 2 ** -12), 0x0400],
    [1 + 2 ** -11, 0x3c00],
    [1 + 3 * 2 ** -11, 0x3c02],
    [0.1, 0x2e66],
    [1 / 3, 0x3555],
  ])('of %d are the bits %i', (value, bits) => {
    expect(toFloat16(new Float32Array([value]))[0]).toBe(bits)
  })
})

describe('the head of an .npy file', () => {
  it('is a multiple of 64 bytes and says type and shape', () => {
    const head = npyHeader('f16', [10, 128])
    expect(head.length % 64).toBe(0)
    expect(head.subarray(0, 8)).toEqual(Buffer.from([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0]))
    expect(head.readUInt16LE(8)).toBe(head.length - 10)
    expect(head.toString('latin1', 10)).toMatch(
      /^\{'descr': '<f2', 'fortran_order': False, 'shape': \(10, 128\), \} *\n$/,
    )
    expect(npyHeader('i32', [3]).toString('latin1')).toContain('(3,)')
  })
})
