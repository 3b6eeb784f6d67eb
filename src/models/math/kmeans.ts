import { setImmediate } from 'node:timers/promises'
import { InvalidDefinition } from '../../errors.ts'
import { type Tensor1D, type Tensor2D, tf } from '../../tf.ts'
import type { Dice } from '../dice.ts'
import { areEqual, type Centre, centreOf, type Rows, spreadAbout } from './rows.ts'

/** How the first centroids are found: points drawn at random, k-means++, or rows that are given. */
export type Start = 'points' | 'plus-plus' | Rows

export interface KMeansOptions {
  k: number
  /** At most; it ends before where nothing changes any more. */
  iterations: number
  /** Points by default. */
  start?: Start
  /** So many points in each iteration, drawn anew (mini-batch k-means, Sculley 2010); all where absent. */
  batch?: number
  dice: Dice
  onProgress?(share: number): void
  /** When it is raised, its reason is thrown. */
  stop?: AbortSignal
}

export interface Clustering {
  /** [k, width]. */
  centroids: Rows
  /** The nearest centroid of each point. */
  assignments: Int32Array
  /** Points of each cluster. */
  counts: Int32Array
  /**
   * Sums of squared distances to the nearest centroid: before each iteration, and of the result. Those before the
   * last are estimates in mini-batch mode.
   */
  inertia: number[]
  /** Clusters that have no point in the result. */
  empties: number
  /** How often an empty cluster took a part of another one. */
  splits: number
  /** Whether all points are the same: the clusters mean nothing then. */
  allEqual: boolean
}

/** Products of points and centroids computed at once: 16 MiB. */
const blockLimit = 2 ** 22
/** k-means++ looks at so many points for each cluster. */
const seedsFrom = 20
/** A split centroid is moved by this part of the points' spread. */
const perturbation = 1 / 1024
/** In mini-batch mode a cluster is empty when none of so many points for each cluster chose it. */
const patience = 10

function refuse(pointer: string, detail: string): never {
  throw new InvalidDefinition([{ pointer, detail }], 'the clustering')
}

function check(rows: Rows, { k, iterations, start, batch }: KMeansOptions): void {
  const count = rows.data.length / rows.width
  if (k < 1) refuse('/k', `${k} clusters are none`)
  if (k > count) refuse('/k', `${k} clusters of ${count} points: there must be at least as many points`)
  if (iterations < 1) refuse('/iterations', 'at least one is needed')
  if (batch !== undefined && batch < 1) refuse('/batch', 'at least one point is needed')
  if (typeof start !== 'object') return
  if (start.width !== rows.width || start.data.length !== k * rows.width)
    refuse('/start', `${k} rows of ${rows.width} numbers are needed`)
  if (!start.data.every(Number.isFinite)) refuse('/start', 'it has what is no number')
}

function pick({ data, width }: Rows, indices: ArrayLike<number>): Rows {
  const out = new Float32Array(indices.length * width)
  for (let i = 0; i < indices.length; i++)
    out.set(data.subarray(indices[i]! * width, (indices[i]! + 1) * width), i * width)
  return { data: out, width }
}

/** Different numbers from 0 to n - 1, drawn at random; not in order. */
function drawDifferent(count: number, n: number, dice: Dice): Int32Array {
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
async function plusPlus(rows: Rows, k: number, dice: Dice, stop?: AbortSignal): Promise<Rows> {
  const all = rows.data.length / rows.width
  const sample = all > seedsFrom * k ? pick(rows, drawDifferent(seedsFrom * k, all, dice)) : rows
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
  return pick(sample, chosen)
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

/** Centroids at work: relative to the points' mean. */
class Centroids {
  readonly k: number
  readonly width: number
  readonly rows: Float32Array
  private readonly centre: Float64Array
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
    for (let j = 0; j < k; j++) {
      let sum = 0
      for (let c = 0; c < width; c++) {
        const value = rows[j * width + c]!
        sum += value * (centre[c]! + value / 2)
      }
      offsets[j] = -sum
    }
    const columns = new Float32Array(k * width)
    for (let j = 0; j < k; j++) for (let c = 0; c < width; c++) columns[c * k + j] = rows[j * width + c]!
    return { columns: tf.tensor2d(columns, [width, k]), offsets: tf.tensor1d(offsets) }
  }

  /** As they are, relative to nothing. */
  whole(): Rows {
    const { rows, width, centre } = this
    return { data: rows.map((value, i) => value + centre[i % width]!), width }
  }
}

/** Points by cluster. */
interface Tally {
  /** Sums of the points of each cluster, [k, width], as they lie. */
  sums: Float64Array
  counts: Int32Array
}

/**
 * The nearest centroid of each point, into `assignments`; whether one changed. Of centroids as near the first counts.
 */
async function assign(
  rows: Rows,
  centroids: Centroids,
  assignments: Int32Array,
  watch: { stop?: AbortSignal | undefined; onBlock?(done: number): void; tally?: Tally },
): Promise<boolean> {
  const { data, width } = rows
  const count = data.length / width
  const block = Math.max(1, Math.min(count, Math.floor(blockLimit / centroids.k)))
  const { columns, offsets } = centroids.tensors()
  let changed = false
  try {
    for (let first = 0; first < count; first += block) {
      watch.stop?.throwIfAborted()
      const points = Math.min(block, count - first)
      const part = data.subarray(first * width, (first + points) * width)
      const best = tf.tidy(() =>
        tf.argMax(tf.add(tf.matMul(tf.tensor2d(part, [points, width]), columns), offsets) as Tensor2D, 1),
      )
      const found = (await best.data()) as Int32Array
      best.dispose()
      for (let i = 0; i < points && !changed; i++) changed = assignments[first + i] !== found[i]
      assignments.set(found, first)
      if (watch.tally) count_(part, width, found, watch.tally)
      watch.onBlock?.((first + points) / count)
      await setImmediate()
    }
  } finally {
    tf.dispose([columns, offsets])
  }
  return changed
}

function count_(part: Float32Array, width: number, found: Int32Array, { sums, counts }: Tally): void {
  for (let i = 0; i < found.length; i++) {
    const cluster = found[i]!
    counts[cluster]!++
    const [from, to] = [i * width, cluster * width]
    for (let c = 0; c < width; c++) sums[to + c]! += part[from + c]!
  }
}

/** Sum over all points of |x - c|^2, of their sums: |x|^2 is known, and only c differs between the points. */
function inertiaOf({ rows, k, width }: Centroids, { sums, counts }: Tally, { centre, spread }: Centre): number {
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
function move({ rows, k, width }: Centroids, { sums, counts }: Tally, centre: Float64Array, seen?: Float64Array): void {
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

/**
 * An empty cluster takes the centroid of a large one, moved a little, and half of its points by count. The other stays
 * where it is, so that no point is farther from its centroid than before. Returns how many were split.
 */
function split({ rows, k, width }: Centroids, counts: Float64Array, step: number, dice: Dice): number {
  let splits = 0
  for (let empty = 0; empty < k; empty++) {
    if (counts[empty] !== 0) continue
    let total = 0
    for (const count of counts) if (count > 1) total += count - 1
    if (total === 0) break
    let left = dice.uniform() * total
    let from = -1
    for (let j = 0; j < k && left >= 0; j++) {
      if (counts[j]! <= 1) continue
      from = j
      left -= counts[j]! - 1
    }
    for (let c = 0; c < width; c++) rows[empty * width + c] = rows[from * width + c]! + (c % 2 === 0 ? step : -step)
    counts[empty] = Math.floor(counts[from]! / 2)
    counts[from]! -= counts[empty]!
    splits++
  }
  return splits
}

const newTally = (k: number, width: number): Tally => ({
  sums: new Float64Array(k * width),
  counts: new Int32Array(k),
})

async function firstCentroids(rows: Rows, { k, start = 'points', dice, stop }: KMeansOptions): Promise<Rows> {
  if (typeof start === 'object') return start
  const own = dice.for('start')
  if (start === 'plus-plus') return await plusPlus(rows, k, own, stop)
  return pick(rows, drawDifferent(k, rows.data.length / rows.width, own))
}

/**
 * k-means by Lloyd's iterations, or on mini-batches. Distances are computed through the engine in blocks, so that beside
 * the points it takes little memory. The inertia never rises, but for rounding.
 */
export async function kMeans(rows: Rows, options: KMeansOptions): Promise<Clustering> {
  check(rows, options)
  const { k, iterations, batch, dice, stop, onProgress } = options
  const { width } = rows
  const count = rows.data.length / width
  const measured = centreOf(rows)
  const { centre, spread } = measured
  const centroids = new Centroids(await firstCentroids(rows, options), centre)
  const step = perturbation * Math.sqrt(spread / count / width)
  const assignments = new Int32Array(count).fill(-1)
  const inertia: number[] = []
  let splits = 0
  const size = batch === undefined ? count : Math.min(batch, count)
  const seen = batch === undefined ? undefined : new Float64Array(k)
  let lately = new Float64Array(k)
  let since = 0
  let justSplit = false
  for (let iteration = 0; iteration < iterations; iteration++) {
    const own = dice.for('iteration', iteration)
    const used = seen ? pick(rows, drawDifferent(size, count, own.for('batch'))) : rows
    const chosen = seen ? new Int32Array(size) : assignments
    const tally = newTally(k, width)
    const onBlock = (done: number) => onProgress?.((iteration + done) / (iterations + 1))
    const changed = await assign(used, centroids, chosen, { stop, onBlock, tally })
    const known = seen ? { centre, spread: spreadAbout(used, centre) } : measured
    inertia.push((inertiaOf(centroids, tally, known) * count) / size)
    if (!seen && !changed && !justSplit) break
    move(centroids, tally, centre, seen)
    for (let j = 0; j < k; j++) lately[j]! += tally.counts[j]!
    since += size
    if (seen && since < patience * k && size < count) continue
    const now = split(centroids, lately, step, own.for('split'))
    splits += now
    justSplit = now > 0
    if (seen && now > 0) for (let j = 0; j < k; j++) seen[j] = Math.min(seen[j]!, lately[j]!)
    lately = new Float64Array(k)
    since = 0
  }
  const tally = newTally(k, width)
  const onBlock = (done: number) => onProgress?.((iterations + done) / (iterations + 1))
  await assign(rows, centroids, assignments, { stop, onBlock, tally })
  inertia.push(inertiaOf(centroids, tally, measured))
  const { counts } = tally
  const empties = counts.reduce((sum, own) => sum + (own === 0 ? 1 : 0), 0)
  return { centroids: centroids.whole(), assignments, counts, inertia, empties, splits, allEqual: areEqual(rows) }
}
