import type { Dataset, ImageShape } from '../../data/dataset.ts'
import { toUnit } from '../../data/pixels.ts'
import { encodePng } from '../../data/png.ts'
import { type Tensor, type Tensor4D, tf } from '../../tf.ts'
import type { Picture } from '../evaluation.ts'
import type { Net } from './net.ts'
import { codingTaps, type Decoding, decodeStacked } from './reconstruction.ts'

/** Images whose reconstructions are drawn, those whose errors are measured, and how many at once. */
const drawn = 12
const measured = 256
const atOnce = 32

/** Smallest side of a drawn image: those below are enlarged. */
const leastSide = 84

/** Images by what they were decoded from, each [n, h, w, c] in one array. */
interface Row {
  name: string
  pixels: Float32Array
}

/** Reconstructions of images, from each pool down to the pixels. */
function decodeFromEach(net: Net, decoding: Decoding, images: Tensor4D): Tensor[] {
  const { plan } = decoding.decoder
  const mean = decoding.targets.mean.slice()
  return tf.tidy(() => {
    const taps = net.forward(images, codingTaps(plan), false)
    return plan.layers.map((_, from) => {
      const made = decodeStacked(decoding.decoder, { images, taps }, decoding.switches, from)
      return tf.add(made[0]!, tf.tensor1d(mean))
    })
  })
}

async function reconstruct(net: Net, decoding: Decoding, pixels: Float32Array, shape: ImageShape): Promise<Row[]> {
  const size = shape[0] * shape[1] * shape[2]
  const rows = decoding.decoder.plan.layers.map(({ pool }) => ({ name: pool, pixels: new Float32Array(pixels.length) }))
  for (let first = 0; first < pixels.length / size; first += atOnce) {
    const part = pixels.slice(first * size, (first + atOnce) * size)
    const images = tf.tensor4d(part, [part.length / size, ...shape])
    const made = decodeFromEach(net, decoding, images)
    for (const [i, row] of made.entries()) rows[i]!.pixels.set(await row.data(), first * size)
    tf.dispose([images, made])
  }
  return rows
}

/** Rows of images [h, w, c] as one picture, each pixel `zoom` times, with a black line between. */
function tile(rows: readonly Row[], columns: number, [height, width, c]: ImageShape, zoom: number) {
  const gap = 2
  const [stepY, stepX] = [height * zoom + gap, width * zoom + gap]
  const shape = [rows.length * stepY - gap, columns * stepX - gap, c] as const
  const bytes = new Uint8Array(shape[0] * shape[1] * c)
  for (const [r, { pixels }] of rows.entries())
    for (let column = 0; column < columns; column++)
      for (let y = 0; y < height * zoom; y++)
        for (let x = 0; x < width * zoom; x++) {
          const from = ((column * height + Math.floor(y / zoom)) * width + Math.floor(x / zoom)) * c
          const to = ((r * stepY + y) * shape[1] + column * stepX + x) * c
          for (let i = 0; i < c; i++) bytes[to + i] = Math.round(255 * Math.min(1, Math.max(0, pixels[from + i]!)))
        }
  return { bytes, shape }
}

/** The mean length of the differences of images [n, size] and those `shift` further on. */
function meanDistance(a: Float32Array, b: Float32Array, size: number, shift = 0): number {
  const n = a.length / size
  let sum = 0
  for (let i = 0; i < n; i++) {
    const other = ((i + shift) % n) * size
    let square = 0
    for (let k = 0; k < size; k++) square += (a[i * size + k]! - b[other + k]!) ** 2
    sum += Math.sqrt(square)
  }
  return sum / n
}

/**
 * How far reconstructions are from their images beside how far two images are from each other, by the pool that they
 * were made from: mean |x - x'| / mean |x - y| (Zhang, Lee and Lee, 2016, figure 3).
 */
export function relativeErrors(images: Float32Array, rows: readonly Row[], size: number): Record<string, number> {
  const apart = meanDistance(images, images, size, 1)
  return Object.fromEntries(rows.map(({ name, pixels }) => [name, meanDistance(images, pixels, size) / apart]))
}

/** Bars with their numbers; the numbers as JSON stand in its description. */
function drawErrors(errors: Record<string, number>): Picture {
  const entries = Object.entries(errors)
  const most = Math.max(1, ...Object.values(errors))
  const bars = entries.map(([name, error], i) => {
    const y = 30 + 24 * i
    const label = `<text x="96" y="${y + 13}" text-anchor="end">${name}</text>`
    const bar = `<rect x="104" y="${y}" width="${((280 * error) / most).toFixed(1)}" height="18" fill="#4477aa"/>`
    return `${label}${bar}<text x="396" y="${y + 13}">${error.toFixed(3)}</text>`
  })
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="460" height="${40 + 24 * entries.length}" font-family="sans-serif" font-size="13"><desc>${JSON.stringify(errors)}</desc><rect width="100%" height="100%" fill="#fff"/><text x="8" y="18">Error of the reconstruction from each pool, two images apart = 1</text>${bars.join('')}</svg>`
  return { name: 'reconstruction-error', type: 'image/svg+xml', bytes: new TextEncoder().encode(svg) }
}

/**
 * Some images of a dataset above their reconstructions, one row for each pool that they are made from; and how far
 * off those are over more images.
 */
export async function drawReconstructions(
  net: Net,
  decoding: Decoding,
  dataset: Dataset,
  watch: { stop?: AbortSignal },
): Promise<Picture[]> {
  const [height, width, channels] = dataset.imageShape
  const count = Math.min(measured, dataset.size)
  watch.stop?.throwIfAborted()
  const { data } = await dataset.read(Int32Array.from({ length: count }, (_, i) => i))
  const pixels = toUnit(data)
  const rows = await reconstruct(net, decoding, pixels, dataset.imageShape)
  const pictures = [drawErrors(relativeErrors(pixels, rows, height * width * channels))]
  if (channels !== 1 && channels !== 3) return pictures
  const zoom = Math.max(1, Math.ceil(leastSide / Math.min(height, width)))
  const all = [{ name: 'images', pixels }, ...rows]
  const { bytes, shape } = tile(all, Math.min(drawn, count), dataset.imageShape, zoom)
  return [{ name: 'reconstructions', type: 'image/png', bytes: await encodePng(bytes, shape) }, ...pictures]
}
