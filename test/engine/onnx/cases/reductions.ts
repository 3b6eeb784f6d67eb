import { tf } from '../../../../src/tf.ts'
import { bools, type Case, floats, given, integers, type Operand } from '../parity.ts'

type Reduce = (x: tf.Tensor, axis?: number | number[], keepDims?: boolean) => tf.Tensor

const axes: [number[], (number | number[])?, boolean?][] = [
  [[]],
  [[5]],
  [[3, 4], 1],
  [[3, 4], 0, true],
  [
    [2, 3, 4],
    [0, 2],
  ],
  [[2, 3, 4], 2, true],
  [
    [2, 3, 4, 16],
    [0, 1, 2],
  ],
  [
    [2, 3, 4, 16],
    [1, 2],
  ],
  [[2, 3, 4, 5], [1, 2], true],
  [[2, 3], []],
  [[3, 1], 1],
]

const odd = given([1, Number.NaN, 2, 3, 4, 5, Number.POSITIVE_INFINITY, 1, 2, -1, Number.NEGATIVE_INFINITY, 3], [4, 3])

interface Form {
  compute: Reduce
  gradient?: boolean
  operand: (shape: number[]) => Operand
  more: Operand[]
}

const reductions: Record<string, Form> = {
  Sum: { compute: tf.sum, gradient: true, operand: floats, more: [integers([2, 5]), bools([3, 4]), odd] },
  Mean: { compute: tf.mean, gradient: true, operand: floats, more: [integers([2, 5]), bools([3, 4]), odd] },
  Max: { compute: tf.max, gradient: true, operand: floats, more: [integers([2, 5]), odd] },
  Min: { compute: tf.min, gradient: true, operand: floats, more: [integers([2, 5]), odd] },
  Prod: { compute: tf.prod, gradient: true, operand: floats, more: [integers([2, 5], 3, 1), odd] },
  All: { compute: tf.all, operand: bools, more: [given([1, 1, 1, 0], [2, 2], 'bool')] },
  Any: { compute: tf.any, operand: bools, more: [given([0, 0, 1, 0], [2, 2], 'bool')] },
}

const reductionCases = Object.entries(reductions).flatMap(([kernel, { compute, gradient, operand, more }]): Case[] => [
  ...axes.map(([shape, axis, keepDims]) => ({
    kernel,
    title: `axis ${axis}${keepDims ? ' kept' : ''}`,
    operands: [operand(shape)],
    compute: (x: tf.Tensor) => compute(x, axis, keepDims),
    gradient,
  })),
  ...more.map((x) => ({ kernel, title: 'the last axis', operands: [x], compute: (t: tf.Tensor) => compute(t, -1) })),
])

const empty: Case[] = (['Sum', 'Prod', 'Mean'] as const).map((kernel) => ({
  kernel,
  title: 'over no numbers',
  operands: [floats([2, 0])],
  compute: (x) => reductions[kernel]!.compute(x, 1),
}))

/** The gradient has the shape of the operand, not that of the sum. */
const none: Case[] = (['Sum', 'Mean'] as const).flatMap((kernel) =>
  [0, 1].map((axis) => ({
    kernel,
    title: `of no rows, axis ${axis}`,
    operands: [floats([0, 3])],
    compute: (x: tf.Tensor) => reductions[kernel]!.compute(x, axis),
    gradient: true,
  })),
)

const extremes = (['ArgMax', 'ArgMin'] as const).flatMap((kernel): Case[] => {
  const compute = kernel === 'ArgMax' ? tf.argMax : tf.argMin
  const one = (x: Operand, axis = 0): Case => ({
    kernel,
    title: `axis ${axis}`,
    operands: [x],
    compute: (t) => compute(t, axis),
    bound: 0,
  })
  return [
    one(floats([5])),
    one(floats([3, 4])),
    one(floats([3, 4]), 1),
    one(floats([2, 3, 4]), 1),
    one(floats([1])),
    one(integers([4, 5]), 1),
    one(given([3, 1, 3, 1], [2, 2])),
    one(odd, 1),
    one(odd, 0),
  ]
})

const odds = [
  [floats([5])],
  [floats([2, 3]), 1, true],
  [floats([2, 3]), 0, false, true],
  [floats([2, 7, 4]), 1, true, true],
  [integers([2, 3]), 1],
] as const

const sums: Case[] = odds.flatMap(([x, axis = 0, exclusive = false, reverse = false]) =>
  (['Cumsum', 'Cumprod'] as const).map(
    (kernel): Case => ({
      kernel,
      title: `axis ${axis}, exclusive ${exclusive}, reverse ${reverse}`,
      operands: [x],
      compute: (t) => (kernel === 'Cumsum' ? tf.cumsum : tf.cumprod)(t, axis, exclusive, reverse),
      // That of tfjs is wrong where it has to transpose.
      gradient: kernel === 'Cumsum' && x.dtype === 'float32' && axis === x.shape.length - 1,
    }),
  ),
)

export const reductionTable: Case[] = [...reductionCases, ...empty, ...none, ...extremes, ...sums]
