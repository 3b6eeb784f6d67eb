import { setImmediate } from 'node:timers/promises'
import type { Dice } from '../dice.ts'
import { pickRows, type Rows } from './rows.ts'

/** k-means++ looks at so many points for each cluster. */
const pointsEach = 20

/** Different numbers from 0 to n - 1, drawn at random; not in order. */
export function drawDifferent(count: number, n: number, dice: Dice): Int32Array {
  if (4 * count > n) return dice.permutation(n).slice(0, count)
  const drawn = new Set<number>()
  while (drawn.size < count) drawn.add(dice.below(n))
  return Int32Array.from(drawn)
}

function squaredDistance(a: Float32Array, b: Float32Array, fromA: number, fromB: number, width: number): number {
  let sum = 0
  for (let c = 0; c < width; c++) {
    const difference = a[fromA + c]! - b[fromB + c]!
    sum += difference * difference
  }
  return sum
}

/** Arthur and Vassilvitskii 2007: each next one is drawn by its squared distance to those there are. */
export async function plusPlus(rows: Rows, k: number, dice: Dice, stop?: AbortSignal): Promise<Rows> {
  const all = rows.data.length / rows.width
  const sample = all > pointsEach * k ? pickRows(rows, drawDifferent(pointsEach * k, all, dice)) : rows
  const { data, width } = sample
  const count = data.length / width
  const chosen = new Int32Array(k)
  const nearest = new Float64Array(count).fill(Number.POSITIVE_INFINITY)
  const taken = new Uint8Array(count)
  chosen[0] = dice.below(count)
  for (let next = 1; next < k; next++) {
    const last = chosen[next - 1]!
    taken[last] = 1
    let total = 0
    for (let i = 0; i < count; i++) {
      const distance = squaredDistance(data, data, i * width, last * width, width)
      if (distance < nearest[i]!) nearest[i] = distance
      total += nearest[i]!
    }
    chosen[next] = draw(nearest, total, taken, dice)
    if (next % 16 > 0) continue
    stop?.throwIfAborted()
    await setImmediate()
  }
  return pickRows(sample, chosen)
}

/** A place by its weight; where all weights are 0, the first that is not taken. */
function draw(weights: Float64Array, total: number, taken: Uint8Array, dice: Dice): number {
  let left = dice.uniform() * total
  for (let i = 0; i < weights.length; i++) {
    left -= weights[i]!
    if (left < 0 && weights[i]! > 0) return i
  }
  return Math.max(0, taken.indexOf(0))
}
