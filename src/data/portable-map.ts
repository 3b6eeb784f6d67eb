/** A binary portable map (PGM or PPM): a line of text, then the pixels as they are. */
export interface PortableMap {
  shape: { height: number; width: number; channels: number }
  /** Where the pixels begin. */
  at: number
}

/** The header of a whole map of 8 bits a channel; undefined for anything else. */
export function readPortable(bytes: Uint8Array): PortableMap | undefined {
  if (bytes[0] !== 0x50 || (bytes[1] !== 0x35 && bytes[1] !== 0x36)) return undefined
  const head = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, 64)).toString('latin1')
  const [all, kind, width, height] = /^P([56])\s+(\d{1,6})\s+(\d{1,6})\s+255\s/.exec(head) ?? []
  if (all === undefined) return undefined
  const shape = { height: Number(height), width: Number(width), channels: kind === '6' ? 3 : 1 }
  return bytes.length === all.length + shape.height * shape.width * shape.channels
    ? { shape, at: all.length }
    : undefined
}

/** The file of an image, which is read without being decoded. */
export function writePortable(
  { height, width, channels }: { height: number; width: number; channels: number },
  pixels: Uint8Array,
): Buffer {
  return Buffer.concat([Buffer.from(`P${channels === 3 ? 6 : 5}\n${width} ${height}\n255\n`), pixels])
}
