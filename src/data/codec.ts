import type sharp from 'sharp'
import { Misconfigured } from '../errors.ts'

/** What reads and writes compressed pictures. */
export type Codec = typeof sharp

/** Formats that are read; the others that the library knows (SVG, for one) can name files, run long or draw text. */
const loaders = ['Jpeg', 'Png', 'Webp', 'Nsgif', 'Tiff', 'Heif'].map((format) => `VipsForeignLoad${format}Buffer`)

let loading: Promise<Codec> | undefined

async function load(): Promise<Codec> {
  const { default: codec } = await import('sharp').catch((cause: unknown) => {
    throw new Misconfigured(
      `the library that decodes pictures does not load: ${(cause as Error).message.split('\n')[0]}`,
      "install it with 'npm ci', optional dependencies included: its binaries are among them",
      { cause },
    )
  })
  codec.block({ operation: ['VipsForeignLoad'] })
  codec.unblock({ operation: loaders })
  // Every picture is read once, and batches are decoded side by side: one thread a picture.
  codec.cache(false)
  codec.concurrency(1)
  return codec
}

/** Loads the library when the first picture is decoded or written: most processes never do. */
export function loadCodec(): Promise<Codec> {
  loading ??= load()
  return loading
}
