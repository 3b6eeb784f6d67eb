/** Bytes 0..255 as numbers in [0, 1]. */
const unit = Float32Array.from({ length: 256 }, (_, byte) => byte / 255)

/** Writes images as numbers in [0, 1] into `out` from `offset`; same order, same length. */
export function writeUnit(bytes: Uint8Array, out: Float32Array, offset = 0): void {
  for (let i = 0; i < bytes.length; i++) out[offset + i] = unit[bytes[i]!]!
}

/** Images as numbers in [0, 1], as they are, in a new array. */
export function toUnit(bytes: Uint8Array): Float32Array {
  const out = new Float32Array(bytes.length)
  writeUnit(bytes, out)
  return out
}
