import { loadCodec } from './codec.ts'
import type { ImageShape } from './dataset.ts'

/** Bytes [h, w, c] as a PNG file: one channel is grey, three are red, green and blue, four with opacity. */
export async function encodePng(bytes: Uint8Array, shape: ImageShape): Promise<Uint8Array> {
  const [height, width, channels] = shape
  if (channels !== 1 && channels !== 3 && channels !== 4)
    throw new RangeError(`a picture has 1, 3 or 4 channels, not ${channels}`)
  if (bytes.length !== height * width * channels)
    throw new RangeError(
      `a picture of ${shape.join(' x ')} takes ${height * width * channels} bytes, not ${bytes.length}`,
    )
  const codec = await loadCodec()
  return codec(bytes, { raw: { width, height, channels }, limitInputPixels: false }).png().toBuffer()
}
