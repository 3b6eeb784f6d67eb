import { tf } from '../../../../src/tf.ts'
import { bools, type Case, floats, given, integers } from '../parity.ts'

type Quad = [number, number, number, number]
type Pad = 'same' | 'valid' | number

interface Window {
  image: Quad
  filter: Quad
  strides?: number | [number, number]
  pad?: Pad
  dilations?: number | [number, number]
}

/** Odd sizes, channels that fit blocks of 16 and that do not, and every kind of padding. */
const windows: Window[] = [
  { image: [2, 5, 5, 3], filter: [3, 3, 3, 4] },
  { image: [2, 5, 5, 3], filter: [3, 3, 3, 4], pad: 'valid' },
  { image: [1, 6, 7, 2], filter: [3, 2, 2, 3], strides: 2 },
  { image: [2, 7, 5, 2], filter: [3, 3, 2, 3], strides: [1, 2], pad: 'valid' },
  { image: [2, 6, 6, 2], filter: [3, 3, 2, 3], pad: 2 },
  { image: [1, 7, 7, 2], filter: [3, 3, 2, 2], dilations: 2 },
  { image: [2, 4, 4, 3], filter: [1, 1, 3, 5] },
  { image: [2, 5, 5, 3], filter: [1, 1, 3, 5], strides: 2 },
  { image: [2, 6, 6, 3], filter: [3, 3, 3, 16] },
  { image: [2, 6, 6, 16], filter: [3, 3, 16, 32] },
  { image: [2, 7, 7, 16], filter: [3, 3, 16, 16], strides: 2 },
  { image: [2, 6, 6, 16], filter: [3, 3, 16, 3] },
  { image: [1, 9, 9, 16], filter: [5, 5, 16, 16], pad: 'valid' },
  { image: [1, 4, 4, 2], filter: [4, 4, 2, 16], pad: 'valid' },
  { image: [1, 1, 1, 1], filter: [1, 1, 1, 1] },
  { image: [3, 3, 3, 1], filter: [2, 2, 1, 1], pad: 'same' },
  { image: [2, 8, 8, 32], filter: [3, 3, 32, 16], dilations: [2, 1] },
  // Batches that are multiples of no block, and of one.
  { image: [20, 4, 4, 3], filter: [3, 3, 3, 16] },
  { image: [33, 3, 3, 16], filter: [3, 3, 16, 16] },
  { image: [32, 3, 3, 16], filter: [3, 3, 16, 16] },
  { image: [20, 2, 2, 16], filter: [1, 1, 16, 32], strides: 2 },
]

const show = ({ strides = 1, pad = 'same', dilations = 1 }: Window) =>
  `strides ${strides}, pad ${pad}, dilations ${dilations}`

/** Sums of many products differ in their order. */
const summed = 5e-6

const convolutions = windows.flatMap((window): Case[] => {
  const { image, filter, strides = 1, pad = 'same', dilations = 1 } = window
  const operands = [floats(image), floats(filter, undefined, 11)]
  const conv = (x: tf.Tensor, w: tf.Tensor) =>
    tf.conv2d(x as tf.Tensor4D, w as tf.Tensor4D, strides, pad, 'NHWC', dilations)
  const learned = dilations === 1
  const title = show(window)
  const kernels = learned ? ['Conv2D', 'Conv2DBackpropInput', 'Conv2DBackpropFilter'] : ['Conv2D']
  return [
    ...kernels.map((kernel): Case => ({ kernel, title, operands, compute: conv, gradient: learned, bound: summed })),
    {
      kernel: 'Conv2D',
      title: `${title}, with a bias and a relu`,
      operands: [...operands, floats([filter[3]], undefined, 4)],
      compute: (x, w, bias) => tf.relu(tf.add(conv(x, w), bias!)),
      gradient: learned,
      bound: summed,
    },
  ]
})

/** What is no number comes through a convolution and the relu after it. */
const missing: Case[] = [3, 16].map((to) => ({
  kernel: 'Conv2D',
  title: 'of what is no number',
  operands: [given([1, 2, Number.NaN, 4, 5, 6, 7, 8], [1, 2, 2, 2]), floats([1, 1, 2, to]), floats([to])],
  compute: (x, w, bias) => tf.relu(tf.add(tf.conv2d(x as tf.Tensor4D, w as tf.Tensor4D, 1, 'same'), bias!)),
}))

const conv16 = (x: tf.Tensor, w: tf.Tensor) => tf.conv2d(x as tf.Tensor4D, w as tf.Tensor4D, 1, 'same')
const toBlocks = [floats([2, 6, 6, 3]), floats([3, 3, 3, 16], undefined, 11)]

/** One pass takes one bias: those that are added after it must not take its place. */
const biases: Case[] = (
  [
    ['a bias and a number', (y, b) => tf.add(tf.add(y, b), 0.5)],
    ['two biases', (y, b, c) => tf.add(tf.add(y, b), c)],
    ['two biases and a relu', (y, b, c) => tf.relu(tf.add(tf.add(y, b), c))],
    ['three biases', (y, b, c) => tf.add(tf.add(tf.add(y, b), c), b)],
  ] as [string, (y: tf.Tensor, b: tf.Tensor, c: tf.Tensor) => tf.Tensor][]
).map(([title, compute]) => ({
  kernel: 'Conv2D',
  title: `with ${title}`,
  operands: [...toBlocks, ...[4, 6].slice(0, compute.length - 1).map((seed) => floats([16], undefined, seed))],
  compute: (x, w, b, c) => compute(conv16(x!, w!), b!, c!),
  gradient: true,
  bound: summed,
}))

/** What is computed of a convolution lies in blocks too; the pooling that sums blocks knows floats only. */
const counted: Case[] = (
  [
    ['truths', (y) => tf.sum(tf.greater(y, 0), [0, 1, 2])],
    ['truths of each image', (y) => tf.sum(tf.greater(y, 0), [1, 2])],
    ['whole numbers', (y) => tf.sum(tf.cast(y, 'int32'), [0, 1, 2])],
  ] as [string, (y: tf.Tensor) => tf.Tensor][]
).map(([title, compute]) => ({
  kernel: 'Sum',
  title: `${title} of a convolution, a number a channel`,
  operands: toBlocks,
  compute: (x, w) => compute(conv16(x!, w!)),
}))

const transposed: Case[] = (
  [
    [[2, 3, 3, 4], [3, 3, 2, 4], [2, 6, 6, 2], 2, 'same'],
    [[2, 3, 3, 4], [2, 2, 3, 4], [2, 6, 6, 3], 2, 'valid'],
    [[1, 3, 3, 16], [3, 3, 16, 16], [1, 7, 7, 16], 2, 'valid'],
    [[1, 4, 4, 3], [3, 3, 2, 3], [1, 4, 4, 2], 1, 'same'],
  ] as const
).map(([x, filter, out, strides, pad]) => ({
  kernel: 'Conv2DBackpropInput',
  title: `transposed, strides ${strides}, pad ${pad}`,
  operands: [floats([...x]), floats([...filter], undefined, 3)],
  compute: (t, w) => tf.conv2dTranspose(t as tf.Tensor4D, w as tf.Tensor4D, [...out], strides, pad),
  gradient: true,
  bound: summed,
}))

const fused: Case[] = (['relu', 'elu', 'linear'] as const).map((activation) => ({
  kernel: 'FusedConv2D',
  title: activation,
  operands: [floats([2, 5, 5, 3]), floats([3, 3, 3, 16], undefined, 5), floats([16], undefined, 6)],
  compute: (x, filter, bias) =>
    tf.fused.conv2d({
      x: x as tf.Tensor4D,
      filter: filter as tf.Tensor4D,
      strides: 1,
      pad: 'same',
      bias,
      activation,
    }),
  bound: summed,
}))

const pools: [Quad, number | [number, number], number, Pad][] = [
  [[2, 4, 4, 3], 2, 2, 'valid'],
  [[2, 5, 5, 3], 2, 2, 'same'],
  [[2, 7, 6, 2], 3, 2, 'valid'],
  [[1, 7, 7, 16], 3, 2, 'same'],
  [[2, 4, 4, 16], 2, 2, 'valid'],
  [[1, 5, 5, 2], [2, 3], 1, 'same'],
  [[1, 4, 4, 1], 4, 4, 'valid'],
  [[2, 3, 3, 2], 1, 1, 'valid'],
  [[2, 6, 6, 2], 3, 3, 'valid'],
]

const poolings = pools.flatMap(([image, size, strides, pad]): Case[] => {
  const title = `window ${size}, strides ${strides}, pad ${pad}`
  const operands = [floats(image)]
  const max = (x: tf.Tensor) => tf.maxPool(x as tf.Tensor4D, size, strides, pad)
  const average = (x: tf.Tensor) => tf.avgPool(x as tf.Tensor4D, size, strides, pad)
  return [
    { kernel: 'MaxPool', title, operands, compute: max },
    { kernel: 'MaxPoolGrad', title, operands, compute: max, gradient: true },
    { kernel: 'AvgPool', title, operands, compute: average },
    // Where a window reaches over the border, that of tfjs divides by all its cells, not by those inside.
    ...(pad === 'valid' ? [{ kernel: 'AvgPoolGrad', title, operands, compute: average, gradient: true }] : []),
  ]
})

/** The runtime pools floats only. */
const wholePools: Case[] = [integers([2, 4, 4, 3]), integers([2, 4, 4, 16]), bools([2, 5, 5, 3])].map((image) => ({
  kernel: 'MaxPool',
  operands: [image],
  compute: (x) => tf.maxPool(x as tf.Tensor4D, 2, 2, 'same'),
}))

const ties: Case = {
  kernel: 'MaxPoolGrad',
  title: 'equal numbers',
  operands: [given([1, 1, 1, 1, 0, 0, 2, 2, 0, 2, 2, 0, 3, 3, 3, 3], [1, 4, 4, 1])],
  compute: (x) => tf.maxPool(x as tf.Tensor4D, 2, 2, 'valid'),
  gradient: true,
}

const norms: Case[] = [
  {
    kernel: 'FusedBatchNorm',
    operands: [
      floats([2, 3, 3, 4]),
      floats([4]),
      floats([4], (x) => x * x + 0.2, 3),
      floats([4], undefined, 4),
      floats([4], undefined, 5),
    ],
    compute: (x, mean, variance, offset, scale) =>
      tf.batchNorm(x!, mean as tf.Tensor1D, variance as tf.Tensor1D, offset as tf.Tensor1D, scale as tf.Tensor1D, 1e-3),
    gradient: true,
    bound: 2e-5,
  },
  {
    kernel: 'FusedBatchNorm',
    title: 'no offset, no scale',
    operands: [floats([3, 16]), floats([16]), floats([16], (x) => x * x + 0.2, 3)],
    compute: (x, mean, variance) => tf.batchNorm(x!, mean as tf.Tensor1D, variance as tf.Tensor1D),
    bound: 2e-5,
  },
  ...[3, 16].map(
    (channels): Case => ({
      kernel: 'LRN',
      operands: [floats([2, 2, 3, channels])],
      compute: (x) => tf.localResponseNormalization(x as tf.Tensor4D, 2, 1.5, 0.3, 0.75),
      gradient: true,
      bound: 1e-5,
    }),
  ),
  {
    kernel: 'LRNGrad',
    operands: [floats([1, 2, 2, 5])],
    compute: (x) => tf.localResponseNormalization(x as tf.Tensor4D, 1),
    gradient: true,
    bound: 1e-5,
  },
]

const sizes: [[number, number], [number, number], boolean, boolean][] = [
  [[4, 4], [7, 9], false, false],
  [[5, 5], [3, 2], false, false],
  [[4, 4], [8, 8], true, false],
  [[3, 3], [6, 6], false, true],
  [[6, 6], [4, 4], false, true],
  [[2, 2], [1, 1], true, false],
  [[1, 1], [3, 3], false, false],
]

const resized = sizes.flatMap(([[height, width], size, alignCorners, halfPixel]): Case[] => {
  const title = `to ${size}, corners ${alignCorners}, half pixels ${halfPixel}`
  const operands = [floats([2, height, width, 3])]
  const bilinear = (x: tf.Tensor) => tf.image.resizeBilinear(x as tf.Tensor4D, size, alignCorners, halfPixel)
  const nearest = (x: tf.Tensor) => tf.image.resizeNearestNeighbor(x as tf.Tensor4D, size, alignCorners, halfPixel)
  return [
    { kernel: 'ResizeBilinear', title, operands, compute: bilinear },
    { kernel: 'ResizeBilinearGrad', title, operands, compute: bilinear, gradient: true },
    { kernel: 'ResizeNearestNeighbor', title, operands, compute: nearest },
    // That of tfjs is wrong for more than one image, and for one pixel between corners.
    {
      kernel: 'ResizeNearestNeighborGrad',
      title,
      operands: [floats([1, height, width, 3])],
      compute: nearest,
      gradient: !halfPixel && !(alignCorners && size[0] === 1),
    },
  ].filter(({ kernel, gradient }) => gradient || !kernel.endsWith('Grad'))
})

const wholeResized: Case = {
  kernel: 'ResizeBilinear',
  operands: [integers([2, 4, 4, 3])],
  compute: (x) => tf.image.resizeBilinear(x as tf.Tensor4D, [7, 9]),
}

const cropped = (['bilinear', 'nearest'] as const).flatMap((method) =>
  (
    [
      [3, 3],
      [1, 1],
      [4, 2],
    ] as [number, number][]
  ).map(
    (size): Case => ({
      // biome-ignore format: sizes
      kernel: 'CropAndResize',
      title: `${method} to ${size}`,
      operands: [
        floats([2, 5, 6, 3]),
        // None so that the nearest pixel is one of two equally near.
        given([0.01, 0.02, 0.93, 0.99, 0.17, 0.13, 0.78, 0.92, -0.2, 0.3, 0.5, 1.3], [3, 4]),
        given([0, 1, 0], [3], 'int32'),
      ],
      compute: (x, boxes, at) =>
        tf.image.cropAndResize(x as tf.Tensor4D, boxes as tf.Tensor2D, at as tf.Tensor1D, size, method, 0.25),
    }),
  ),
)

export const imageTable: Case[] = [
  ...convolutions,
  ...missing,
  ...biases,
  ...counted,
  ...transposed,
  ...fused,
  ...poolings,
  ...wholePools,
  ties,
  ...norms,
  ...resized,
  wholeResized,
  ...cropped,
]
