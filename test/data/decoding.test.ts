import sharp from 'sharp'
import { describe, expect, it } from 'vitest'
import type { ImageShape } from '../../src/data/dataset.ts'
import {
  decodePicture,
  decodePictures,
  inspectPicture,
  mostPictureBytes,
  type PictureHeader,
} from '../../src/data/decoding.ts'
import { encodePng } from '../../src/data/png.ts'
import { Damaged, TooLarge } from '../../src/errors.ts'

type Pixel = [number, number, number]

const red: Pixel = [200, 20, 30]
const blue: Pixel = [10, 40, 220]

/** A picture [height, width, 3] whose left half is red and whose right half is blue. */
function halves(height: number, width: number) {
  const data = Uint8Array.from({ length: height * width * 3 }, (_, i) => {
    const x = Math.floor(i / 3) % width
    return (x < width / 2 ? red : blue)[i % 3]!
  })
  return sharp(data, { raw: { width, height, channels: 3 } })
}

const pixel = (data: Uint8Array, width: number, y: number, x: number) => [
  ...data.subarray((y * width + x) * 3).subarray(0, 3),
]

function expectNear(found: number[], wanted: number[], most = 12) {
  for (const [i, value] of wanted.entries()) expect(Math.abs(found[i]! - value)).toBeLessThanOrEqual(most)
}

const shape: ImageShape = [8, 8, 3]

const refusal = async (work: Promise<unknown>) =>
  work.then(
    () => undefined,
    (error: unknown) => error as Damaged,
  )

describe('a picture', () => {
  it.each(['jpeg', 'png', 'webp', 'gif', 'tiff', 'avif'] as const)('of format %s is decoded', async (format) => {
    const file = await halves(32, 32)[format]().toBuffer()
    const data = await decodePicture('a picture', file, { shape, fit: 'crop' })
    expect(data).toHaveLength(192)
    expectNear(pixel(data, 8, 4, 0), red)
    expectNear(pixel(data, 8, 4, 7), blue)
    const header: PictureHeader = await inspectPicture('a picture', file)
    expect(header).toMatchObject({ width: 32, height: 32 })
  })

  it('is cut to its middle, after its short side was brought to a length, or stretched', async () => {
    const file = await halves(16, 64).png().toBuffer()
    const middle = await decodePicture('p', file, { shape, fit: 'crop' })
    expectNear(pixel(middle, 8, 0, 0), red, 0)
    expectNear(pixel(middle, 8, 0, 7), blue, 0)
    const lines = Uint8Array.from({ length: 16 * 16 }, (_, i) => (Math.floor(i / 16) < 4 ? 255 : 0))
    const top = await encodePng(lines, [16, 16, 1])
    const [whole, inner] = await Promise.all([
      decodePicture('p', top, { shape: [8, 8, 1], fit: 'crop' }),
      decodePicture('p', top, { shape: [8, 8, 1], fit: 'crop', shortSide: 16 }),
    ])
    // The white lines are a quarter of the picture and lie outside the middle 8 of 16.
    expect([whole[0], inner[0]]).toEqual([255, 0])
    const flat = await decodePicture('p', file, { shape: [4, 4, 3], fit: 'stretch' })
    expectNear(pixel(flat, 4, 3, 0), red, 0)
    expectNear(pixel(flat, 4, 3, 3), blue, 0)
    await expect(decodePicture('p', file, { shape, fit: 'crop', shortSide: 7 })).rejects.toThrow(
      /7 does not hold 8 x 8/,
    )
  })

  it('is turned as its EXIF data says', async () => {
    // 6: the right side of what is stored is the lower side of what is seen.
    const file = await halves(16, 32).withMetadata({ orientation: 6 }).jpeg().toBuffer()
    expect(await inspectPicture('p', file)).toMatchObject({ width: 16, height: 32 })
    const data = await decodePicture('p', file, { shape: [32, 16, 3], fit: 'stretch' })
    expectNear(pixel(data, 16, 2, 8), red)
    expectNear(pixel(data, 16, 29, 8), blue)
  })

  it('with transparency lies on white', async () => {
    const file = await sharp({
      create: { width: 8, height: 8, channels: 4, background: { r: 9, g: 9, b: 9, alpha: 0 } },
    })
      .png()
      .toBuffer()
    expect([...new Set(await decodePicture('p', file, { shape, fit: 'crop' }))]).toEqual([255])
  })

  it('of 16 bits, in CMYK, grey or coloured comes as 8 bits of what was asked', async () => {
    const deep = await sharp(new Uint16Array(64).fill(0x8080), { raw: { width: 8, height: 8, channels: 1 } })
      .toColourspace('grey16')
      .png()
      .toBuffer()
    expect((await sharp(deep).metadata()).depth).toBe('ushort')
    expect([...new Set(await decodePicture('p', deep, { shape, fit: 'crop' }))]).toEqual([0x80])
    expect(await decodePicture('p', deep, { shape: [8, 8, 1], fit: 'crop' })).toHaveLength(64)
    const printed = await halves(16, 16).toColourspace('cmyk').jpeg().toBuffer()
    expect((await sharp(printed).metadata()).channels).toBe(4)
    expectNear(pixel(await decodePicture('p', printed, { shape, fit: 'crop' }), 8, 3, 0), red, 30)
    const white = await sharp({ create: { width: 8, height: 8, channels: 3, background: 'white' } })
      .jpeg()
      .toBuffer()
    expect([...new Set(await decodePicture('p', white, { shape: [8, 8, 1], fit: 'crop' }))]).toEqual([255])
  })

  it('of several frames is the first of them', async () => {
    const frames = Uint8Array.from({ length: 2 * 64 * 3 }, (_, i) => (i < 192 ? red : blue)[i % 3]!)
    const file = await sharp(frames, { raw: { width: 8, height: 16, channels: 3, pageHeight: 8 } })
      .webp({ lossless: true })
      .toBuffer()
    expect((await sharp(file, { animated: true }).metadata()).pages).toBe(2)
    expectNear(pixel(await decodePicture('p', file, { shape, fit: 'crop' }), 8, 7, 7), red)
  })

  it('is one of many, each at its place', async () => {
    const pictures = await Promise.all(
      [50, 100, 150].map(async (level) => ({
        name: 'p',
        bytes: await encodePng(new Uint8Array(64).fill(level), [8, 8, 1]),
      })),
    )
    const data = await decodePictures(pictures, { shape: [8, 8, 1], fit: 'crop' })
    expect([data[0], data[63], data[64], data[191]]).toEqual([50, 50, 100, 150])
  })
})

describe('a bad picture', () => {
  const decode = (bytes: Uint8Array) => refusal(decodePicture('set/cat.jpg', bytes, { shape, fit: 'crop' }))

  it.each(['jpeg', 'png', 'webp', 'gif', 'tiff', 'avif'] as const)(
    'of format %s that is cut short is named',
    async (format) => {
      const noise = Uint8Array.from({ length: 64 * 64 * 3 }, (_, i) => (i * 7919) % 251)
      const file = await sharp(noise, { raw: { width: 64, height: 64, channels: 3 } })
        [format]()
        .toBuffer()
      const error = await decode(file.subarray(0, Math.floor(file.length * 0.7)))
      expect(error).toBeInstanceOf(Damaged)
      expect(error!.message).toMatch(/^set\/cat\.jpg /)
      expect(error!.cure).toMatch(/leave it out/)
    },
  )

  it('that is something else, or nothing, is refused with what is read', async () => {
    const svg = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>'
    for (const text of ['<html>not found</html>', svg, '%PDF-1.7']) {
      const error = await decode(Buffer.from(text))
      expect(error).toBeInstanceOf(Damaged)
      expect(`${error!.message}; ${error!.cure}`).toBe(
        'set/cat.jpg is no picture that can be read; JPEG, PNG, WebP, GIF, TIFF and AVIF are read; convert it or leave it out',
      )
    }
    expect((await decode(new Uint8Array()))!.message).toBe('set/cat.jpg is empty')
  })

  it('of 108 megapixels, which unpacks to 200 times its size, is refused before it is decoded', async () => {
    const bomb = await sharp({
      create: { width: 12_000, height: 9_000, channels: 3, background: 'red' },
      limitInputPixels: false,
    })
      .png()
      .toBuffer()
    expect(bomb.length).toBeLessThan(2_000_000)
    const before = process.memoryUsage().rss
    for (const error of [await decode(bomb), await refusal(inspectPicture('set/cat.jpg', bomb))]) {
      expect(error).toBeInstanceOf(TooLarge)
      expect(error!.message).toBe('set/cat.jpg has 12000 x 9000 pixels; at most 64000000 are decoded')
    }
    expect(process.memoryUsage().rss - before).toBeLessThan(100 * 2 ** 20)
  })

  it('of more bytes than a picture has is refused unread', async () => {
    const error = await decode(new Uint8Array(mostPictureBytes + 1))
    expect(error).toBeInstanceOf(TooLarge)
    expect(error!.message).toMatch(/at most 67108864 are decoded/)
  })
})

describe('a picture that is written', () => {
  it('reads back as the same bytes', async () => {
    for (const channels of [1, 3] as const) {
      const bytes = Uint8Array.from({ length: 5 * 7 * channels }, (_, i) => (i * 37) % 256)
      const file = await encodePng(bytes, [5, 7, channels])
      expect([...file.subarray(1, 4)]).toEqual([...Buffer.from('PNG')])
      expect(await decodePicture('p', file, { shape: [5, 7, channels], fit: 'crop' })).toEqual(bytes)
    }
  })

  it('is refused where its bytes do not fit its shape', async () => {
    await expect(encodePng(new Uint8Array(11), [2, 2, 3])).rejects.toThrow(/takes 12 bytes, not 11/)
    await expect(encodePng(new Uint8Array(8), [2, 2, 2])).rejects.toThrow(/1, 3 or 4 channels, not 2/)
  })
})
