import { Damaged, TooLarge } from '../errors.ts'
import { decodePicture, inspectPicture } from './decoding.ts'
import { readPortable } from './portable-map.ts'

/** Header: format and size are read. Pixels: the whole image is decoded, and thrown away. */
export const imageChecks = ['pixels', 'header'] as const
export type ImageCheck = (typeof imageChecks)[number]

/** Larger ones come out small, so that none of them stands whole in memory while it is decoded line by line. */
const smallPixels = 2 ** 20

/** Height, width and channels (2 and 4: with transparency) of an image, or why it cannot be used. */
export async function inspectImage(
  name: string,
  bytes: Uint8Array,
  check: ImageCheck,
): Promise<{ height: number; width: number; channels: number } | string> {
  const portable = readPortable(bytes)
  if (portable) return portable.shape
  try {
    const { height, width, channels } = await inspectPicture(name, bytes)
    if (check === 'pixels')
      await decodePicture(name, bytes, {
        shape: height * width > smallPixels ? [8, 8, 3] : [height, width, 3],
        fit: 'stretch',
      })
    return { height, width, channels }
  } catch (error) {
    if (error instanceof Damaged || error instanceof TooLarge) return error.message
    throw error
  }
}
