import type { Dataset } from './dataset.ts'
import type { Dice } from './dice.ts'

/** Images read at once where labels come only with them. */
const atOnce = 256

/** The labels of all images, [n], -1 for none; the images are read where there is no other way. */
export async function labelsOf(dataset: Dataset): Promise<Int32Array> {
  if (dataset.labels) return dataset.labels()
  const labels = new Int32Array(dataset.size).fill(-1)
  if (dataset.classes === 0) return labels
  for (let from = 0; from < dataset.size; from += atOnce) {
    const length = Math.min(atOnce, dataset.size - from)
    const read = await dataset.read(Int32Array.from({ length }, (_, i) => from + i))
    if (read.labels) labels.set(read.labels, from)
  }
  return labels
}

/** `count` whole numbers in the proportion of `sizes`, none larger than its size: largest remainders get the rest. */
export function shareOut(sizes: readonly number[], count: number): number[] {
  const all = sizes.reduce((sum, size) => sum + size, 0)
  const exact = sizes.map((size) => (size * count) / all)
  const shares = exact.map(Math.floor)
  const rest = count - shares.reduce((sum, share) => sum + share, 0)
  const byRemainder = exact.map((value, i) => ({ i, remainder: value - shares[i]! }))
  byRemainder.sort((a, b) => b.remainder - a.remainder || a.i - b.i)
  for (const { i } of byRemainder.slice(0, rest)) shares[i]!++
  return shares
}

/** So many places drawn at random, in which each label, -1 included, comes as often as its share of all. */
export function chooseStratified(labels: Int32Array, count: number, dice: Dice): number[] {
  const byLabel = new Map<number, number[]>()
  for (const [place, label] of labels.entries()) {
    const places = byLabel.get(label)
    if (places) places.push(place)
    else byLabel.set(label, [place])
  }
  const groups = [...byLabel].sort(([a], [b]) => a - b)
  const shares = shareOut(
    groups.map(([, places]) => places.length),
    count,
  )
  return groups.flatMap(([label, places], i) => {
    const order = dice.for(label).permutation(places.length)
    return Array.from(order.subarray(0, shares[i]!), (at) => places[at]!)
  })
}
