import type { Case } from '../onnx/parity.ts'

/** Where TensorFlow, or its package, computes something else than tfjs. Nothing of ours depends on it. */
export interface Difference {
  why: string
  of(one: Case): boolean
}

const odd = ({ operands: [x] }: Case) => x!.values.some((value) => !Number.isFinite(value))
const isEmpty = ({ operands: [x] }: Case) => x!.values.length === 0
const divides = ({ kernel }: Case) => kernel === 'FloorDiv' || kernel === 'Mod'
const typeOf = ({ operands: [x] }: Case) => x!.dtype

export const differences: readonly Difference[] = [
  {
    why: 'tfjs calls floored quotients of floats int32, TensorFlow float32; the numbers are the same',
    of: (one) => one.kernel === 'FloorDiv' && typeOf(one) === 'float32',
  },
  {
    why: 'TensorFlow refuses to divide whole numbers by zero',
    of: (one) => divides(one) && typeOf(one) === 'int32' && one.operands[1]!.values.includes(0),
  },
  { why: 'the package has no such kernel', of: ({ kernel }) => kernel === 'BitwiseAnd' },
  {
    why: 'TensorFlow neither adds nor pools truth values',
    of: (one) => (one.kernel === 'AddN' || one.kernel === 'MaxPool') && typeOf(one) === 'bool',
  },
  { why: 'the package multiplies an infinite number by 0 on its way', of: (one) => one.kernel === 'Prelu' && odd(one) },
  {
    why: 'a float beyond int32 becomes the smallest int32, where JavaScript keeps its low bits',
    of: (one) => one.kernel === 'Cast' && one.title === 'to int32' && one.operands[0]!.values.some((x) => x > 2 ** 31),
  },
  {
    why: 'a mean of no numbers is not a number, and 0 in tfjs',
    of: (one) => one.kernel === 'Mean' && isEmpty(one) && !/axis 1/.test(one.title ?? ''),
  },
  {
    why: 'what is not a number is neither the largest nor the smallest, where tfjs stays at it in the first row',
    of: (one) => /^Arg/.test(one.kernel) && odd(one) && one.title === 'axis 0',
  },
  {
    why: 'the package counts axes from the first only',
    of: ({ kernel, title }) => kernel === 'GatherV2' && /axis -/.test(title ?? ''),
  },
]
