const types = { f32: '<f4', f16: '<f2', i32: '<i4' } as const

/** The head of a NumPy .npy file, version 1.0; the numbers follow it in row-major order, little-endian. */
export function npyHeader(dtype: keyof typeof types, shape: readonly number[]): Buffer {
  const tuple = shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(', ')})`
  const dictionary = `{'descr': '${types[dtype]}', 'fortran_order': False, 'shape': ${tuple}, }`
  const before = 10 // magic, version, length
  const padded = Math.ceil((before + dictionary.length + 1) / 64) * 64 - before
  const head = Buffer.alloc(before + padded, ' ')
  head.write('\x93NUMPY\x01\x00', 'latin1')
  head.writeUInt16LE(padded, 8)
  head.write(dictionary, before, 'latin1')
  head.write('\n', before + padded - 1)
  return head
}

const word = new Uint32Array(1)
const single = new Float32Array(word.buffer)

/** Half-precision numbers as their bits (IEEE 754 binary16), rounded to nearest, ties to even; too large is infinity. */
export function toFloat16(values: Float32Array): Uint16Array {
  return Uint16Array.from(values, (value) => {
    single[0] = value
    const bits = word[0]!
    const sign = (bits >>> 16) & 0x8000
    const magnitude = bits & 0x7fffffff
    if (magnitude > 0x7f800000) return sign | 0x7e00 // NaN
    if (magnitude >= 0x477ff000) return sign | 0x7c00 // rounds to 65536 or more
    if (magnitude < 0x38800000) return sign | roundEven(Math.abs(value) * 2 ** 24) // below 2^-14: steps of 2^-24
    return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13)
  })
}

/** A number below 2^53 to the nearest whole one, ties to even. */
function roundEven(value: number): number {
  const floor = Math.floor(value)
  const rest = value - floor
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor
}
