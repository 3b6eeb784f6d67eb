import { nearest } from './nearest.ts'
import { normaliseRows, type Rows } from './rows.ts'

export interface PowerIterationOptions {
  /** Edges from each point, to its nearest ones. */
  neighbours: number
  /** Edges weigh exp(-(distance / sigma)^2), distances between rows of length 1. */
  sigma: number
  iterations: number
  /** What flows along the edges at each iteration; the rest comes evenly from everywhere. */
  alpha: number
  onProgress?(share: number): void
  stop?: AbortSignal | undefined
}

/** The symmetric graph of neighbours: the edges of point i lie from start[i] up to start[i + 1]. */
interface Graph {
  start: Int32Array
  ends: Int32Array
  weights: Float64Array
}

/** An edge both ways for each neighbour found; two that are each other's neighbours share a doubled one. */
function connect(count: number, k: number, indices: Int32Array, weights: Float64Array): Graph {
  const edges: Map<number, number>[] = Array.from({ length: count }, () => new Map())
  const add = (from: number, to: number, weight: number) => edges[from]!.set(to, (edges[from]!.get(to) ?? 0) + weight)
  for (let i = 0; i < count; i++)
    for (let j = i * k; j < (i + 1) * k; j++) {
      add(i, indices[j]!, weights[j]!)
      add(indices[j]!, i, weights[j]!)
    }
  const start = new Int32Array(count + 1)
  for (let i = 0; i < count; i++) start[i + 1] = start[i]! + edges[i]!.size
  const graph = { start, ends: new Int32Array(start[count]!), weights: new Float64Array(start[count]!) }
  for (let i = 0, at = 0; i < count; i++)
    for (const [end, weight] of edges[i]!) {
      graph.ends[at] = end
      graph.weights[at++] = weight
    }
  return graph
}

/** How much of the flow each point holds, summing to 1. */
function flow({ start, ends, weights }: Graph, { iterations, alpha }: PowerIterationOptions): Float64Array {
  const count = start.length - 1
  let held = new Float64Array(count).fill(1 / count)
  for (let iteration = 0; iteration < iterations; iteration++) {
    const next = new Float64Array(count)
    let total = 0
    for (let i = 0; i < count; i++) {
      let sum = 0
      for (let edge = start[i]!; edge < start[i + 1]!; edge++) sum += weights[edge]! * held[ends[edge]!]!
      next[i] = alpha * sum + (1 - alpha) / count
      total += next[i]!
    }
    for (let i = 0; i < count; i++) next[i]! /= total
    held = next
  }
  return held
}

/** The point that each one points to: along the steepest rise, itself where all around holds less. */
function climb({ start, ends, weights }: Graph, held: Float64Array): Int32Array {
  return Int32Array.from({ length: start.length - 1 }, (_, i) => {
    let best = 0
    let upward = i
    for (let edge = start[i]!; edge < start[i + 1]!; edge++) {
      const rise = weights[edge]! * (held[ends[edge]!]! - held[i]!)
      if (rise > best) {
        best = rise
        upward = ends[edge]!
      }
    }
    return upward
  })
}

/** The top that each point comes to. */
function follow(upward: Int32Array): Int32Array {
  const top = new Int32Array(upward.length).fill(-1)
  for (let i = 0; i < upward.length; i++) {
    const path: number[] = []
    let at = i
    while (top[at] === -1 && upward[at] !== at) {
      path.push(at)
      at = upward[at]!
    }
    const found = top[at] === -1 ? at : top[at]!
    top[at] = found
    for (const passed of path) top[passed] = found
  }
  return top
}

/**
 * Power iteration clustering (Lin and Cohen 2010, as DeepCluster uses it): a flow over the graph of nearest neighbours,
 * and each point goes with the neighbour to which the flow rises most steeply; the tops are the clusters. A point that
 * is alone joins its first neighbour that is not. Returns the cluster of each row, numbered by size from 0, the largest
 * first.
 */
export async function powerIterationClusters(rows: Rows, options: PowerIterationOptions): Promise<Int32Array> {
  const count = rows.data.length / rows.width
  if (count < 2) return new Int32Array(count)
  const { sigma, onProgress, stop } = options
  const units = normaliseRows(rows)
  const found = await nearest(units, units, options.neighbours, {
    leaveOneOut: true,
    ...(onProgress ? { onProgress } : {}),
    ...(stop ? { stop } : {}),
  })
  // Between rows of length 1 the squared distance is 2 - 2 cosine.
  const weights = Float64Array.from(found.similarities, (cosine) =>
    Math.exp(-Math.max(0, 2 - 2 * cosine) / (sigma * sigma)),
  )
  const graph = connect(count, found.k, found.indices, weights)
  const top = follow(climb(graph, flow(graph, options)))
  return bySize(joinSingles(top, found.indices, found.k))
}

/** Each cluster of one point joins that of its first neighbour whose cluster has more. */
function joinSingles(top: Int32Array, neighbours: Int32Array, k: number): Int32Array {
  const sizes = new Int32Array(top.length)
  for (const root of top) sizes[root]!++
  return top.map((root, i) => {
    if (sizes[root]! > 1) return root
    for (let j = i * k; j < (i + 1) * k; j++) if (sizes[top[neighbours[j]!]!]! > 1) return top[neighbours[j]!]!
    return root
  })
}

/** The same clusters numbered from 0, the largest first; of equals the one whose first point comes first. */
export function bySize(clusters: Int32Array): Int32Array {
  const sizes = new Map<number, number>()
  for (const cluster of clusters) sizes.set(cluster, (sizes.get(cluster) ?? 0) + 1)
  const numbers = new Map([...sizes].sort(([, a], [, b]) => b - a).map(([cluster], number) => [cluster, number]))
  return clusters.map((cluster) => numbers.get(cluster)!)
}
