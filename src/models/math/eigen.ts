/** Eigenvalues, the largest first, and their vectors as rows, each of length 1 with its largest number positive. */
export interface Eigen {
  values: Float64Array
  /** [n, n]. */
  vectors: Float64Array
}

interface Tridiagonal {
  diagonal: Float64Array
  /** Beside it: the number between i and i + 1. */
  beside: Float64Array
  /** [n, n], rows: what the matrix was turned by. */
  turned: Float64Array
}

/** Householder's reflections; `a` is used up. All passes go along rows. */
function tridiagonal(a: Float64Array, n: number): Tridiagonal {
  const [diagonal, beside, heights] = [new Float64Array(n), new Float64Array(n), new Float64Array(n)]
  const q = new Float64Array(n)
  for (let i = n - 1; i > 0; i--) {
    const row = i * n
    diagonal[i] = a[row + i]!
    let rest = 0
    for (let k = 0; k < i - 1; k++) rest += a[row + k]! * a[row + k]!
    const last = a[row + i - 1]!
    beside[i - 1] = last
    if (rest === 0) continue
    const length = Math.sqrt(rest + last * last)
    const mirrored = last >= 0 ? -length : length
    beside[i - 1] = mirrored
    const height = rest + last * last - last * mirrored
    heights[i] = height
    a[row + i - 1] = last - mirrored
    reflect(a, n, i, height, q)
  }
  diagonal[0] = a[0]!
  return { diagonal, beside, turned: accumulate(a, n, heights) }
}

/** The part above and left of row i, whose first i numbers are the reflection's normal u: A - u q' - q u'. */
function reflect(a: Float64Array, n: number, i: number, height: number, q: Float64Array): void {
  const u = a.subarray(i * n, i * n + i)
  let share = 0
  for (let j = 0; j < i; j++) {
    let sum = 0
    for (let k = 0; k < i; k++) sum += a[j * n + k]! * u[k]!
    q[j] = sum / height
    share += q[j]! * u[j]!
  }
  share /= 2 * height
  for (let j = 0; j < i; j++) q[j]! -= share * u[j]!
  for (let j = 0; j < i; j++) {
    const [uj, qj, row] = [u[j]!, q[j]!, j * n]
    for (let k = 0; k < i; k++) a[row + k]! -= uj * q[k]! + qj * u[k]!
  }
}

/** The product of all reflections. */
function accumulate(a: Float64Array, n: number, heights: Float64Array): Float64Array {
  const turned = new Float64Array(n * n)
  for (let i = 0; i < n; i++) turned[i * n + i] = 1
  for (let i = 1; i < n; i++) {
    if (heights[i] === 0) continue
    const u = a.subarray(i * n, i * n + i)
    for (let row = 0; row < i * n; row += n) {
      let sum = 0
      for (let k = 0; k < i; k++) sum += turned[row + k]! * u[k]!
      sum /= heights[i]!
      for (let k = 0; k < i; k++) turned[row + k]! -= sum * u[k]!
    }
  }
  return turned
}

/** Turns two rows of n numbers, the second beginning where the first ends. */
function turnRows(rows: Float64Array, from: number, n: number, sine: number, cosine: number): void {
  for (let k = from; k < from + n; k++) {
    const [first, second] = [rows[k]!, rows[k + n]!]
    rows[k + n] = sine * first + cosine * second
    rows[k] = cosine * first - sine * second
  }
}

/** One step of QL with an implicit shift on the block from `from` to `to`. */
function stepQL({ diagonal, beside, turned }: Tridiagonal, n: number, from: number, to: number): void {
  const half = (diagonal[from + 1]! - diagonal[from]!) / (2 * beside[from]!)
  const root = Math.hypot(half, 1)
  let bulge = diagonal[to]! - diagonal[from]! + beside[from]! / (half + (half >= 0 ? root : -root))
  let [sine, cosine, moved] = [1, 1, 0]
  for (let i = to - 1; i >= from; i--) {
    const [f, b] = [sine * beside[i]!, cosine * beside[i]!]
    const length = Math.hypot(f, bulge)
    beside[i + 1] = length
    if (length === 0) {
      diagonal[i + 1]! -= moved
      beside[to] = 0
      return
    }
    sine = f / length
    cosine = bulge / length
    const next = diagonal[i + 1]! - moved
    const r = (diagonal[i]! - next) * sine + 2 * cosine * b
    moved = sine * r
    diagonal[i + 1] = next + moved
    bulge = cosine * r - b
    turnRows(turned, i * n, n, sine, cosine)
  }
  diagonal[from]! -= moved
  beside[from] = bulge
  beside[to] = 0
}

/** Where the block that begins at `from` ends: what lies beside its last number is nothing beside its neighbours. */
function endOfBlock({ diagonal, beside }: Tridiagonal, n: number, from: number): number {
  for (let i = from; i < n - 1; i++) {
    const near = Math.abs(diagonal[i]!) + Math.abs(diagonal[i + 1]!)
    if (Math.abs(beside[i]!) <= Number.EPSILON * near) return i
  }
  return n - 1
}

const mostSteps = 60

/** Of a symmetric matrix [n, n], by Householder's tridiagonal form and QL with implicit shifts. */
export function eigenSymmetric(matrix: ArrayLike<number>, n: number): Eigen {
  const form = tridiagonal(Float64Array.from(matrix), n)
  for (let from = 0; from < n; from++)
    for (let step = 0; step < mostSteps; step++) {
      const to = endOfBlock(form, n, from)
      if (to === from) break
      stepQL(form, n, from, to)
    }
  return inOrder(form, n)
}

function inOrder({ diagonal, turned }: Tridiagonal, n: number): Eigen {
  const order = Array.from(diagonal.keys()).sort((a, b) => diagonal[b]! - diagonal[a]!)
  const vectors = new Float64Array(n * n)
  for (const [place, i] of order.entries()) {
    const row = turned.subarray(i * n, (i + 1) * n)
    const sign = signOf(row)
    for (let k = 0; k < n; k++) vectors[place * n + k] = sign * row[k]!
  }
  return { values: Float64Array.from(order, (i) => diagonal[i]!), vectors }
}

/** 1 or -1: what makes the number farthest from 0 positive. */
export function signOf(row: ArrayLike<number>): number {
  let largest = 0
  for (let k = 0; k < row.length; k++) if (Math.abs(row[k]!) > Math.abs(largest)) largest = row[k]!
  return largest < 0 ? -1 : 1
}
