import { gzipSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { readIdx, unzip } from '../../src/data/idx.ts'
import { Damaged } from '../../src/errors.ts'

const labels = Uint8Array.of(0, 0, 8, 1, 0, 0, 0, 3, 9, 8, 7)
const images = Uint8Array.of(0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 10, 20, 30, 40)

function fault(call: () => unknown): string {
  try {
    call()
  } catch (error) {
    expect(error).toBeInstanceOf(Damaged)
    expect((error as Damaged).cure).toMatch(/fetch the file again/)
    return (error as Damaged).message
  }
  throw new Error('nothing was thrown')
}

describe('an IDX file', () => {
  it('reads back as its shape and bytes', () => {
    expect(readIdx('labels', labels, 1)).toEqual({ shape: [3], data: Uint8Array.of(9, 8, 7) })
    expect(readIdx('images', images, 3)).toEqual({ shape: [2, 1, 2], data: Uint8Array.of(10, 20, 30, 40) })
  })

  it.each([
    ['an empty file', new Uint8Array(0), 1, /labels is cut short: 0 bytes/],
    ['a header cut short', images.subarray(0, 9), 3, /9 bytes do not hold its IDX header/],
    ['another magic', Uint8Array.of(1, ...labels.subarray(1)), 1, /not an IDX file: it starts with 01 00/],
    ['another type', Uint8Array.of(0, 0, 0x0d, 1, 0, 0, 0, 0), 1, /IDX type 0d; only unsigned bytes/],
    ['other dimensions', images, 1, /has 3 dimensions instead of 1/],
    ['a dimension of 0', Uint8Array.of(0, 0, 8, 1, 0, 0, 0, 0), 1, /a dimension of 0/],
    ['a byte too few', images.subarray(0, -1), 3, /2 x 1 x 2 needs 4 bytes, it has 3/],
    ['a byte too many', Uint8Array.of(...images, 1), 3, /has 1 bytes too many after 2 x 1 x 2/],
  ])('is refused with %s', (_, bytes, dimensions, words) => {
    expect(fault(() => readIdx('labels', bytes, dimensions))).toMatch(words)
  })

  it('is refused where it is not gzip, is cut short or does not match its checksum', () => {
    const packed = gzipSync(images)
    expect(unzip('x.gz', packed)).toEqual(Buffer.from(images))
    expect(fault(() => unzip('x.gz', images))).toBe('x.gz is not a gzip file: it starts with 00 00 instead of 1f 8b')
    expect(fault(() => unzip('x.gz', new Uint8Array(0)))).toMatch(/starts with nothing/)
    expect(fault(() => unzip('x.gz', packed.subarray(0, packed.length - 12)))).toMatch(/cut short/)
    const altered = Uint8Array.from(packed)
    altered[altered.length - 6]! ^= 1
    expect(fault(() => unzip('x.gz', altered))).toMatch(/does not unpack/)
  })
})
