import type { Dataset } from '../data/dataset.ts'
import { toUnit, writeUnit } from '../data/pixels.ts'
import { type Tensor, type Tensor2D, type Tensor4D, tf, type Variable } from '../tf.ts'
import type { Dice } from './dice.ts'
import type { Watch } from './encoding.ts'
import { centreOf, type Rows } from './math/rows.ts'
import { drawDifferent } from './math/seeding.ts'
import type { Learner } from './method.ts'

/** What of a learner is its own where no gradient step is taken; an activation is computed where it is asked for. */
export interface FittedParts extends Pick<Learner, 'memory' | 'taps' | 'embedding'> {
  weights?: Learner['weights']
  survey?: NonNullable<Learner['survey']>
  activations(images: Tensor4D, taps: readonly string[]): Record<string, Tensor>
}

/** A learner that is fitted by its survey, or not at all. */
export function fittedLearner(name: string, parts: FittedParts): Learner {
  const { weights = {}, memory, taps, embedding, survey, activations } = parts
  return {
    weights,
    memory,
    taps,
    embedding,
    ...(survey ? { survey } : {}),
    objective() {
      throw new TypeError(`the method ${name} has no objective: it takes no gradient step`)
    },
    encode: (images, wanted) => tf.tidy(() => activations(images, wanted)),
    dispose: () => tf.dispose([weights, memory]),
  }
}

/** Numbers that a survey finds, zeros until then. */
export function remembered(shape: readonly number[]): Variable {
  return tf.tidy(() => tf.variable(tf.zeros([...shape]), false))
}

/** Puts numbers into what is remembered. */
export function remember(variable: Variable, values: Float32Array): void {
  tf.tidy(() => variable.assign(tf.tensor(values.slice(), variable.shape)))
}

/** Numbers of an image, from its shape or from the input of a net's first layer. */
export const numbersOf = (shape: readonly number[]): number => shape.reduce((product, side) => product * side, 1)

const readAtOnce = 512

/** Calls with blocks of images, drawn without repetition, at most so many, in the order of the corpus. */
export async function eachImage(
  corpus: Dataset,
  most: number,
  dice: Dice,
  watch: Watch,
  take: (bytes: Uint8Array, count: number, first: number) => Promise<void> | void,
): Promise<number> {
  const count = Math.min(most, corpus.size)
  const indices = count < corpus.size ? drawDifferent(count, corpus.size, dice).sort() : undefined
  for (let first = 0; first < count; first += readAtOnce) {
    watch.stop?.throwIfAborted()
    const size = Math.min(readAtOnce, count - first)
    const { data } = await corpus.read(Int32Array.from({ length: size }, (_, i) => indices?.[first + i] ?? first + i))
    await take(data, size, first)
  }
  return count
}

/** Images as rows of numbers in [0, 1], at most so many. */
export async function imageRows(corpus: Dataset, most: number, dice: Dice, watch: Watch): Promise<Rows> {
  const width = numbersOf(corpus.imageShape)
  const data = new Float32Array(Math.min(most, corpus.size) * width)
  await eachImage(corpus, most, dice, watch, (bytes, _count, first) => writeUnit(bytes, data, first * width))
  return { data, width }
}

/** Makes features as far apart in each number: (f - mean) / sqrt(variance + floor). */
export interface Standard {
  mean: Variable
  scale: Variable
}

export const newStandard = (width: number): Standard => ({ mean: remembered([width]), scale: remembered([width]) })

export const standardise = (features: Tensor2D, { mean, scale }: Standard): Tensor2D =>
  tf.mul(tf.sub(features, mean), scale)

/** A number that hardly varies stays small: this part of the mean variance is added to each. */
const standardFloor = 0.01
const standardImages = 5000

/** Measures what features of clean images are on the mean, and how far they vary. */
export async function measureStandard(
  standard: Standard,
  features: (images: Tensor4D) => Tensor2D,
  corpus: Dataset,
  dice: Dice,
  watch: Watch,
): Promise<void> {
  const width = standard.mean.size
  const images = Math.min(standardImages, corpus.size)
  const rows: Rows = { data: new Float32Array(images * width), width }
  await eachImage(corpus, images, dice, watch, async (bytes, count, first) => {
    const given = tf.tensor4d(toUnit(bytes), [count, ...corpus.imageShape])
    const made = tf.tidy(() => features(given))
    rows.data.set((await made.data()) as Float32Array, first * width)
    tf.dispose([given, made])
  })
  const { centre } = centreOf(rows)
  const variances = new Float64Array(width)
  for (let i = 0; i < rows.data.length; i++) variances[i % width]! += (rows.data[i]! - centre[i % width]!) ** 2 / images
  const floor = (standardFloor * variances.reduce((sum, value) => sum + value, 0)) / width
  remember(standard.mean, Float32Array.from(centre))
  remember(
    standard.scale,
    Float32Array.from(variances, (value) => (floor > 0 ? 1 / Math.sqrt(value + floor) : 0)),
  )
}
