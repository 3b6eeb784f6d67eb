import { setImmediate } from 'node:timers/promises'
import { tf } from '../../tf.ts'
import { normaliseRows, type Rows } from './rows.ts'

/** For every query its k nearest references, the nearest first; both [queries, k], row-major. */
export interface Neighbours {
  k: number
  indices: Int32Array
  /** Cosines. */
  similarities: Float32Array
}

export interface SearchOptions {
  /** The queries are the references: no row is its own neighbour. */
  leaveOneOut?: boolean
  onProgress?(share: number): void
  stop?: AbortSignal
}

/** Cosines computed at once: 16 MiB. */
const blockLimit = 2 ** 22

/**
 * Keeps the k best of a row in a heap whose root is the worst of them: less similar is worse, and of two as similar
 * the one with the higher index.
 */
class Best {
  private readonly k: number
  private readonly heap: Int32Array
  private size = 0
  private row: Float32Array
  constructor(k: number) {
    this.k = k
    this.heap = new Int32Array(k)
    this.row = new Float32Array()
  }
  private worse(a: number, b: number): boolean {
    const [similarA, similarB] = [this.row[a]!, this.row[b]!]
    return similarA < similarB || (similarA === similarB && a > b)
  }
  private sink(): void {
    const { heap, size } = this
    const moved = heap[0]!
    let at = 0
    for (let child = 1; child < size; child = 2 * at + 1) {
      if (child + 1 < size && this.worse(heap[child + 1]!, heap[child]!)) child++
      if (!this.worse(heap[child]!, moved)) break
      heap[at] = heap[child]!
      at = child
    }
    heap[at] = moved
  }
  private rise(): void {
    const { heap } = this
    let at = this.size - 1
    const moved = heap[at]!
    while (at > 0) {
      const parent = (at - 1) >> 1
      if (!this.worse(moved, heap[parent]!)) break
      heap[at] = heap[parent]!
      at = parent
    }
    heap[at] = moved
  }
  /** The best of `row` but for place `except`, best first. */
  select(row: Float32Array, except: number, indices: Int32Array): void {
    this.row = row
    this.size = 0
    let i = 0
    for (; this.size < this.k; i++) {
      if (i === except) continue
      this.heap[this.size++] = i
      this.rise()
    }
    let threshold = row[this.heap[0]!]!
    for (; i < row.length; i++) {
      // Indices rise, so one that is only as similar as the worst comes after it.
      if (!(row[i]! > threshold) || i === except) continue
      this.heap[0] = i
      this.sink()
      threshold = row[this.heap[0]!]!
    }
    for (let place = this.size - 1; place >= 0; place--) {
      indices[place] = this.heap[0]!
      this.heap[0] = this.heap[--this.size]!
      this.sink()
    }
  }
}

/**
 * The exact k nearest rows by cosine; k is cut to what there is. Of rows as similar the one with the lower index comes
 * first.
 */
export async function nearest(queries: Rows, references: Rows, wanted: number, options: SearchOptions = {}) {
  const { leaveOneOut = false, onProgress, stop } = options
  const { width } = references
  const size = references.data.length / width
  const count = queries.data.length / width
  const k = Math.max(0, Math.min(wanted, leaveOneOut ? size - 1 : size))
  const found: Neighbours = { k, indices: new Int32Array(count * k), similarities: new Float32Array(count * k) }
  if (k === 0) return found
  const units = normaliseRows(queries).data
  const bank = tf.tensor2d(normaliseRows(references).data, [size, width])
  const block = Math.max(1, Math.min(count, Math.floor(blockLimit / size)))
  const best = new Best(k)
  try {
    for (let first = 0; first < count; first += block) {
      stop?.throwIfAborted()
      const rows = Math.min(block, count - first)
      const part = units.subarray(first * width, (first + rows) * width)
      const product = tf.tidy(() => tf.matMul(tf.tensor2d(part, [rows, width]), bank, false, true))
      const cosines = (await product.data()) as Float32Array
      product.dispose()
      for (let row = 0; row < rows; row++) {
        const query = first + row
        const similarities = cosines.subarray(row * size, (row + 1) * size)
        const indices = found.indices.subarray(query * k, (query + 1) * k)
        best.select(similarities, leaveOneOut ? query : -1, indices)
        for (let i = 0; i < k; i++) found.similarities[query * k + i] = similarities[indices[i]!]!
      }
      onProgress?.((first + rows) / count)
      await setImmediate()
    }
  } finally {
    bank.dispose()
  }
  return found
}

/**
 * Weighted vote of the first k neighbours (Wu et al., 2018, section 3.4): class c has the weight
 * sum over its neighbours of exp(cosine / temperature); the heaviest wins, of equals the lower class.
 * Returns the class of each query.
 */
export function vote(
  neighbours: Neighbours,
  labels: ArrayLike<number>,
  classes: number,
  k: number,
  temperature: number,
): Int32Array {
  const used = Math.min(k, neighbours.k)
  const count = neighbours.k === 0 ? 0 : neighbours.indices.length / neighbours.k
  const winners = new Int32Array(count)
  const weights = new Float64Array(classes)
  for (let query = 0; query < count; query++) {
    weights.fill(0)
    const start = query * neighbours.k
    // Relative to the nearest, so that no exponential overflows at a low temperature.
    const top = neighbours.similarities[start]!
    for (let i = start; i < start + used; i++)
      weights[labels[neighbours.indices[i]!]!]! += Math.exp((neighbours.similarities[i]! - top) / temperature)
    let winner = 0
    for (let c = 1; c < classes; c++) if (weights[c]! > weights[winner]!) winner = c
    winners[query] = winner
  }
  return winners
}

/** The share of equal entries. */
export function accuracy(predicted: ArrayLike<number>, labels: ArrayLike<number>): number {
  let right = 0
  for (let i = 0; i < labels.length; i++) if (predicted[i] === labels[i]) right++
  return right / labels.length
}
