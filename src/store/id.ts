import { randomFillSync } from 'node:crypto'

const pattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/i

/** Whether a text has the form of an id; anything else would be an error of the database rather than a missing row. */
export function isId(text: string): boolean {
  return pattern.test(text)
}

let last = 0n

/**
 * A UUID version 7 (RFC 9562): 48 bits of milliseconds, then random bits, so that ids sort by their time. Within one
 * process they only grow (the 74 random bits count on within a millisecond).
 */
export function newId(): string {
  const random = randomFillSync(Buffer.alloc(10))
  const drawn = (BigInt(Date.now()) << 74n) | (BigInt(`0x${random.toString('hex')}`) >> 6n)
  last = drawn > last ? drawn : last + 1n
  const milliseconds = last >> 74n
  const a = (last >> 62n) & 0xfffn
  const b = last & 0x3fffffffffffffffn
  const bits = (milliseconds << 80n) | (7n << 76n) | (a << 64n) | (2n << 62n) | b
  const hex = bits.toString(16).padStart(32, '0')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
}
