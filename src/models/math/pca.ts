import { setImmediate } from 'node:timers/promises'
import { InvalidDefinition } from '../../errors.ts'
import { type Tensor1D, type Tensor2D, tf } from '../../tf.ts'
import type { Dice } from '../dice.ts'
import { eigenSymmetric } from './eigen.ts'
import { centreOf, normaliseRows, type Rows } from './rows.ts'
import { leadingEigen } from './subspace.ts'

/** The directions in which points vary most. */
export interface Components {
  /** [width] */
  mean: Float32Array
  /** [count, width], of length 1 and at right angles. */
  directions: Rows
  /** Of the points along each direction, the largest first. */
  variances: Float32Array
  /** Of the points in all directions. */
  variance: number
}

interface Watch {
  stop?: AbortSignal | undefined
  onProgress?(share: number): void
}

/** Numbers of points taken at once: 16 MiB. */
const blockLimit = 2 ** 22
/** Up to this width the whole matrix is taken apart; beyond only for the directions that are wanted. */
const smallWidth = 256
/** Whitening divides by no less than this part of the largest variance. */
export const whiteningFloor = 1e-5

/** Calls for blocks of rows; lets others work in between. */
async function inBlocks({ data, width }: Rows, watch: Watch, each: (block: Tensor2D, first: number) => Promise<void>) {
  const count = data.length / width
  const most = Math.max(1, Math.floor(blockLimit / width))
  for (let first = 0; first < count; first += most) {
    watch.stop?.throwIfAborted()
    const rows = Math.min(most, count - first)
    const block = tf.tensor2d(data.subarray(first * width, (first + rows) * width), [rows, width])
    try {
      await each(block, first)
    } finally {
      block.dispose()
    }
    watch.onProgress?.((first + rows) / count)
    await setImmediate()
  }
}

/** [width, width] */
async function covariance(rows: Rows, mean: Tensor1D, watch: Watch): Promise<Tensor2D> {
  const { width } = rows
  const share = width / rows.data.length
  let sum: Tensor2D = tf.zeros([width, width])
  try {
    await inBlocks(rows, watch, async (block) => {
      const [next, corner] = tf.tidy(() => {
        const centred = tf.sub(block, mean) as Tensor2D
        const next = tf.add(sum, tf.mul(tf.matMul(centred, centred, true, false), share)) as Tensor2D
        return [next, tf.slice(next, [0, 0], [1, 1])] as const
      })
      // So that the sum is computed now, and nothing large is read.
      await corner.data()
      tf.dispose([sum, corner])
      sum = next
    })
  } catch (error) {
    sum.dispose()
    throw error
  }
  return sum
}

/** Principal components of rows, by their covariance matrix. */
export async function principalComponents(rows: Rows, count: number, dice: Dice, watch: Watch = {}) {
  const { width } = rows
  if (!(count >= 1 && count <= width)) {
    const detail = `${count} components of ${width} numbers: there are 1 to ${width}`
    throw new InvalidDefinition([{ pointer: '/components', detail }], 'the projection')
  }
  const { centre, spread } = centreOf(rows)
  const mean = Float32Array.from(centre)
  const meanTensor = tf.tensor1d(mean)
  let matrix: Tensor2D | undefined
  try {
    matrix = await covariance(rows, meanTensor, watch)
    const { values, vectors } = await leading(matrix, count, dice, watch.stop)
    const variances = Float32Array.from(values, (value) => Math.max(0, value))
    return {
      mean,
      directions: { data: vectors, width },
      variances,
      variance: (spread * width) / rows.data.length,
    } satisfies Components
  } finally {
    tf.dispose(matrix ? [matrix, meanTensor] : [meanTensor])
  }
}

async function leading(matrix: Tensor2D, count: number, dice: Dice, stop?: AbortSignal) {
  const width = matrix.shape[0]
  if (width > smallWidth && 2 * count < width) return await leadingEigen(matrix, count, dice, stop)
  const found = eigenSymmetric(await matrix.data(), width)
  return { values: found.values.slice(0, count), vectors: Float32Array.from(found.vectors.subarray(0, count * width)) }
}

export interface ProjectOptions extends Watch {
  /** Divides by the root of each direction's variance. */
  whiten?: boolean
  /** Then divides each row by its length. */
  unitRows?: boolean
}

/** What numbers along each direction are multiplied by for whitening. A direction without variance has none to show. */
export function whiteningScales({ variances }: Components): Float32Array {
  const floor = whiteningFloor * (variances[0] ?? 0)
  return variances.map((variance) => (floor > 0 ? 1 / Math.sqrt(Math.max(variance, floor)) : 0))
}

/** Rows by their components, [rows, components]. */
export async function project(rows: Rows, components: Components, options: ProjectOptions = {}): Promise<Rows> {
  const { mean, directions, variances } = components
  const width = variances.length
  const scales = options.whiten ? whiteningScales(components) : variances.map(() => 1)
  const scaled = directions.data.map((value, i) => value * scales[Math.floor(i / directions.width)]!)
  const [meanTensor, matrix] = [tf.tensor1d(mean), tf.tensor2d(scaled, [width, directions.width])]
  const out = new Float32Array((rows.data.length / rows.width) * width)
  try {
    await inBlocks(rows, options, async (block, first) => {
      const made = tf.tidy(() => tf.matMul(tf.sub(block, meanTensor) as Tensor2D, matrix, false, true))
      out.set((await made.data()) as Float32Array, first * width)
      made.dispose()
    })
  } finally {
    tf.dispose([meanTensor, matrix])
  }
  const projected = { data: out, width }
  return options.unitRows ? normaliseRows(projected) : projected
}
