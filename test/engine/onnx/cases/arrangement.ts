import { tf } from '../../../../src/tf.ts'
import { bools, type Case, floats, integers, type Operand } from '../parity.ts'

type Change = (x: tf.Tensor) => tf.Tensor | tf.Tensor[]

/** What is moved stays the same number. */
const exact = 0

/** The tensor is computed, since what is known already is moved without the runtime; also as it comes. */
const moved = (kernel: string, x: Operand, change: Change, title?: string): Case[] => {
  const floating = x.dtype === 'float32'
  const later: Change = (t) => change(floating ? tf.neg(t) : t)
  return [
    { kernel, title, operands: [x], compute: later, gradient: floating },
    { kernel, title: `${title ?? ''} as it comes`, operands: [x], compute: change, bound: exact },
  ]
}

const transposes = [
  ...moved('Transpose', floats([3, 4]), (x) => tf.transpose(x)),
  ...moved('Transpose', floats([2, 3, 4, 5]), (x) => tf.transpose(x, [0, 3, 1, 2])),
  ...moved('Transpose', floats([1, 3, 1, 5]), (x) => tf.transpose(x, [2, 1, 3, 0])),
  ...moved('Transpose', integers([3, 4]), (x) => tf.transpose(x)),
  ...moved('Transpose', bools([3, 4]), (x) => tf.transpose(x)),
  ...moved('Transpose', floats([0, 3]), (x) => tf.transpose(x)),
]

const slices = [
  ...moved('Slice', floats([7]), (x) => tf.slice(x, [2], [3])),
  ...moved('Slice', floats([5, 4]), (x) => tf.slice(x, [1, 0], [3, 4]), 'rows'),
  ...moved('Slice', floats([5, 4]), (x) => tf.slice(x, [1, 1], [3, 2])),
  ...moved('Slice', floats([2, 3, 4, 5]), (x) => tf.slice(x, [1, 0, 1, 2], [1, 3, 2, 3])),
  ...moved('Slice', floats([5, 4]), (x) => tf.slice(x, [2, 0], [0, 4]), 'nothing'),
  ...moved('Slice', integers([5, 4]), (x) => tf.slice(x, [1, 1], [2, 2])),
  ...moved('StridedSlice', floats([7, 5]), (x) => tf.stridedSlice(x, [1, 0], [7, 5], [2, 3])),
  ...moved('StridedSlice', floats([7, 5]), (x) => tf.stridedSlice(x, [6, 0], [0, 5], [-2, 1])),
  ...moved('StridedSlice', floats([7, 5]), (x) => tf.stridedSlice(x, [6, 4], [0, 0], [-1, -1], 0, 3), 'backwards'),
  ...moved('StridedSlice', floats([4, 5]), (x) => tf.stridedSlice(x, [1, 0], [2, 5], [1, 1], 0, 0, 0, 0, 1), 'shrunk'),
].map((one) => (one.kernel === 'StridedSlice' ? { ...one, gradient: false } : one))

const joined: Case[] = [
  {
    kernel: 'Concat',
    operands: [floats([2, 3]), floats([4, 3], undefined, 2), floats([0, 3])],
    compute: (...parts) => tf.concat(parts, 0),
    gradient: true,
  },
  {
    kernel: 'Concat',
    operands: [floats([2, 2, 2, 3]), floats([2, 2, 2, 5], undefined, 2)],
    compute: (...parts) => tf.concat(parts, -1),
    gradient: true,
  },
  { kernel: 'Concat', operands: [integers([2]), integers([3])], compute: (...parts) => tf.concat(parts) },
  { kernel: 'Concat', operands: [bools([2]), bools([3])], compute: (...parts) => tf.concat(parts) },
  {
    kernel: 'Pack',
    operands: [floats([2, 3]), floats([2, 3], undefined, 2)],
    compute: (...parts) => tf.stack(parts, 1),
    gradient: true,
  },
  {
    kernel: 'Pack',
    operands: [floats([]), floats([], undefined, 2)],
    compute: (...parts) => tf.stack(parts),
    gradient: true,
  },
  { kernel: 'Pack', operands: [floats([3])], compute: (...parts) => tf.stack(parts, -1), gradient: true },
]

const parts = [
  ...moved('SplitV', floats([6, 2]), (x) => tf.split(x, 3)),
  ...moved('SplitV', floats([2, 6]), (x) => tf.split(x, [1, 2, 3], 1)),
  ...moved('SplitV', integers([2, 6]), (x) => tf.split(x, 1, 1), 'one part'),
  ...moved('Unpack', floats([3, 2]), (x) => tf.unstack(x)),
  ...moved('Unpack', floats([2, 3]), (x) => tf.unstack(x, -1)),
  ...moved('Unpack', integers([1, 3]), (x) => tf.unstack(x), 'one part'),
]

const repeated = [
  ...moved('Tile', floats([2, 3]), (x) => tf.tile(x, [2, 3])),
  ...moved('Tile', floats([4]), (x) => tf.tile(x, [1])),
  ...moved('Tile', integers([2, 1]), (x) => tf.tile(x, [1, 4])),
  ...moved('Tile', floats([3, 1]), (x) => tf.broadcastTo(x, [2, 3, 4])),
  ...moved('Reverse', floats([5]), (x) => tf.reverse(x)),
  ...moved('Reverse', floats([2, 3, 4]), (x) => tf.reverse(x, [0, 2])),
  ...moved('Reverse', floats([2, 1]), (x) => tf.reverse(x, 1)),
  ...moved('Reverse', integers([2, 3]), (x) => tf.reverse(x, -1)),
  ...moved('FlipLeftRight', floats([2, 3, 4, 3]), (x) => tf.image.flipLeftRight(x as tf.Tensor4D)).map((one) => ({
    ...one,
    gradient: false,
  })),
]

const padded = [
  ...moved('PadV2', floats([3]), (x) => tf.pad(x, [[2, 1]])),
  ...moved('PadV2', floats([2, 3]), (x) => tf.pad(x, [[0, 1], [2, 0]], 7), 'of 7'), // biome-ignore format: pairs
  ...moved('PadV2', floats([2, 3]), (x) => tf.pad(x, [[0, 0], [0, 0]]), 'of nothing'), // biome-ignore format: pairs
  ...moved('PadV2', integers([2, 3]), (x) => tf.pad(x, [[1, 0], [0, 1]], 3)), // biome-ignore format: pairs
  ...moved('PadV2', floats([0, 2]), (x) => tf.pad(x, [[1, 1], [0, 0]], 2), 'of no rows'), // biome-ignore format: pairs
  ...(['reflect', 'symmetric'] as const).flatMap((mode) => [
    ...moved('MirrorPad', floats([4]), (x) => tf.mirrorPad(x, [[2, 1]], mode), mode),
    ...moved('MirrorPad', floats([3, 4]), (x) => tf.mirrorPad(x, [[1, 2], [0, 3]], mode), mode), // biome-ignore format: pairs
    ...moved('MirrorPad', integers([3, 2]), (x) => tf.mirrorPad(x, [[1, 1], [1, 0]], mode), mode), // biome-ignore format: pairs
  ]),
].map((one) => (one.kernel === 'MirrorPad' ? { ...one, gradient: false } : one))

const blocks = [
  ...moved('SpaceToBatchND', floats([1, 4, 4, 2]), (x) => tf.spaceToBatchND(x, [2, 2], [[0, 0], [0, 0]])), // biome-ignore format: pairs
  ...moved('SpaceToBatchND', floats([2, 3, 5, 1]), (x) => tf.spaceToBatchND(x, [2, 3], [[1, 0], [0, 1]])), // biome-ignore format: pairs
  ...moved('BatchToSpaceND', floats([4, 2, 2, 3]), (x) => tf.batchToSpaceND(x, [2, 2], [[0, 0], [0, 0]])), // biome-ignore format: pairs
  ...moved('BatchToSpaceND', floats([4, 2, 3, 1]), (x) => tf.batchToSpaceND(x, [2, 2], [[1, 0], [0, 2]])), // biome-ignore format: pairs
  ...moved('DepthToSpace', floats([1, 2, 3, 8]), (x) => tf.depthToSpace(x as tf.Tensor4D, 2)).map((one) => ({
    ...one,
    gradient: false,
  })),
]

const views = [
  ...moved('Reshape', floats([2, 6]), (x) => tf.reshape(x, [3, -1])),
  ...moved('Reshape', floats([2, 3, 2]), (x) => tf.squeeze(tf.reshape(x, [1, 12, 1]))),
  ...moved('Reshape', floats([0, 3]), (x) => tf.reshape(x, [3, 0])),
  ...moved('ExpandDims', floats([2, 3]), (x) => tf.expandDims(x, -1)),
  ...moved('ExpandDims', integers([2]), (x) => tf.expandDims(x, 0)),
  ...moved('Identity', floats([2, 3]), (x) => tf.clone(x)),
  ...moved('Reshape', floats([2, 3, 3, 16]), (x) => tf.relu(tf.reshape(x, [2, -1])), 'of images'),
]

const made: Case[] = [
  ...[[], [3], [0, 2], [40, 30]].flatMap((shape) => [
    { kernel: 'Fill', operands: [], compute: () => tf.neg(tf.fill(shape, 2.5)) },
    { kernel: 'ZerosLike', operands: [floats(shape)], compute: (x: tf.Tensor) => tf.zerosLike(x) },
    { kernel: 'OnesLike', operands: [integers(shape)], compute: (x: tf.Tensor) => tf.onesLike(x) },
  ]),
  { kernel: 'Fill', title: 'whole', operands: [], compute: () => tf.fill([300], 3, 'int32') },
  { kernel: 'Fill', title: 'true', operands: [], compute: () => tf.logicalNot(tf.fill([300], 1, 'bool')) },
  { kernel: 'Fill', title: 'no number', operands: [], compute: () => tf.fill([300], Number.NaN) },
]

export const arrangementTable: Case[] = [
  ...transposes,
  ...slices,
  ...joined,
  ...parts,
  ...repeated,
  ...padded,
  ...blocks,
  ...views,
  ...made,
]
