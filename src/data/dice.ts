/**
 * Every random number of a run, from (seed, labels): the same words give the same numbers on every machine, so a run
 * that is resumed draws what the uninterrupted one would have drawn.
 */
export interface Dice {
  /** Dice of their own for a purpose: `dice.for('negatives', step)`. Does not disturb these dice. */
  for(...labels: readonly (string | number)[]): Dice
  /** In [0, 1), 32 bits. */
  uniform(): number
  /** A whole number in [0, n). */
  below(n: number): number
  /** Mean 0, variance 1. */
  normal(): number
  /** The numbers 0 to n - 1 in a random order. */
  permutation(n: number): Int32Array
}

const rounds = 0x9e3779b9

/** Mixes words into one 32-bit state (the finaliser of MurmurHash3, public domain). */
function mix(hash: number, word: number): number {
  let h = (hash ^ word) >>> 0
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}

/** The words of labels in letters: there are few, and they come with every image. */
const knownWords = new Map<string, readonly number[]>()
const mostKnown = 1000

function words(label: string | number): readonly number[] {
  if (typeof label === 'number') return [1, label >>> 0, Math.floor(label / 2 ** 32) >>> 0]
  const known = knownWords.get(label)
  if (known) return known
  const bytes = Buffer.from(label, 'utf8')
  const found = [2, bytes.length, ...bytes]
  if (knownWords.size < mostKnown) knownWords.set(label, found)
  return found
}

class SeededDice implements Dice {
  private readonly key: readonly [number, number]
  private counter = 0
  private spare: number | undefined
  constructor(key: readonly [number, number]) {
    this.key = key
  }
  for(...labels: readonly (string | number)[]): Dice {
    let [a, b] = this.key
    for (const label of labels)
      for (const word of words(label)) {
        a = mix(a + rounds, word)
        b = mix(b ^ a, word + rounds)
      }
    return new SeededDice([a, b])
  }
  private next(): number {
    this.counter = (this.counter + 1) >>> 0
    return mix(mix(this.key[0] + Math.imul(this.counter, rounds), this.key[1]), this.counter)
  }
  uniform(): number {
    return this.next() / 2 ** 32
  }
  below(n: number): number {
    return Math.floor(this.uniform() * n)
  }
  normal(): number {
    if (this.spare !== undefined) {
      const value = this.spare
      this.spare = undefined
      return value
    }
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()))
    const angle = 2 * Math.PI * this.uniform()
    this.spare = radius * Math.sin(angle)
    return radius * Math.cos(angle)
  }
  permutation(n: number): Int32Array {
    const order = Int32Array.from({ length: n }, (_, i) => i)
    for (let i = n - 1; i > 0; i--) {
      const j = this.below(i + 1)
      const moved = order[i]!
      order[i] = order[j]!
      order[j] = moved
    }
    return order
  }
}

export function rollDice(seed: number): Dice {
  return new SeededDice([mix(0x243f6a88, seed >>> 0), mix(0x85a308d3, Math.floor(seed / 2 ** 32) >>> 0)])
}
