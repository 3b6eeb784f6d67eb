import type { Dataset } from '../data/dataset.ts'
import { InvalidDefinition } from '../errors.ts'
import type { Dice } from './dice.ts'
import type { Watch } from './encoding.ts'
import { eachImage, numbersOf } from './fitted.ts'
import type { Rows } from './math/rows.ts'

/** Where square patches lie in an image. */
export interface PatchPlan {
  /** Pixels of a side, and between two patches. */
  side: number
  stride: number
  /** How many there are below and beside each other. */
  rows: number
  columns: number
  /** Numbers of one. */
  numbers: number
}

/** Throws InvalidDefinition where the images are too small for the patches, or for so many pooling cells. */
export function planPatches(
  imageShape: readonly number[],
  { patch, stride, grid }: { patch: number; stride: number; grid: number },
): PatchPlan {
  const [height, width, channels] = imageShape as [number, number, number]
  const detail = (text: string) => `${text}; the images have ${height} x ${width} pixels`
  if (patch > Math.min(height, width))
    throw new InvalidDefinition([{ pointer: '/patch', detail: detail(`patches of ${patch} x ${patch} do not fit`) }])
  const [rows, columns] = [height, width].map((side) => Math.floor((side - patch) / stride) + 1) as [number, number]
  if (grid > Math.min(rows, columns))
    throw new InvalidDefinition([
      { pointer: '/grid', detail: detail(`${rows} x ${columns} patches are fewer than ${grid} x ${grid} cells`) },
    ])
  return { side: patch, stride, rows, columns, numbers: patch * patch * channels }
}

/** Patches in [0, 1] at random places of images at random, as rows in the order of a convolution's filter. */
export async function drawPatches(
  corpus: Dataset,
  count: number,
  { side, numbers }: PatchPlan,
  dice: Dice,
  watch: Watch,
): Promise<Rows> {
  const [height, width, channels] = corpus.imageShape
  const image = numbersOf(corpus.imageShape)
  const each = Math.ceil(count / Math.min(count, corpus.size))
  const data = new Float32Array(count * numbers)
  let drawn = 0
  await eachImage(corpus, count, dice.for('images'), watch, (bytes, images) => {
    for (let i = 0; i < images; i++)
      for (let j = 0; j < each && drawn < count; j++, drawn++) {
        const [top, left] = [dice.below(height - side + 1), dice.below(width - side + 1)]
        for (let y = 0; y < side; y++) {
          const from = i * image + ((top + y) * width + left) * channels
          const to = drawn * numbers + y * side * channels
          for (let x = 0; x < side * channels; x++) data[to + x] = bytes[from + x]! / 255
        }
      }
  })
  return { data, width: numbers }
}

/** Each patch minus its mean, divided by its deviation: sqrt(variance + floor). */
export function normalisePatches({ data, width }: Rows, floor: number): Rows {
  const out = new Float32Array(data.length)
  for (let from = 0; from < data.length; from += width) {
    let [sum, squares] = [0, 0]
    for (let i = from; i < from + width; i++) {
      sum += data[i]!
      squares += data[i]! * data[i]!
    }
    const mean = sum / width
    const factor = 1 / Math.sqrt(Math.max(0, squares / width - mean * mean) + floor)
    for (let i = from; i < from + width; i++) out[i] = factor * (data[i]! - mean)
  }
  return { data: out, width }
}
