import { Damaged, TooLarge } from '../errors.ts'
import { loadCodec } from './codec.ts'
import type { ImageShape } from './dataset.ts'
import { Thread } from './thread.ts'

/** How a compressed picture becomes an image. */
export interface Decoding {
  /** What comes out: one channel is grey, three are red, green and blue. */
  shape: ImageShape
  /** Cut to the middle where the sides differ, or stretched. */
  fit: 'crop' | 'stretch'
  /** The short side before the cut, in pixels; the smallest that fills the shape where absent. */
  shortSide?: number
}

/** What the header of a compressed picture says, turned as it is to be seen. */
export interface PictureHeader {
  format: string
  width: number
  height: number
  channels: number
}

/** A larger picture is refused before it is decoded: 64 million pixels are 192 MB of colour. */
export const mostPixels = 64_000_000

/** Compressed. */
export const mostPictureBytes = 64 * 2 ** 20

const formats = 'JPEG, PNG, WebP, GIF, TIFF and AVIF'

// Warnings pass: many published photographs have harmless ones. Pixels that are missing or wrong do not.
const options = { limitInputPixels: mostPixels, failOn: 'error', pages: 1 } as const

function damaged(name: string, cause: unknown): Damaged {
  const text = (cause as Error).message
    .trim()
    .split('\n')
    .at(-1)!
    .replace(/[\s:]+$/, '')
  if (/unsupported image format/i.test(text))
    return new Damaged(`${name} is no picture that can be read`, `${formats} are read; convert it or leave it out`, {
      cause,
    })
  return new Damaged(
    `${name} does not decode, it may be cut short: ${text}`,
    'put the whole file there again, or leave it out',
    { cause },
  )
}

function tooManyPixels(name: string, { width, height }: { width: number; height: number }): TooLarge {
  return new TooLarge(
    `${name} has ${width} x ${height} pixels; at most ${mostPixels} are decoded`,
    'make it smaller or leave it out',
  )
}

function refuseLarge(name: string, bytes: Uint8Array): void {
  if (bytes.length === 0) throw new Damaged(`${name} is empty`, 'put the whole file there again, or leave it out')
  if (bytes.length > mostPictureBytes)
    throw new TooLarge(
      `${name} takes ${bytes.length} bytes; at most ${mostPictureBytes} are decoded`,
      'make it smaller or leave it out',
    )
}

/** The right error for what the library said. It reads the header again, without decoding, where pixels were too many. */
async function explain(name: string, bytes: Uint8Array, cause: unknown): Promise<Error> {
  if (!/exceeds pixel limit/i.test((cause as Error).message)) return damaged(name, cause)
  const codec = await loadCodec()
  return codec(bytes, { ...options, limitInputPixels: false })
    .metadata()
    .then(
      (header) => tooManyPixels(name, header),
      (error: unknown) => damaged(name, error),
    )
}

/** The header alone: nothing is decoded. Throws Damaged where there is none, TooLarge where it would not be decoded. */
export async function inspectPicture(name: string, bytes: Uint8Array): Promise<PictureHeader> {
  refuseLarge(name, bytes)
  const codec = await loadCodec()
  try {
    const { format, channels, autoOrient } = await codec(bytes, options).metadata()
    return { format, channels, width: autoOrient.width, height: autoOrient.height }
  } catch (error) {
    throw await explain(name, bytes, error)
  }
}

/** A picture to decode. */
export interface DecodingTask {
  name: string
  bytes: Uint8Array
  decoding: Decoding
}

/** An error of ours on its way from a thread: only plain data passes. */
export interface Refusal {
  code: string
  message: string
  cure: string
}

/** Decodes by the event loop of this thread; see `decodePicture`. */
export async function decodeHere({ name, bytes, decoding }: DecodingTask): Promise<Uint8Array> {
  const [height, width, channels] = decoding.shape
  const short = decoding.shortSide ?? 0
  const codec = await loadCodec()
  const wide = decoding.fit === 'crop' && short > 0 ? { width: short, height: short } : { width, height }
  let picture = codec(bytes, options)
    .autoOrient()
    .flatten({ background: 'white' })
    .resize({ ...wide, fit: decoding.fit === 'crop' ? 'cover' : 'fill', kernel: 'linear' })
  if (wide.width > width || wide.height > height)
    picture = picture.extract({
      left: (wide.width - width) >> 1,
      top: (wide.height - height) >> 1,
      width,
      height,
    })
  try {
    return await picture
      .toColourspace(channels === 1 ? 'b-w' : 'srgb')
      .raw({ depth: 'uchar' })
      .toBuffer()
  } catch (error) {
    throw await explain(name, bytes, error)
  }
}

let thread: Thread<DecodingTask, Uint8Array> | undefined

/** The one thread that decodes. The library has to be loaded here first, so that it outlives the thread. */
async function running(): Promise<Thread<DecodingTask, Uint8Array>> {
  await loadCodec()
  if (!thread || thread.ended) thread = new Thread('decoding-thread', 'decodes pictures')
  return thread
}

/** Starts the thread, so that it is there when the first picture is wanted. */
export async function prepareDecoding(): Promise<void> {
  await running()
}

function isRefusal(error: unknown): error is Refusal {
  return typeof error === 'object' && error !== null && 'code' in error && 'cure' in error && !(error instanceof Error)
}

/**
 * A compressed picture as bytes [h, w, c]: turned as its EXIF data says, transparency laid on white, CMYK and 16 bits
 * taken to 8 of sRGB, of several frames the first, made smaller or larger by interpolation between neighbours. It is
 * decoded outside this thread, as many side by side as libuv has threads. Throws Damaged or TooLarge, with the name.
 */
export async function decodePicture(name: string, bytes: Uint8Array, decoding: Decoding): Promise<Uint8Array> {
  const [height, width] = decoding.shape
  const short = decoding.shortSide ?? 0
  if (decoding.fit === 'crop' && short > 0 && short < Math.max(height, width))
    throw new RangeError(`a short side of ${short} does not hold ${height} x ${width}`)
  refuseLarge(name, bytes)
  // A copy: what is given may be a part of more, and is not ours to hand over.
  const own = new Uint8Array(bytes)
  try {
    return await (await running()).ask({ name, bytes: own, decoding }, [own.buffer])
  } catch (error) {
    if (!isRefusal(error)) throw error
    const { code, message, cure } = error
    throw code === 'too-large' ? new TooLarge(message, cure) : new Damaged(message, cure)
  }
}

/** Many compressed pictures, [n, h, w, c]. All of them wait at once, so that a busy thread holds none of them up. */
export async function decodePictures(
  pictures: readonly { name: string; bytes: Uint8Array }[],
  decoding: Decoding,
): Promise<Uint8Array> {
  const [height, width, channels] = decoding.shape
  const image = height * width * channels
  const data = new Uint8Array(pictures.length * image)
  await Promise.all(
    pictures.map(async ({ name, bytes }, i) => data.set(await decodePicture(name, bytes, decoding), i * image)),
  )
  return data
}
