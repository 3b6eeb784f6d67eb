import { tf } from '../../../tf.ts'
import type { Operation } from '../../recording/record.ts'
import { sizeOf } from '../../recording/shape.ts'
import type { Attributes, Trace } from '../../recording/trace.ts'
import type { Attribute } from '../emitter.ts'
import type { Graph } from '../graph.ts'
import type { KernelGroup, Lowering } from '../kernel.ts'
import { assertWindows, fitsBlocks, type Layout, type Quad } from '../layout.ts'
import { placeCells } from './cells.ts'
import { everyStep } from './filter-columns.ts'

type Pair = readonly [number, number]

/** A pooling by its numbers; `pads` are top, left, bottom, right. */
export interface Pooling extends Attributes {
  kernel: Pair
  strides: Pair
  pads: readonly [number, number, number, number]
}

function poolingOf(image: readonly number[], attributes: Attributes): { pooling: Pooling; shape: number[] } {
  const { filterSize, strides, pad, dimRoundingMode } = attributes as {
    filterSize: number | [number, number]
    strides: number | [number, number]
    pad: 'same' | 'valid' | number
    dimRoundingMode?: 'floor' | 'round' | 'ceil'
  }
  const quad = image as [number, number, number, number]
  const info = tf.backend_util.computePool2DInfo(quad, filterSize, strides, 1, pad, dimRoundingMode)
  const { top, left, bottom, right } = info.padInfo
  const pooling: Pooling = {
    kernel: [info.filterHeight, info.filterWidth],
    strides: [info.strideHeight, info.strideWidth],
    pads: [top, left, bottom, right],
  }
  const out = [info.outHeight, info.outWidth]
  assertWindows('pooling', [info.inHeight, info.inWidth], pooling.kernel, pooling.strides, pooling.pads, out)
  return { pooling, shape: info.outShape }
}

function attributesOf({ kernel, strides, pads }: Pooling): Record<string, Attribute> {
  return { kernel_shape: kernel, strides, pads }
}

/** The layout to pool in: any that exists, but not that of tfjs, which the runtime cannot pool. */
function poolingLayout(operation: Operation, i: number, graph: Graph): Layout {
  return fitsBlocks(operation.shapes[i]!, graph.blockSize) ? 'blocks' : 'planes'
}

function lowerPool(op: 'MaxPool' | 'AveragePool'): Lowering {
  return (operation, graph) => {
    const layout = poolingLayout(operation, 0, graph)
    const images = graph.arranged(operation, 0, layout)
    const pooling = operation.attributes as Pooling
    if (graph.forCuda && op === 'AveragePool' && !isEven(pooling)) {
      graph.result(operation, averageWithin(operation, graph, images), 0, layout)
      return
    }
    const attributes = attributesOf(pooling)
    const domain = layout === 'blocks' ? 'com.microsoft.nchwc' : ''
    graph.result(operation, graph.emit(op, [images], attributes, domain), 0, layout)
  }
}

const isEven = ({ pads: [top, left, bottom, right] }: Pooling) => top === bottom && left === right

/** For cuDNN, which pads as much after as before: means over padded images, divided by what of each window lies inside. */
function averageWithin(operation: Operation, graph: Graph, images: string): string {
  const pooling = operation.attributes as Pooling
  const [top, left, bottom, right] = pooling.pads
  const [, height, width] = operation.outputs[0]!.shape as unknown as Quad
  const [, imageHeight, imageWidth] = operation.shapes[0] as unknown as Quad
  const wide = graph.emit('Pad', [images, graph.integers([0, 0, top, left, 0, 0, bottom, right])])
  const means = graph.emit('AveragePool', [wide], { ...attributesOf(pooling), pads: [0, 0, 0, 0] })
  const shares = sharesOf(pooling, [height, width], [imageHeight, imageWidth])
  const size = pooling.kernel[0] * pooling.kernel[1]
  const factors = graph.constant(
    'float32',
    [height, width],
    shares.map((share) => share * size),
  )
  return graph.emit('Mul', [means, factors])
}

/** For each window one over how many of its cells lie inside the images. */
function sharesOf({ kernel, strides, pads }: Pooling, pooled: Pair, images: Pair): Float32Array {
  const within = (at: number, axis: 0 | 1) => {
    const first = at * strides[axis] - pads[axis]
    return Math.min(images[axis], first + kernel[axis]) - Math.max(0, first)
  }
  return Float32Array.from(
    { length: pooled[0] * pooled[1] },
    (_, i) => 1 / (within(Math.floor(i / pooled[1]), 0) * within(i % pooled[1], 1)),
  )
}

/** A filter [channels, 1, h, w] of zeros and one 1, for a convolution of each channel, in blocks or not. */
function oneCell(graph: Graph, channels: number, kernel: Pair, cell: Pair, layout: Layout): string {
  const b = layout === 'blocks' ? graph.blockSize : 1
  const size = kernel[0] * kernel[1]
  const values = new Float32Array(channels * size)
  const at = cell[0] * kernel[1] + cell[1]
  for (let block = 0; block < channels / b; block++)
    values.fill(1, (block * size + at) * b, (block * size + at + 1) * b)
  return graph.constant('float32', [channels, 1, ...kernel], values)
}

/**
 * 1 where cell (i, j) of a window is as large as its maximum, else 0. A convolution with a filter that is 1 at the cell
 * takes it from the images; the runtime subtracts the maximum and cuts 1 + difference x (largest float) to [0, 1] in
 * the same pass, which is exact for differences above 1e-38. Convolutions of cuDNN may not be exact: there it is a slice.
 */
function winsOfCell(
  graph: Graph,
  images: string,
  largest: string,
  channels: number,
  pooling: Pooling,
  cell: Pair,
  layout: Layout,
  pooled: Quad,
) {
  const seen = () => everyStep(graph, images, cell, [pooled[1], pooled[2]], pooling.strides)
  if (graph.forCuda) return graph.emit('Cast', [graph.emit('Equal', [seen(), largest])], { to: 1 })
  const filter = oneCell(graph, channels, pooling.kernel, cell, layout)
  const attributes = { ...attributesOf(pooling), pads: [0, 0, 0, 0], dilations: [1, 1], group: channels }
  if (layout === 'planes')
    return graph.emit('Cast', [graph.emit('Equal', [graph.emit('Conv', [images, filter], attributes), largest])], {
      to: 1,
    })
  const inputs = [images, filter, '', graph.emit('Neg', [largest])]
  return graph.emit('Conv', inputs, { ...attributes, ...steep }, 'com.microsoft.nchwc')
}

/** Images [n, c, ...] with borders lower than any number that is looked at. */
function bordered(graph: Graph, images: string, shape: Quad, pads: readonly number[], layout: Layout): string {
  if (pads.every((side) => side === 0)) return images
  const [top, left, bottom, right] = pads as [number, number, number, number]
  const lowest = graph.scalar(-3.4028234663852886e38)
  if (layout === 'planes')
    return graph.emit('Pad', [images, graph.integers([0, 0, top, left, 0, 0, bottom, right]), lowest])
  const sides = graph.integers([0, 0, top, left, 0, 0, 0, bottom, right, 0])
  const wide: Quad = [shape[0], shape[1] + top + bottom, shape[2] + left + right, shape[3]]
  const made = graph.emit('Pad', [graph.reshape(images, graph.folded(shape)), sides, lowest])
  return graph.reshape(made, graph.declared(wide))
}

/** A filter for each channel in blocks, of windows 2 x 2. */
function fourCells(graph: Graph, channels: number, cells: readonly number[]): string {
  const b = graph.blockSize
  const values = Float32Array.from({ length: channels * 4 }, (_, i) => cells[Math.floor(i / b) % 4]!)
  return graph.constant('float32', [channels, 1, 2, 2], values)
}

/** 1 where a difference is not negative, else 0. */
const steep = { activation: 'HardSigmoid', activation_params: { floats: [3.4e38, 1] } }

/**
 * The gradient of pooling 2 x 2 without overlap or padding, in the four parts of the images: in each window first the
 * upper row or the lower one wins, then in each row the left cell or the right one, the former of equals.
 */
function halvingGradient(operation: Operation, graph: Graph, images: string, largest: string): void {
  const shape = operation.shapes[1] as unknown as Quad
  const pooled = operation.shapes[0] as unknown as Quad
  const pooling = operation.attributes as Pooling
  const nchwc = 'com.microsoft.nchwc'
  const window = { strides: [2, 2], pads: [0, 0, 0, 0] }
  const each = { ...window, ...steep, kernel_shape: [2, 2], dilations: [1, 1], group: shape[3] }
  const leftWins = [
    [1, -1, 0, 0],
    [0, 0, 1, -1],
  ].map((cells) => graph.emit('Conv', [images, fourCells(graph, shape[3], cells)], each, nchwc))
  const upper = graph.emit('MaxPool', [images], { ...window, kernel_shape: [1, 2] }, nchwc)
  const lead = graph.emit('Sub', [upper, largest])
  const upperWins = graph.emit('HardSigmoid', [lead], { alpha: { float: 3.4e38 }, beta: { float: 1 } })
  const dy = graph.arranged(operation, 0, 'blocks')
  const part = (whole: string, wins: string) => {
    const won = graph.emit('Mul', [whole, wins])
    return [won, graph.emit('Sub', [whole, won])] as const
  }
  const names = part(dy, upperWins).flatMap((row, i) => part(row, leftWins[i]!))
  graph.inParts(operation, { names, whole: () => placeCells(graph, names, pooled, shape, pooling, 'blocks') })
}

/**
 * Each gradient goes to the first largest cell of its window, as in tfjs: of what is left of the gradient, cell after
 * cell takes all where it equals the maximum. The runtime's own pooling with indices takes far longer.
 */
const maxPoolGradient: Lowering = (operation, graph) => {
  const pooling = operation.attributes as Pooling
  const shape = operation.shapes[1] as unknown as Quad
  const layout = poolingLayout(operation, 1, graph)
  const domain = layout === 'blocks' ? 'com.microsoft.nchwc' : ''
  const images = graph.arranged(operation, 1, layout)
  const largest = graph.emit('MaxPool', [images], attributesOf(pooling), domain)
  const plain =
    [...pooling.kernel, ...pooling.strides].every((side) => side === 2) && pooling.pads.every((side) => side === 0)
  if (plain && shape[1] % 2 === 0 && layout === 'blocks') {
    halvingGradient(operation, graph, images, largest)
    return
  }
  const wide = bordered(graph, images, shape, pooling.pads, layout)
  const [height, width] = pooling.kernel
  const pooled = operation.shapes[0] as unknown as Quad
  let left = graph.arranged(operation, 0, layout)
  const taken: string[] = []
  for (let i = 0; i < height; i++)
    for (let j = 0; j < width; j++) {
      if (i === height - 1 && j === width - 1) break
      const wins = winsOfCell(graph, wide, largest, shape[3], pooling, [i, j], layout, pooled)
      taken.push(graph.emit('Mul', [left, wins]))
      left = graph.emit('Sub', [left, taken.at(-1)!])
    }
  taken.push(left)
  graph.result(operation, placeCells(graph, taken, pooled, shape, pooling, layout), 0, layout)
}

/** Every cell of a window gets the same share: one over how many cells of it lie inside the images. */
const avgPoolGradient: Lowering = (operation, graph) => {
  const pooling = operation.attributes as Pooling
  const { kernel } = pooling
  const shape = operation.outputs[0]!.shape as unknown as Quad
  const pooled = operation.shapes[0] as unknown as Quad
  const layout = poolingLayout(operation, 0, graph)
  const b = layout === 'blocks' ? graph.blockSize : 1
  const each = sharesOf(pooling, [pooled[1], pooled[2]], [shape[1], shape[2]])
  const shares = Float32Array.from({ length: each.length * b }, (_, i) => each[Math.floor(i / b)]!)
  const dy = graph.reshape(graph.arranged(operation, 0, layout), [pooled[0] * (pooled[3] / b), shares.length])
  const share = graph.reshape(
    graph.emit('Mul', [dy, graph.constant('float32', [shares.length], shares)]),
    graph.declared(pooled),
  )
  const cells = Array<string>(kernel[0] * kernel[1]).fill(share)
  graph.result(operation, placeCells(graph, cells, pooled, shape, pooling, layout), 0, layout)
}

function tracePool(kind: 'MaxPool' | 'AvgPool'): Trace {
  return (inputs, attributes, tracer) => {
    const x = inputs.x!
    const { pooling, shape } = poolingOf(x.shape, attributes)
    if (x.dtype === 'float32') return tracer.operation(kind, [x], [{ shape, dtype: 'float32' }], pooling)
    // The runtime pools floats only.
    const [floats] = tracer.operation('Cast', [x], [{ shape: x.shape, dtype: 'float32' }])
    const [pooled] = tracer.operation(kind, [floats!], [{ shape, dtype: 'float32' }], pooling)
    const made = tracer.operation('Cast', [pooled!], [{ shape, dtype: x.dtype }])
    tracer.release(floats!)
    tracer.release(pooled!)
    return made
  }
}

function traceGradient(kind: 'MaxPoolGrad' | 'AvgPoolGrad'): Trace {
  return (inputs, attributes, tracer) => {
    const { dy, input } = inputs
    const { pooling } = poolingOf(input!.shape, attributes)
    if (sizeOf(input!.shape) === 0) return tracer.leaf(new Float32Array(0), input!.shape, 'float32')
    const operands = kind === 'MaxPoolGrad' ? [dy!, input!] : [dy!]
    return tracer.operation(kind, operands, [{ shape: input!.shape, dtype: 'float32' }], pooling)
  }
}

export const pooling: KernelGroup = {
  traces: {
    MaxPool: tracePool('MaxPool'),
    AvgPool: tracePool('AvgPool'),
    MaxPoolGrad: traceGradient('MaxPoolGrad'),
    AvgPoolGrad: traceGradient('AvgPoolGrad'),
  },
  lowerings: {
    MaxPool: lowerPool('MaxPool'),
    AvgPool: lowerPool('AveragePool'),
    MaxPoolGrad: maxPoolGradient,
    AvgPoolGrad: avgPoolGradient,
  },
}
