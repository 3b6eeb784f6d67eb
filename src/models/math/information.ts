/**
 * How far two labellings of the same things agree. A thing whose label in either is below 0 has none and does not
 * count; what the labels are called makes no difference.
 */
interface Contingency {
  /** Things that share a label in the first and one in the second, by pair; only pairs that there are. */
  pairs: Map<number, number>
  /** Of each label. */
  first: Float64Array
  second: Float64Array
  total: number
}

function largest(labels: ArrayLike<number>): number {
  let most = -1
  for (let i = 0; i < labels.length; i++) if (labels[i]! > most) most = labels[i]!
  return most
}

function count(a: ArrayLike<number>, b: ArrayLike<number>): Contingency {
  if (a.length !== b.length) throw new RangeError(`${a.length} labels beside ${b.length}`)
  const first = new Float64Array(largest(a) + 1)
  const second = new Float64Array(largest(b) + 1)
  const pairs = new Map<number, number>()
  let total = 0
  for (let i = 0; i < a.length; i++) {
    const [own, other] = [a[i]!, b[i]!]
    if (own < 0 || other < 0) continue
    first[own]!++
    second[other]!++
    const pair = own * second.length + other
    pairs.set(pair, (pairs.get(pair) ?? 0) + 1)
    total++
  }
  return { pairs, first, second, total }
}

function entropyOf(counts: Iterable<number>, total: number): number {
  let sum = 0
  for (const each of counts) if (each > 0) sum -= (each / total) * Math.log(each / total)
  return sum
}

/** The entropy of a distribution given by how often each case was seen, in nats. */
export function entropy(counts: ArrayLike<number>): number {
  let total = 0
  for (let i = 0; i < counts.length; i++) total += counts[i]!
  return total === 0 ? 0 : Math.max(0, entropyOf(Array.from(counts), total))
}

/**
 * Mutual information divided by the geometric mean of the two entropies (Strehl and Ghosh 2002; DeepCluster's own) or
 * by the arithmetic one. In [0, 1]: 1 where the labellings are the same but for their names, about 0 where they have
 * nothing to do with each other. Where one has a single label it tells nothing, so it is 0.
 */
export function mutualInformation(
  a: ArrayLike<number>,
  b: ArrayLike<number>,
  mean: 'geometric' | 'arithmetic' = 'geometric',
): number {
  const { pairs, first, second, total } = count(a, b)
  const [own, other] = [entropyOf(first, total), entropyOf(second, total)]
  if (!(own > 0 && other > 0)) return 0
  // I(A; B) = H(A) + H(B) - H(A, B)
  const shared = own + other - entropyOf(pairs.values(), total)
  const scale = mean === 'geometric' ? Math.sqrt(own * other) : (own + other) / 2
  return Math.min(1, Math.max(0, shared / scale))
}

const chooseTwo = (n: number) => (n * (n - 1)) / 2

function pairsWithin(counts: Iterable<number>): number {
  let sum = 0
  for (const each of counts) sum += chooseTwo(each)
  return sum
}

/**
 * The Rand index corrected for chance (Hubert and Arabie 1985): 1 where the labellings are the same, 0 on average where
 * they are drawn independently; it may fall below.
 */
export function adjustedRand(a: ArrayLike<number>, b: ArrayLike<number>): number {
  const { pairs, first, second, total } = count(a, b)
  const together = pairsWithin(pairs.values())
  const [own, other] = [pairsWithin(first), pairsWithin(second)]
  const expected = total > 1 ? (own * other) / chooseTwo(total) : 0
  const most = (own + other) / 2
  if (most === expected) {
    // Both keep all things together or all apart: the same, or nothing to compare.
    return own === other && total > 1 && (own === 0 || own === chooseTwo(total)) ? 1 : 0
  }
  return (together - expected) / (most - expected)
}

/**
 * The assignment of rows to columns with the least cost in all (Kuhn 1955, Munkres 1957, by shortest augmenting paths),
 * for costs [size, size], row-major. Returns the column of each row.
 */
export function cheapestAssignment(costs: ArrayLike<number>, size: number): Int32Array {
  // Rows and columns count from 1; column 0 holds the row that is to be placed.
  const rowOf = new Int32Array(size + 1)
  const rowPrice = new Float64Array(size + 1)
  const columnPrice = new Float64Array(size + 1)
  for (let row = 1; row <= size; row++) {
    const slack = new Float64Array(size + 1).fill(Number.POSITIVE_INFINITY)
    const before = new Int32Array(size + 1)
    const visited = new Uint8Array(size + 1)
    let column = 0
    rowOf[0] = row
    do {
      visited[column] = 1
      const own = rowOf[column]!
      let step = Number.POSITIVE_INFINITY
      let next = 0
      for (let j = 1; j <= size; j++) {
        if (visited[j]) continue
        const reduced = costs[(own - 1) * size + j - 1]! - rowPrice[own]! - columnPrice[j]!
        if (reduced < slack[j]!) {
          slack[j] = reduced
          before[j] = column
        }
        if (slack[j]! < step) {
          step = slack[j]!
          next = j
        }
      }
      for (let j = 0; j <= size; j++) {
        if (visited[j]) {
          rowPrice[rowOf[j]!]! += step
          columnPrice[j]! -= step
        } else slack[j]! -= step
      }
      column = next
    } while (rowOf[column] !== 0)
    while (column !== 0) {
      rowOf[column] = rowOf[before[column]!]!
      column = before[column]!
    }
  }
  const columnOf = new Int32Array(size)
  for (let column = 1; column <= size; column++) columnOf[rowOf[column]! - 1] = column - 1
  return columnOf
}

/** The share of things whose label is right when each cluster is given the class that suits all of them best. */
export function matchedAccuracy(clusters: ArrayLike<number>, labels: ArrayLike<number>): number {
  const { pairs, first, second, total } = count(clusters, labels)
  if (total === 0) return 0
  const size = Math.max(first.length, second.length)
  const costs = new Float64Array(size * size)
  for (const [pair, seen] of pairs) costs[Math.floor(pair / second.length) * size + (pair % second.length)] = -seen
  const classOf = cheapestAssignment(costs, size)
  let right = 0
  for (let cluster = 0; cluster < size; cluster++) right -= costs[cluster * size + classOf[cluster]!]!
  return right / total
}
