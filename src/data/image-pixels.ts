import type { ImageShape } from './dataset.ts'
import { type Decoding, decodePicture } from './decoding.ts'
import { encodePng } from './png.ts'
import { readPortable } from './portable-map.ts'

/**
 * The pixels of an image file in a shape. A portable map of that shape already is copied; anything else is decoded
 * outside of this thread. Throws Damaged or TooLarge, with the name.
 */
export async function decodePixels(name: string, bytes: Uint8Array, decoding: Decoding): Promise<Uint8Array> {
  const portable = readPortable(bytes)
  if (!portable) return decodePicture(name, bytes, decoding)
  const { at, shape } = portable
  const [height, width, channels] = decoding.shape
  const pixels = bytes.subarray(at)
  if (shape.height === height && shape.width === width && shape.channels === channels) return pixels
  return decodePicture(name, await encodePng(pixels, [shape.height, shape.width, shape.channels]), decoding)
}

/** The middle of images [n, h, w, c], in the size of `to`. */
export function cutMiddle(data: Uint8Array, from: ImageShape, to: ImageShape): Uint8Array {
  const [height, width, channels] = from
  const [cutHeight, cutWidth] = to
  if (height === cutHeight && width === cutWidth) return data
  const n = data.length / (height * width * channels)
  const row = cutWidth * channels
  const out = new Uint8Array(n * cutHeight * row)
  const top = (height - cutHeight) >> 1
  const left = (width - cutWidth) >> 1
  for (let i = 0; i < n; i++)
    for (let y = 0; y < cutHeight; y++) {
      const start = ((i * height + top + y) * width + left) * channels
      out.set(data.subarray(start, start + row), (i * cutHeight + y) * row)
    }
  return out
}
