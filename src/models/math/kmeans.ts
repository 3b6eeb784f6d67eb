import { InvalidDefinition } from '../../errors.ts'
import { tf } from '../../tf.ts'
import type { Dice } from '../dice.ts'
import { assign, Centroids, type Held, holdPoints, inertiaOf, move, newTally, splitLarge } from './centroids.ts'
import { areEqual, centreOf, pickRows, type Rows, spreadAbout } from './rows.ts'
import { drawDifferent, plusPlus } from './seeding.ts'

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

async function firstCentroids(rows: Rows, { k, start = 'points', dice, stop }: KMeansOptions): Promise<Rows> {
  if (typeof start === 'object') return start
  const own = dice.for('start')
  if (start === 'plus-plus') return await plusPlus(rows, k, own, stop)
  return pickRows(rows, drawDifferent(k, rows.data.length / rows.width, own))
}

/** What the iterations work on. */
interface Work {
  rows: Rows
  /** Where the points stay, unless only some of them are looked at. */
  held: Held | undefined
  options: KMeansOptions
  centroids: Centroids
  assignments: Int32Array
  inertia: number[]
  spread: number
  /** How far a split centroid is moved. */
  step: number
}

/** Of iteration `done` out of all and the last look. */
const tell =
  ({ iterations, onProgress }: KMeansOptions, done: number) =>
  (share: number) =>
    onProgress?.((done + share) / (iterations + 1))

/** Lloyd's iterations; how many clusters were split. */
async function onAll({ rows, held, options, centroids, assignments, inertia, spread, step }: Work): Promise<number> {
  const { iterations, dice, stop } = options
  let [splits, before] = [0, 0]
  for (let iteration = 0; iteration < iterations; iteration++) {
    const tally = newTally(centroids)
    const onBlock = tell(options, iteration)
    const changed = await assign(rows, centroids, assignments, { held, stop, onBlock, tally })
    inertia.push(inertiaOf(centroids, tally, spread))
    if (!changed && splits === before) break
    before = splits
    move(centroids, tally)
    const counts = Float64Array.from(tally.counts)
    splits += splitLarge(centroids, counts, step, dice.for('iteration', iteration)).length
  }
  return splits
}

/** The same on other points each time, where centroids keep what they learned from earlier ones. */
async function onBatches({ rows, options, centroids, inertia, step }: Work, batch: number): Promise<number> {
  const { k, iterations, dice, stop } = options
  const count = rows.data.length / rows.width
  const size = Math.min(batch, count)
  const seen = new Float64Array(k)
  let lately = new Float64Array(k)
  let [splits, since] = [0, 0]
  for (let iteration = 0; iteration < iterations; iteration++) {
    const own = dice.for('iteration', iteration)
    const drawn = pickRows(rows, drawDifferent(size, count, own.for('batch')))
    const tally = newTally(centroids)
    await assign(drawn, centroids, new Int32Array(size), { stop, onBlock: tell(options, iteration), tally })
    inertia.push((inertiaOf(centroids, tally, spreadAbout(drawn, centroids.centre)) * count) / size)
    move(centroids, tally, seen)
    for (let j = 0; j < k; j++) lately[j]! += tally.counts[j]!
    since += size
    if (since < patience * k) continue
    const filled = splitLarge(centroids, lately, step, own.for('split'))
    for (const cluster of filled) seen[cluster] = 0
    splits += filled.length
    lately = new Float64Array(k)
    since = 0
  }
  return splits
}

/**
 * k-means by Lloyd's iterations, or on mini-batches. Distances are computed through the engine in blocks, so that beside
 * the points it takes little memory. The inertia never rises, but for rounding.
 */
export async function kMeans(rows: Rows, options: KMeansOptions): Promise<Clustering> {
  check(rows, options)
  const { iterations, batch, stop } = options
  const count = rows.data.length / rows.width
  const { centre, spread } = centreOf(rows)
  const centroids = new Centroids(await firstCentroids(rows, options), centre)
  const step = perturbation * Math.sqrt(spread / rows.data.length)
  const assignments = new Int32Array(count).fill(-1)
  const inertia: number[] = []
  const held = batch === undefined ? holdPoints(rows) : undefined
  const work: Work = { rows, held, options, centroids, assignments, inertia, spread, step }
  const tally = newTally(centroids)
  let splits: number
  try {
    splits = batch === undefined ? await onAll(work) : await onBatches(work, batch)
    await assign(rows, centroids, assignments, { held, stop, onBlock: tell(options, iterations), tally })
  } finally {
    tf.dispose([...(held?.values() ?? [])])
  }
  inertia.push(inertiaOf(centroids, tally, spread))
  const { counts } = tally
  const empties = counts.reduce((sum, own) => sum + (own === 0 ? 1 : 0), 0)
  return { centroids: centroids.whole(), assignments, counts, inertia, empties, splits, allEqual: areEqual(rows) }
}

/** The nearest centroid of each row; of centroids as near the first. */
export async function nearestCentroids(rows: Rows, centroids: Rows, stop?: AbortSignal): Promise<Int32Array> {
  const found = new Int32Array(rows.data.length / rows.width)
  await assign(rows, new Centroids(centroids, centreOf(centroids).centre), found, { stop })
  return found
}
