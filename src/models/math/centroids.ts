import { setImmediate } from 'node:timers/promises'
import { isFarAway, type Tensor, type Tensor1D, type Tensor2D, tf } from '../../tf.ts'
import type { Dice } from '../dice.ts'
import type { Centre, Rows } from './rows.ts'

/** Numbers of points, and products of points with centroids where these are stored, that are computed at once. */
const [pointLimit, productLimit] = [2 ** 23, 2 ** 22]
/** The same of products on another device, where few points at a time would not keep it busy: 256 MiB. */
const farProductLimit = 2 ** 26
/** Bytes of points that stay on another device: 1 GiB. */
const heldLimit = 2 ** 30
/** Points, and multiplications, between two looks at whether to stop. */
const [mostAtOnce, workLimit] = [2 ** 16, 2 ** 34]

/** This engine finds the nearest centroids without storing all products. */
const fuses = () => tf.getBackend() === 'machine'
/** It sums rows faster than a loop here, as another device does. */
const sumsFast = () => fuses() || isFarAway()

/** Centroids at work: relative to the points' mean, since small numbers lose fewer digits. */
export class Centroids {
  readonly k: number
  readonly width: number
  /** [k, width] */
  readonly rows: Float32Array
  readonly centre: Float64Array
  constructor({ data, width }: Rows, centre: Float64Array) {
    this.k = data.length / width
    this.width = width
    this.centre = centre
    this.rows = data.map((value, i) => value - centre[i % width]!)
  }

  /**
   * What decides which is nearest: the largest of x . c - |c|^2 / 2, for points x and centroids c that are both
   * relative to the mean m; of a point as it lies that is x . c - m . c - |c|^2 / 2.
   */
  tensors(): { columns: Tensor2D; offsets: Tensor1D } {
    const { k, width, rows, centre } = this
    const offsets = new Float32Array(k)
    const columns = new Float32Array(k * width)
    for (let j = 0; j < k; j++) {
      let sum = 0
      for (let c = 0; c < width; c++) {
        const value = rows[j * width + c]!
        columns[c * k + j] = value
        sum += value * (centre[c]! + value / 2)
      }
      offsets[j] = -sum
    }
    return { columns: tf.tensor2d(columns, [width, k]), offsets: tf.tensor1d(offsets) }
  }

  /** As they are, relative to nothing. */
  whole(): Rows {
    const { rows, width, centre } = this
    return { data: rows.map((value, i) => value + centre[i % width]!), width }
  }
}

/** Points by cluster. */
export interface Tally {
  /** Sums of the points of each cluster, [k, width], as they lie. */
  sums: Float64Array
  counts: Int32Array
}

export const newTally = ({ k, width }: Centroids): Tally => ({
  sums: new Float64Array(k * width),
  counts: new Int32Array(k),
})

/** Blocks of points on another device, by their first point. */
export type Held = Map<number, Tensor2D>

/** Where points can stay from one look at them to the next: nowhere if the engine reads them where they are. */
export function holdPoints({ data }: Rows): Held | undefined {
  return isFarAway() && data.byteLength <= heldLimit ? new Map() : undefined
}

interface Watch {
  held?: Held | undefined
  stop?: AbortSignal | undefined
  /** Told which share is done. */
  onBlock?(share: number): void
  /** Where the points of each cluster are summed. */
  tally?: Tally
}

function pointsAtOnce(count: number, { k, width }: Centroids): number {
  const products = isFarAway() ? farProductLimit : productLimit
  const byMemory = Math.min(pointLimit / width, fuses() ? mostAtOnce : products / k)
  return Math.max(1, Math.min(count, mostAtOnce, Math.floor(Math.min(byMemory, workLimit / k / width))))
}

/** A block of points whose nearest centroids are on their way. */
interface Looked {
  first: number
  part: Rows
  made: Tensor[]
  read: Promise<[Int32Array, Float32Array?]>
}

function look(part: Rows, first: number, given: ReturnType<Centroids['tensors']>, { held, tally }: Watch): Looked {
  const { columns, offsets } = given
  const { data, width } = part
  const k = offsets.shape[0]
  const made = tf.tidy(() => {
    const points = held?.get(first) ?? tf.tensor2d(data, [data.length / width, width])
    held?.set(first, tf.keep(points))
    const nearest = tf.argMax(tf.add(tf.matMul(points, columns), offsets) as Tensor2D, 1) as Tensor1D
    return tally && sumsFast() ? [nearest, tf.unsortedSegmentSum(points, nearest, k)] : [nearest]
  })
  const read = Promise.all(made.map((tensor) => tensor.data())) as Promise<unknown> as Looked['read']
  // What fails is told when it is waited for.
  read.catch(() => {})
  return { first, part, made, read }
}

/** Waits for a block; the nearest centroid of each of its points. */
async function finish({ part, made, read }: Looked, tally: Tally | undefined): Promise<Int32Array> {
  try {
    const [found, sums] = await read
    if (tally) for (const cluster of found) tally.counts[cluster]!++
    if (sums) for (let i = 0; i < sums.length; i++) tally!.sums[i]! += sums[i]!
    else if (tally) sumByCluster(part, found, tally.sums)
    return found
  } finally {
    tf.dispose(made)
  }
}

/**
 * The nearest centroid of each point, into `assignments`; whether one changed. Of centroids as near the first counts.
 * While the numbers of a block are on their way, the next one is looked at.
 */
export async function assign(
  { data, width }: Rows,
  centroids: Centroids,
  assignments: Int32Array,
  watch: Watch,
): Promise<boolean> {
  const { stop, onBlock, tally } = watch
  const count = data.length / width
  const most = pointsAtOnce(count, centroids)
  const given = centroids.tensors()
  let changed = false
  let last: Looked | undefined
  const settle = async () => {
    if (!last) return
    const { first } = last
    const found = await finish(last, tally)
    last = undefined
    for (let i = 0; i < found.length && !changed; i++) changed = assignments[first + i] !== found[i]
    assignments.set(found, first)
    onBlock?.((first + found.length) / count)
  }
  try {
    for (let first = 0; first < count; first += most) {
      stop?.throwIfAborted()
      const points = Math.min(most, count - first)
      const part: Rows = { data: data.subarray(first * width, (first + points) * width), width }
      const next = look(part, first, given, watch)
      try {
        await settle()
      } finally {
        last = next
      }
      await setImmediate()
    }
    await settle()
  } finally {
    await last?.read.catch(() => {})
    tf.dispose([given.columns, given.offsets, last?.made ?? []])
  }
  return changed
}

/** Four numbers in a turn, which halves the time. */
function sumByCluster({ data, width }: Rows, found: Int32Array, sums: Float64Array): void {
  const inFours = width - (width % 4)
  for (let i = 0; i < found.length; i++) {
    let [from, to] = [i * width, found[i]! * width]
    const [lastFour, end] = [from + inFours, from + width]
    for (; from < lastFour; from += 4, to += 4) {
      sums[to]! += data[from]!
      sums[to + 1]! += data[from + 1]!
      sums[to + 2]! += data[from + 2]!
      sums[to + 3]! += data[from + 3]!
    }
    while (from < end) sums[to++]! += data[from++]!
  }
}

/** Sum over all points of |x - c|^2, of their sums: |x|^2 is known, and only c differs between the points. */
export function inertiaOf({ rows, k, width, centre }: Centroids, { sums, counts }: Tally, spread: Centre['spread']) {
  let total = spread
  for (let j = 0; j < k; j++) {
    if (counts[j] === 0) continue
    for (let c = 0; c < width; c++) {
      const at = j * width + c
      const value = rows[at]!
      total += value * (counts[j]! * (value + 2 * centre[c]!) - 2 * sums[at]!)
    }
  }
  return Math.max(0, total)
}

/** Moves each centroid to the mean of its points; with `seen`, of all that it has ever had. */
export function move({ rows, k, width, centre }: Centroids, { sums, counts }: Tally, seen?: Float64Array): void {
  for (let j = 0; j < k; j++) {
    const own = counts[j]!
    if (own === 0) continue
    if (seen) seen[j]! += own
    const share = seen ? own / seen[j]! : 1
    for (let c = 0; c < width; c++) {
      const at = j * width + c
      rows[at] = (1 - share) * rows[at]! + share * (sums[at]! / own - centre[c]!)
    }
  }
}

/** A cluster of more than one point, drawn by its points; -1 where there is none. */
function drawLarge(counts: Float64Array, dice: Dice): number {
  let total = 0
  for (const count of counts) if (count > 1) total += count - 1
  let left = dice.uniform() * total
  let drawn = -1
  for (let j = 0; j < counts.length && left >= 0; j++) {
    if (counts[j]! <= 1) continue
    drawn = j
    left -= counts[j]! - 1
  }
  return drawn
}

/**
 * An empty cluster takes the centroid of a large one, moved by `step`, and half of its points by count. The other stays
 * where it is, so that no point is farther from its centroid than before. Returns the clusters that were empty.
 */
export function splitLarge({ rows, k, width }: Centroids, counts: Float64Array, step: number, dice: Dice): number[] {
  const filled: number[] = []
  for (let empty = 0; empty < k; empty++) {
    if (counts[empty] !== 0) continue
    const from = drawLarge(counts, dice)
    if (from < 0) break
    for (let c = 0; c < width; c++) rows[empty * width + c] = rows[from * width + c]! + (c % 2 === 0 ? step : -step)
    counts[empty] = Math.floor(counts[from]! / 2)
    counts[from]! -= counts[empty]!
    filled.push(empty)
  }
  return filled
}
