import { tf } from '../../../src/tf.ts'

type Tensor = tf.Tensor

/** The numbers of one operand. */
export interface Operand {
  shape: number[]
  values: number[]
  dtype: 'float32' | 'int32' | 'bool'
}

/** What a kernel computes of some operands, on any backend. */
export interface Case {
  /** The kernel of tfjs that has to be called. */
  kernel: string
  title?: string
  operands: Operand[]
  compute(...operands: Tensor[]): Tensor | Tensor[]
  /** Largest difference, in units of the largest finite number of the result; default 2e-6. */
  bound?: number
  /** Whether the gradients of the float operands are compared too. */
  gradient?: boolean
}

/** Numbers from -2 to 2 that look random, the same each time. */
export function numbers(size: number, seed = 1): number[] {
  let state = seed
  return Array.from({ length: size }, () => {
    state = (state * 16807) % 2147483647
    return (state / 2147483647) * 4 - 2
  })
}

const sizeOf = (shape: readonly number[]) => shape.reduce((size, side) => size * side, 1)

export function floats(shape: number[], change: (x: number) => number = (x) => x, seed = 1): Operand {
  return { shape, values: numbers(sizeOf(shape), seed).map(change), dtype: 'float32' }
}

export function integers(shape: number[], below = 7, above = -7, seed = 1): Operand {
  const span = below - above
  const values = numbers(sizeOf(shape), seed).map((x) => above + Math.floor(((x + 2) / 4) * span))
  return { shape, values, dtype: 'int32' }
}

export function bools(shape: number[], seed = 1): Operand {
  return { shape, values: numbers(sizeOf(shape), seed).map((x) => (x > 0 ? 1 : 0)), dtype: 'bool' }
}

export function given(
  values: number[],
  shape: number[] = [values.length],
  dtype: Operand['dtype'] = 'float32',
): Operand {
  return { shape, values, dtype }
}

const { NaN: none, POSITIVE_INFINITY: infinite } = Number

/** What arithmetic stumbles over. */
export const oddities = [none, infinite, -infinite, 0, -0, 1e-30, -1e-30, 1e30, -1e30, 0.5, -0.5, 1, -1, 2.5, -2.5, 3.5]

export interface Outcome {
  shape: number[]
  dtype: string
  values: ArrayLike<number>
}

const arrays = { float32: Float32Array, int32: Int32Array, bool: Uint8Array }

const toTensor = ({ shape, values, dtype }: Operand) => tf.tensor(arrays[dtype].from(values), shape, dtype)

const listOf = <T>(one: T | T[]) => (Array.isArray(one) ? one : [one])

/** Results and, where asked for, gradients, weighted differently for each number of each result. */
function resultsOf({ operands, compute, gradient }: Case): Tensor[] {
  return tf.tidy(() => {
    const inputs = operands.map(toTensor)
    const results = listOf(compute(...inputs))
    if (!gradient) return results
    const floating = inputs.filter((_, i) => operands[i]!.dtype === 'float32')
    const weigh = (...learned: Tensor[]) => {
      const all = inputs.map((input) => (floating.includes(input) ? learned[floating.indexOf(input)]! : input))
      const terms = listOf(compute(...all)).filter((result) => result.dtype === 'float32')
      const sums = terms.map((term, i) => {
        const weights = tf.tensor(Float32Array.from(numbers(term.size, i + 5)), term.shape)
        return tf.sum(tf.mul(term, weights))
      })
      return tf.addN(sums)
    }
    return [...results, ...tf.grads(weigh as never)(floating)]
  })
}

const outcomeOf = ({ shape, dtype }: Tensor, values: ArrayLike<number>): Outcome => ({ shape, dtype, values })

export function outcomesOf(one: Case): Outcome[] {
  const tensors = resultsOf(one)
  const outcomes = tensors.map((x) => outcomeOf(x, x.dataSync()))
  tf.dispose(tensors)
  return outcomes
}

/** The same where numbers are to be had in promises only. */
export async function outcomesLater(one: Case): Promise<Outcome[]> {
  const tensors = resultsOf(one)
  const outcomes = await Promise.all(tensors.map(async (x) => outcomeOf(x, await x.data())))
  tf.dispose(tensors)
  return outcomes
}

/** The largest difference in units of the largest finite number; infinite where kinds of numbers differ. */
export function distance(got: Outcome, wanted: Outcome): number {
  const shapes = got.shape.join() === wanted.shape.join() && got.dtype === wanted.dtype
  if (!shapes || got.values.length !== wanted.values.length) return infinite
  let [largest, worst] = [0, 0]
  for (let i = 0; i < wanted.values.length; i++) {
    const [a, b] = [got.values[i]!, wanted.values[i]!]
    if (Number.isFinite(b)) largest = Math.max(largest, Math.abs(b))
    if (Object.is(a, b) || a === b) continue
    if (!Number.isFinite(a) || !Number.isFinite(b)) return infinite
    worst = Math.max(worst, Math.abs(a - b))
  }
  return worst === 0 ? 0 : worst / Math.max(largest, 1e-30)
}

/** Runs something and says which kernels of tfjs it called. */
export function kernelsOf(run: () => void): Set<string> {
  const engine = tf.engine()
  const called = new Set<string>()
  const { runKernel } = engine
  engine.runKernel = function (this: unknown, name: string, ...rest: never[]) {
    called.add(name)
    return (runKernel as (...all: unknown[]) => never).call(engine, name, ...rest)
  } as never
  try {
    run()
  } finally {
    engine.runKernel = runKernel
  }
  return called
}
