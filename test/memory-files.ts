import type { ByteSource } from '../src/data/dataset.ts'
import { NotFound } from '../src/errors.ts'

/** Dataset files in memory; `reads` collects what is read of them. */
export function memoryFiles(files: Record<string, Uint8Array>, reads: string[] = []): ByteSource {
  return {
    stat: async (path) => (files[path] ? { size: files[path].length } : undefined),
    read: async (path, range) => {
      if (!files[path]) throw new NotFound(`there is no ${path}`, 'put it there')
      reads.push(range ? `${path} ${range.start}-${range.end}` : path)
      return files[path].slice(range?.start, range?.end)
    },
  }
}

/** A .npy file of version 1. */
export function npy(dtype: string, shape: readonly number[], numbers: Uint8Array, order = 'False'): Buffer {
  const sides = shape.length === 1 ? `${shape[0]},` : shape.join(', ')
  const text = `{'descr': '${dtype}', 'fortran_order': ${order}, 'shape': (${sides}), }`
  const header = text.padEnd(Math.ceil((text.length + 11) / 64) * 64 - 11, ' ')
  const start = Buffer.alloc(10)
  start.write('\x93NUMPY\x01\x00', 'latin1')
  start.writeUInt16LE(header.length + 1, 8)
  return Buffer.concat([start, Buffer.from(`${header}\n`, 'latin1'), numbers])
}

/** The bytes of numbers in memory. */
export function bytesOf(numbers: Float32Array | Float64Array | Int32Array | BigInt64Array | Uint16Array): Uint8Array {
  return new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength)
}
