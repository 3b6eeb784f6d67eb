import { createHash } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import { crc32 } from 'node:zlib'

/** Verifies bytes that come piece by piece. */
export interface Checksum {
  update(chunk: Uint8Array): void
  /** Whether these were all, and the right ones. */
  holds(): boolean
}

/** As it is kept with an object. */
export function writeCrc(crc: number): string {
  return crc.toString(16).padStart(8, '0')
}

function byCrc(expected: string): Checksum {
  let crc = 0
  return {
    update(chunk) {
      crc = crc32(chunk, crc)
    },
    holds: () => writeCrc(crc) === expected,
  }
}

function bySha256(expected: string): Checksum {
  const hash = createHash('sha256')
  return { update: (chunk) => void hash.update(chunk), holds: () => hash.digest('hex') === expected }
}

/**
 * By what was recorded with an object when it was put: its CRC-32, since its SHA-256 takes longer to compute than the
 * bytes take to come, and neither guards against whoever may write both. Objects that others put there carry nothing.
 */
export function recordedChecksum(headers: IncomingHttpHeaders): Checksum | undefined {
  const { 'x-amz-meta-crc32': crc, 'x-amz-meta-sha256': sha256 } = headers
  if (typeof crc === 'string') return byCrc(crc)
  return typeof sha256 === 'string' ? bySha256(sha256) : undefined
}
