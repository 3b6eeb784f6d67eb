import type { ImageShape, Pixels } from './dataset.ts'
import { encodePng } from './png.ts'

/** Cells between two images, and around them all. */
const gap = 2
/** What lies between the images. */
const paper = 255
/** Images are enlarged or reduced to about so many cells a side. */
const side = 56

/** Image pixels a cell: 1 / 2 doubles, 3 takes every third pixel. */
function scaleFor([height, width]: ImageShape): number {
  const longest = Math.max(height, width)
  return longest <= side ? 1 / Math.max(1, Math.floor(side / longest)) : longest / side
}

/**
 * Images in rows, as a PNG file. `rows` says which image of `pixels` comes where; a place may stay empty (-1).
 */
export async function contactSheet({ data, shape }: Pixels, rows: readonly ArrayLike<number>[]): Promise<Uint8Array> {
  const [height, width, channels] = shape
  const colours = channels === 3 ? 3 : 1
  const scale = scaleFor(shape)
  const [tall, wide] = [Math.max(1, Math.floor(height / scale)), Math.max(1, Math.floor(width / scale))]
  const columns = Math.max(1, ...rows.map((row) => row.length))
  const sheet: ImageShape = [gap + rows.length * (tall + gap), gap + columns * (wide + gap), colours]
  const bytes = new Uint8Array(sheet[0] * sheet[1] * colours).fill(paper)
  const draw = (image: number, top: number, left: number) => {
    for (let y = 0; y < tall; y++)
      for (let x = 0; x < wide; x++) {
        const from = ((image * height + Math.floor(y * scale)) * width + Math.floor(x * scale)) * channels
        const to = ((top + y) * sheet[1] + left + x) * colours
        for (let c = 0; c < colours; c++) bytes[to + c] = data[from + c]!
      }
  }
  for (const [row, images] of rows.entries())
    for (let column = 0; column < images.length; column++)
      if (images[column]! >= 0) draw(images[column]!, gap + row * (tall + gap), gap + column * (wide + gap))
  return await encodePng(bytes, sheet)
}
