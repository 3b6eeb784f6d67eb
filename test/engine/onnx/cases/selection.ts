import { tf } from '../../../../src/tf.ts'
import { bools, type Case, floats, given, integers } from '../parity.ts'

const whole = (values: number[], shape?: number[]) => given(values, shape, 'int32')

const { POSITIVE_INFINITY: infinite } = Number

const gathered: Case[] = (
  [
    [[5], [3], 0],
    [[5, 3], [4], 0],
    [[5, 3], [2, 2], 1],
    [[2, 5, 3, 2], [4], 1],
    [[2, 5, 3, 2], [2, 3], -1],
    [[5, 3], [], 0],
    [[5, 3], [0], 0],
  ] as const
).map(([shape, places, axis]) => ({
  kernel: 'GatherV2',
  title: `axis ${axis}`,
  operands: [floats([...shape]), integers([...places], 2, 0, 3)],
  compute: (x, at) => tf.gather(x, at as tf.Tensor1D, axis),
  gradient: places.length === 1 && places[0] > 0,
}))

const inBatches: Case[] = (
  [
    [[2, 5], [2, 3], 1, 1],
    [[2, 5, 4], [2, 3], 1, 1],
    [[2, 3, 5, 2], [2, 4], 2, 1],
  ] as const
).map(([shape, places, axis, batchDims]) => ({
  kernel: 'GatherV2',
  title: `axis ${axis}, batches of ${batchDims}`,
  operands: [floats([...shape]), integers([...places], 5, 0, 3)],
  compute: (x, at) => tf.gather(x, at as tf.Tensor1D, axis, batchDims),
}))

/** As rows for ids: few rows, few ids, and many of both, which are three ways of summing. */
const sums: Case[] = (
  [
    [[6], 3],
    [[6, 4], 3],
    [[40, 3], 1000],
    [[300, 2], 2],
    [[2000, 2], 700],
    [[5, 2, 3], 4],
    [[1, 3], 2],
  ] as const
).map(([shape, segments]) => ({
  kernel: 'UnsortedSegmentSum',
  title: `${segments} segments`,
  operands: [floats([...shape]), integers([shape[0]], segments, 0, 7)],
  compute: (x, ids) => tf.unsortedSegmentSum(x, ids as tf.Tensor1D, segments),
  gradient: true,
}))

const scattered: Case[] = [
  {
    kernel: 'ScatterNd',
    operands: [whole([1, 3, 1], [3, 1]), floats([3, 2])],
    compute: (at, x) => tf.scatterND(at, x, [5, 2]),
  },
  {
    kernel: 'ScatterNd',
    operands: [whole([0, 1, 2, 0, 0, 1], [3, 2]), floats([3])],
    compute: (at, x) => tf.scatterND(at, x, [3, 2]),
  },
  {
    kernel: 'ScatterNd',
    operands: [whole([0, 2], [2, 1]), integers([2, 3])],
    compute: (at, x) => tf.scatterND(at, x, [4, 3]),
  },
  {
    kernel: 'TensorScatterUpdate',
    operands: [floats([5, 2]), whole([4, 1], [2, 1]), floats([2, 2], undefined, 4)],
    compute: (x, at, rows) => tf.tensorScatterUpdate(x, at, rows),
  },
  {
    kernel: 'SparseToDense',
    operands: [whole([1, 4]), floats([2])],
    compute: (at, x) => tf.sparseToDense(at, x, [6], 0.5),
  },
  {
    kernel: 'SparseToDense',
    operands: [whole([1, 0, 2, 3], [2, 2]), integers([2])],
    compute: (at, x) => tf.sparseToDense(at, x, [3, 4], tf.scalar(0, 'int32')),
  },
  {
    kernel: 'GatherNd',
    operands: [floats([3, 4, 2]), whole([0, 1, 2, 3], [2, 2])],
    compute: (x, at) => tf.gatherND(x, at),
  },
  { kernel: 'GatherNd', operands: [integers([3, 4]), whole([2, 0], [2, 1])], compute: (x, at) => tf.gatherND(x, at) },
]

const oneHot: Case[] = [
  { kernel: 'OneHot', operands: [whole([0, 2, 1, 3])], compute: (x) => tf.oneHot(x, 4) },
  { kernel: 'OneHot', operands: [whole([0, -1, 5])], compute: (x) => tf.oneHot(x, 4, 2, -1, 'float32') },
  { kernel: 'OneHot', operands: [whole([0, 1, 1, 0], [2, 2])], compute: (x) => tf.oneHot(x, 2, 1, 0, 'float32') },
  { kernel: 'OneHot', operands: [whole([1])], compute: (x) => tf.oneHot(x, 3, 1, 0, 'bool') },
  // One after the other: the graph of the first is not that of the second.
  ...[infinite, -infinite].map((on) => ({
    kernel: 'OneHot',
    title: `of ${on}`,
    operands: [whole([0, 2])],
    compute: (x: tf.Tensor) => tf.oneHot(x, 3, on, 0, 'float32'),
  })),
]

const largest: Case[] = [
  { kernel: 'TopK', operands: [floats([9])], compute: (x) => Object.values(tf.topk(x, 3)) as tf.Tensor[] },
  { kernel: 'TopK', operands: [floats([3, 5])], compute: (x) => Object.values(tf.topk(x, 5)) as tf.Tensor[] },
  { kernel: 'TopK', operands: [floats([2, 3, 4])], compute: (x) => Object.values(tf.topk(x, 1)) as tf.Tensor[] },
  { kernel: 'TopK', operands: [integers([2, 6])], compute: (x) => Object.values(tf.topk(x, 2)) as tf.Tensor[] },
  {
    kernel: 'TopK',
    title: 'equal numbers',
    operands: [given([1, 3, 3, 2, 3])],
    compute: (x) => Object.values(tf.topk(x, 2)) as tf.Tensor[],
  },
]

const product = (a: number[], b: number[], transposeA = false, transposeB = false): Case => ({
  kernel: 'BatchMatMul',
  title: `${transposeA ? 'transposed ' : ''}by ${transposeB ? 'transposed ' : ''}`,
  operands: [floats(a), floats(b, undefined, 5)],
  compute: (x, y) => tf.matMul(x, y, transposeA, transposeB),
  gradient: a.length === b.length && a.slice(0, -2).join() === b.slice(0, -2).join(),
})

const products: Case[] = [
  product([3, 4], [4, 5]),
  product([4, 3], [4, 5], true),
  product([3, 4], [5, 4], false, true),
  product([4, 3], [5, 4], true, true),
  product([1, 1], [1, 1]),
  product([2, 3, 4], [2, 4, 5]),
  product([2, 4, 3], [2, 4, 5], true),
  product([2, 3, 4], [2, 5, 4], false, true),
  product([2, 4, 3], [2, 5, 4], true, true),
  product([2, 3, 4], [1, 4, 5]),
  product([2, 2, 3, 4], [2, 2, 4, 5]),
  product([2, 3, 4], [4, 5]),
  product([3, 0], [0, 2]),
  product([0, 3], [3, 2]),
  { kernel: 'BatchMatMul', operands: [integers([3, 4]), integers([4, 2])], compute: (a, b) => tf.matMul(a, b) },
  {
    kernel: 'BatchMatMul',
    title: 'transposed',
    operands: [integers([4, 3]), integers([2, 4])],
    compute: (a, b) => tf.matMul(a, b, true, true),
  },
  {
    kernel: 'BatchMatMul',
    title: 'what is no number',
    operands: [given([Number.NaN, 1, 2, 3], [2, 2]), given([1, 2, Number.POSITIVE_INFINITY, 4], [2, 2])],
    compute: (a, b) => tf.matMul(a, b),
  },
  ...(['relu', 'sigmoid', 'elu', 'relu6', 'linear'] as const).map(
    (activation): Case => ({
      kernel: '_FusedMatMul',
      title: activation,
      operands: [floats([3, 4]), floats([4, 5], undefined, 5), floats([5], undefined, 6)],
      compute: (a, b, bias) => tf.fused.matMul({ a: a as tf.Tensor2D, b: b as tf.Tensor2D, bias, activation }),
    }),
  ),
  {
    kernel: '_FusedMatMul',
    title: 'prelu',
    operands: [floats([3, 4]), floats([4, 5], undefined, 5), floats([5], undefined, 6)],
    compute: (a, b, preluActivationWeights) =>
      tf.fused.matMul({ a: a as tf.Tensor2D, b: b as tf.Tensor2D, activation: 'prelu', preluActivationWeights }),
  },
  ...(
    [
      ['ij,jk->ik', [3, 4], [4, 2]],
      ['bij,bjk->bik', [2, 3, 4], [2, 4, 2]],
      ['bi,bi->b', [3, 4], [3, 4]],
      ['i,j->ij', [3], [4]],
      ['bhwc,co->bhwo', [2, 2, 3, 4], [4, 3]],
    ] as const
  ).map(
    ([equation, a, b]): Case => ({
      kernel: 'Einsum',
      title: equation,
      operands: [floats([...a]), floats([...b], undefined, 3)],
      compute: (x, y) => tf.einsum(equation, x, y),
    }),
  ),
  { kernel: 'Einsum', title: 'ij->ji', operands: [floats([3, 4])], compute: (x) => tf.einsum('ij->ji', x) },
  { kernel: 'Einsum', title: 'ij->i', operands: [floats([3, 4])], compute: (x) => tf.einsum('ij->i', x) },
]

/** What measures of classification use. */
const measured: Case[] = [
  {
    kernel: 'Equal',
    title: 'accuracy',
    operands: [floats([6, 3]), whole([0, 1, 2, 0, 1, 2])],
    compute: (scores, labels) => tf.mean(tf.equal(tf.argMax(scores, 1), labels)),
  },
  { kernel: 'Any', operands: [bools([2, 2, 3])], compute: (x) => tf.any(x, [0, 2]) },
]

export const selectionTable: Case[] = [
  ...gathered,
  ...inBatches,
  ...sums,
  ...scattered,
  ...oneHot,
  ...largest,
  ...products,
  ...measured,
]
