import type { Attributes, Trace } from '../../recording/trace.ts'
import type { KernelGroup, Lowering } from '../kernel.ts'
import type { Quad } from '../layout.ts'
import { castTo } from './casts.ts'
import { between, bilinearWeights, nearest, nearestWeights, type Resizing } from './resizing.ts'

const resizingOf = ({ alignCorners, halfPixelCenters }: Attributes) => ({
  alignCorners: Boolean(alignCorners),
  halfPixelCenters: Boolean(halfPixelCenters),
})

function traceResize(kind: string): Trace {
  return ({ images }, attributes, tracer) => {
    const [n, , , channels] = images!.shape as unknown as Quad
    const [height, width] = attributes.size as [number, number]
    const dtype = kind === 'ResizeBilinear' ? 'float32' : images!.dtype
    return tracer.operation(kind, [images!], [{ shape: [n, height, width, channels], dtype }], resizingOf(attributes))
  }
}

function traceResizeGradient(kind: string): Trace {
  return ({ images, dy }, attributes, tracer) =>
    tracer.operation(kind, [dy!], [{ shape: images!.shape, dtype: 'float32' }], resizingOf(attributes))
}

/** Between the two neighbours along the columns, then along the rows. */
const resizeBilinear: Lowering = (operation, graph) => {
  const from = operation.shapes[0]!
  const to = operation.outputs[0]!.shape
  const resizing = operation.attributes as unknown as Resizing
  let name = castTo(graph, graph.plain(operation, 0), operation.inputs[0]!.dtype, 'float32')
  for (const axis of [2, 1]) {
    const { first, second, share } = between(from[axis]!, to[axis]!, resizing)
    const low = graph.emit('Gather', [name, graph.integers(first)], { axis })
    const high = graph.emit('Gather', [name, graph.integers(second)], { axis })
    const shares = graph.constant('float32', axis === 2 ? [to[2]!, 1] : [to[1]!, 1, 1], share)
    const rise = graph.emit('Mul', [graph.emit('Sub', [high, low]), shares])
    name = graph.emit('Add', [low, rise])
  }
  graph.result(operation, name)
}

const resizeNearest: Lowering = (operation, graph) => {
  const from = operation.shapes[0]!
  const to = operation.outputs[0]!.shape
  const resizing = operation.attributes as unknown as Resizing
  let name = graph.plain(operation, 0)
  for (const axis of [1, 2]) {
    const places = nearest(from[axis]!, to[axis]!, resizing)
    name = graph.emit('Gather', [name, graph.integers(places)], { axis })
  }
  graph.result(operation, name)
}

/** dy [n, h, w, c] back to where it came from, by a product with what each place gave to each, first rows, then columns. */
function lowerResizeGradient(weights: (from: number, to: number, resizing: Resizing) => Float32Array): Lowering {
  return (operation, graph) => {
    const [n, height, width, channels] = operation.shapes[0] as unknown as Quad
    const [, toHeight, toWidth] = operation.outputs[0]!.shape as unknown as Quad
    const resizing = { ...(operation.attributes as unknown as Resizing), halfPixelCenters: false }
    const rows = graph.constant('float32', [toHeight, height], weights(toHeight, height, resizing))
    const columns = graph.constant('float32', [toWidth, width], weights(toWidth, width, resizing))
    const flat = graph.reshape(graph.plain(operation, 0), [n, height, width * channels])
    const high = graph.emit('MatMul', [rows, flat])
    const made = graph.emit('MatMul', [columns, graph.reshape(high, [n * toHeight, width, channels])])
    graph.result(operation, graph.reshape(made, [n, toHeight, toWidth, channels]))
  }
}

const cropAndResize: Trace = ({ image, boxes, boxInd }, attributes, tracer) => {
  const { cropSize, method, extrapolationValue } = attributes as {
    cropSize: [number, number]
    method: 'bilinear' | 'nearest'
    extrapolationValue: number
  }
  const shape = [boxes!.shape[0]!, ...cropSize, image!.shape[3]!]
  const inputs = [image!, boxes!, boxInd!]
  return tracer.operation('CropAndResize', inputs, [{ shape, dtype: 'float32' }], { method, extrapolationValue })
}

/** The runtime's own operator of this name, made after TensorFlow's; it takes images in planes. */
const lowerCropAndResize: Lowering = (operation, graph) => {
  const { method, extrapolationValue } = operation.attributes as { method: string; extrapolationValue: number }
  const [, height, width] = operation.outputs[0]!.shape as unknown as Quad
  const images = graph.arranged(operation, 0, 'planes')
  const size = graph.constant('int32', [2], [height, width])
  const inputs = [images, graph.plain(operation, 1), graph.plain(operation, 2), size]
  const attributes = { mode: method, extrapolation_value: { float: extrapolationValue } }
  graph.result(operation, graph.emit('CropAndResize', inputs, attributes, 'com.microsoft'), 0, 'planes')
}

/** Of the channels around each one (Krizhevsky et al., 2012, section 3.3). */
interface Normalisation extends Attributes {
  depthRadius: number
  bias: number
  alpha: number
  beta: number
}

const normalisationOf = ({ depthRadius, bias, alpha, beta }: Attributes) => ({ depthRadius, bias, alpha, beta })

const localResponse: Trace = ({ x }, attributes, tracer) =>
  tracer.operation('LRN', [x!], [{ shape: x!.shape, dtype: x!.dtype }], normalisationOf(attributes))

const localResponseGradient: Trace = ({ x, y, dy }, attributes, tracer) =>
  tracer.operation('LRNGrad', [x!, y!, dy!], [{ shape: x!.shape, dtype: 'float32' }], normalisationOf(attributes))

/** Which channels are within the radius of which: [c, c]. */
function neighbours(channels: number, radius: number): Float32Array {
  const near = (i: number) => Math.abs(Math.floor(i / channels) - (i % channels)) <= radius
  return Float32Array.from({ length: channels * channels }, (_, i) => (near(i) ? 1 : 0))
}

const lowerLocalResponse: Lowering = (operation, graph) => {
  const { depthRadius, bias, alpha, beta } = operation.attributes as Normalisation
  const channels = operation.shapes[0]![3]!
  const around = graph.constant('float32', [channels, channels], neighbours(channels, depthRadius))
  const x = graph.plain(operation, 0)
  const sums = graph.emit('MatMul', [graph.emit('Mul', [x, x]), around])
  const norm = graph.emit('Add', [graph.emit('Mul', [sums, graph.scalar(alpha)]), graph.scalar(bias)])
  graph.result(operation, graph.emit('Mul', [x, graph.emit('Pow', [norm, graph.scalar(-beta)])]))
}

/** dx = dy norm^-beta - 2 alpha beta x (sum over the neighbours of dy y / norm). */
const lowerLocalResponseGradient: Lowering = (operation, graph) => {
  const { depthRadius, bias, alpha, beta } = operation.attributes as Normalisation
  const channels = operation.shapes[0]![3]!
  const around = graph.constant('float32', [channels, channels], neighbours(channels, depthRadius))
  const [x, y, dy] = [0, 1, 2].map((i) => graph.plain(operation, i)) as [string, string, string]
  const sums = graph.emit('MatMul', [graph.emit('Mul', [x, x]), around])
  const norm = graph.emit('Add', [graph.emit('Mul', [sums, graph.scalar(alpha)]), graph.scalar(bias)])
  const own = graph.emit('Mul', [dy, graph.emit('Pow', [norm, graph.scalar(-beta)])])
  const shares = graph.emit('Div', [graph.emit('Mul', [dy, y]), norm])
  const others = graph.emit('Mul', [x, graph.emit('MatMul', [shares, around])])
  graph.result(operation, graph.emit('Sub', [own, graph.emit('Mul', [others, graph.scalar(2 * alpha * beta)])]))
}

export const imaging: KernelGroup = {
  traces: {
    CropAndResize: cropAndResize,
    LRN: localResponse,
    LRNGrad: localResponseGradient,
    ResizeBilinear: traceResize('ResizeBilinear'),
    ResizeBilinearGrad: traceResizeGradient('ResizeBilinearGrad'),
    ResizeNearestNeighbor: traceResize('ResizeNearestNeighbor'),
    ResizeNearestNeighborGrad: traceResizeGradient('ResizeNearestNeighborGrad'),
  },
  lowerings: {
    CropAndResize: lowerCropAndResize,
    LRN: lowerLocalResponse,
    LRNGrad: lowerLocalResponseGradient,
    ResizeBilinear: resizeBilinear,
    ResizeBilinearGrad: lowerResizeGradient(bilinearWeights),
    ResizeNearestNeighbor: resizeNearest,
    ResizeNearestNeighborGrad: lowerResizeGradient(nearestWeights),
  },
}
