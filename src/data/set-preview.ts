import type { ByteSource, ImageShape } from './dataset.ts'
import { decodePixels } from './image-pixels.ts'
import { encodePng } from './png.ts'
import { decodeIndex } from './set-index.ts'
import type { SetManifest } from './set-manifest.ts'
import { readImages } from './shard-reads.ts'

/** Pixels of an image on the sheet, and of the line around it. */
const side = 64
const line = 2

/** Images of a set, spread evenly over it, beside each other on one PNG. */
export async function drawSheet(
  { index: { path } }: SetManifest,
  bytes: ByteSource,
  options: { count: number; split?: 'train' | 'test' },
): Promise<Uint8Array> {
  const index = decodeIndex(path, await bytes.read(path))
  const first = options.split === 'test' ? index.train : 0
  const last = options.split === 'train' ? index.train : index.train + index.test
  const count = Math.min(options.count, last - first)
  const rows = Array.from({ length: count }, (_, i) => first + Math.floor((i * (last - first)) / count))
  const columns = Math.max(1, Math.ceil(Math.sqrt(count)))
  const lines = Math.max(1, Math.ceil(count / columns))
  const cell = side + line
  const shape: ImageShape = [lines * cell + line, columns * cell + line, 3]
  const sheet = new Uint8Array(shape[0] * shape[1] * 3).fill(255)
  await readImages(bytes, index, rows, async (place, file) => {
    const pixels = await decodePixels(`image ${rows[place]}`, file, { shape: [side, side, 3], fit: 'crop' })
    const left = line + (place % columns) * cell
    const top = line + Math.floor(place / columns) * cell
    for (let y = 0; y < side; y++)
      sheet.set(pixels.subarray(y * side * 3, (y + 1) * side * 3), ((top + y) * shape[1] + left) * 3)
  })
  return encodePng(sheet, shape)
}
