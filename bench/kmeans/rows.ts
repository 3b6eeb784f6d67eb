import { closeSync, openSync, writeSync } from 'node:fs'
import { rollDice } from '../../src/models/dice.ts'

export interface Row {
  name: string
  /** Points of d numbers, k clusters. */
  n: number
  d: number
  k: number
  iterations: number
}

export const rows: readonly Row[] = [
  { name: 'small', n: 10_000, d: 64, k: 100, iterations: 20 },
  { name: 'middle', n: 60_000, d: 128, k: 1000, iterations: 20 },
  { name: 'large', n: 1_000_000, d: 256, k: 1000, iterations: 5 },
]

export type Command =
  | { command: 'hello' }
  | { command: 'prepare'; row: Row; file: string; start: number[] }
  | { command: 'cluster' }

/** Clouds that overlap, twice as many as clusters are looked for, so that no iteration is the last. */
const cloudsEach = 2
const noises = 2 ** 20

/** Writes points as float32, piece by piece, and draws which of them the centroids start from. */
export function writePoints({ n, d, k }: Row, file: string): number[] {
  const dice = rollDice(n)
  const clouds = Float32Array.from({ length: cloudsEach * k * d }, () => dice.normal())
  // Drawing each number would take minutes: a long list of them is read from a random place for each point.
  const noise = Float32Array.from({ length: noises + d }, () => dice.normal())
  const handle = openSync(file, 'w')
  const piece = 10_000
  const out = new Float32Array(piece * d)
  for (let first = 0; first < n; first += piece) {
    const count = Math.min(piece, n - first)
    for (let i = 0; i < count; i++) {
      const [cloud, from] = [dice.below(cloudsEach * k) * d, dice.below(noises)]
      for (let c = 0; c < d; c++) out[i * d + c] = clouds[cloud + c]! + noise[from + c]!
    }
    writeSync(handle, out, 0, 4 * count * d)
  }
  closeSync(handle)
  return [...dice.permutation(n).subarray(0, k)]
}
