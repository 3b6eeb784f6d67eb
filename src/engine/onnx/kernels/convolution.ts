import { tf } from '../../../tf.ts'
import type { Operation } from '../../recording/record.ts'
import { sizeOf } from '../../recording/shape.ts'
import type { Attributes, Trace, Tracer } from '../../recording/trace.ts'
import type { Attribute } from '../emitter.ts'
import type { Graph } from '../graph.ts'
import type { KernelGroup, Lowering } from '../kernel.ts'
import { assertWindows, type Layout, type Quad } from '../layout.ts'
import { filterGradient } from './filter-gradient.ts'

type Pair = readonly [number, number]

/** A convolution by its numbers; `pads` are top, left, bottom, right. Part of the structural key. */
export interface Window extends Attributes {
  kernel: Pair
  strides: Pair
  dilations: Pair
  pads: readonly [number, number, number, number]
}

function windowOf(image: readonly number[], filter: readonly number[], attributes: Attributes) {
  const { strides, pad, dilations, dimRoundingMode, dataFormat } = attributes as {
    strides: number | [number, number]
    pad: 'same' | 'valid' | number
    dilations?: number | [number, number]
    dimRoundingMode?: 'floor' | 'round' | 'ceil'
    dataFormat?: 'NHWC' | 'NCHW'
  }
  if (dataFormat === 'NCHW') throw new Error('convolutions here take images as [n, h, w, c]: transpose them first')
  const quad = image as [number, number, number, number]
  const shape = filter as [number, number, number, number]
  const info = tf.backend_util.computeConv2DInfo(quad, shape, strides, dilations ?? 1, pad, dimRoundingMode)
  const { top, left, bottom, right } = info.padInfo
  const window: Window = {
    kernel: [info.filterHeight, info.filterWidth],
    strides: [info.strideHeight, info.strideWidth],
    dilations: [info.dilationHeight, info.dilationWidth],
    pads: [top, left, bottom, right],
  }
  const reach = [info.effectiveFilterHeight, info.effectiveFilterWidth]
  const out = [info.outHeight, info.outWidth]
  assertWindows('conv2d', [info.inHeight, info.inWidth], reach, window.strides, window.pads, out)
  return { window, shape: info.outShape }
}

/** A window as the attributes of an ONNX convolution. */
function attributesOf({ kernel, strides, dilations, pads }: Window): Record<string, Attribute> {
  return { kernel_shape: kernel, strides, dilations, pads }
}

/** The filter [h, w, from, to] as the runtime's blocked convolutions want it. */
function blockedFilter(graph: Graph, name: string, [height, width, from, to]: Quad): string {
  const b = graph.blockSize
  const packed = from % b === 0
  const seen = [height, width, ...(packed ? [from / b, b] : [from]), to / b, b]
  const moved = graph.transpose(graph.reshape(name, seen), packed ? [4, 2, 0, 1, 3, 5] : [3, 2, 0, 1, 4])
  return graph.reshape(moved, [to, from, height, width])
}

/** A filter [h, w, from, to] turned by 180 degrees, to [h, w, to, from]. */
function turn(graph: Graph, filter: string): string {
  const lowest = -(2 ** 31)
  const places = [graph.integers([-1, -1]), graph.integers([lowest, lowest]), graph.integers([0, 1])]
  const turned = graph.emit('Slice', [filter, ...places, graph.integers([-1, -1])])
  // Alone this is fast; as part of a larger rearrangement it would not be.
  return graph.transpose(turned, [0, 1, 3, 2])
}

/** In which layout a convolution from `from` to `to` channels takes its images, where it can make blocks of them. */
function blockedInput(graph: Graph, from: number, to: number): Layout | undefined {
  const b = graph.blockSize
  if (b === 0 || to === 0 || to % b !== 0 || from === 0) return undefined
  if (from % b === 0) return 'blocks'
  return from < b ? 'planes' : undefined
}

/**
 * Images of few channels as they lie in tfjs are images of one channel whose rows are `channels` times as long: a
 * convolution over those takes steps and cells that are as much longer, and nothing has to be moved.
 */
function asOneChannel(operation: Operation, graph: Graph): string {
  const [n, height, width, channels] = operation.shapes[0] as unknown as Quad
  return graph.reshape(graph.plain(operation, 0), [n, 1, height, width * channels])
}

function widened({ kernel, strides, dilations, pads }: Window, channels: number): Window {
  const [top, left, bottom, right] = pads
  return {
    kernel: [kernel[0], kernel[1] * channels],
    strides: [strides[0], strides[1] * channels],
    dilations,
    pads: [top, left * channels, bottom, right * channels],
  }
}

/** A convolution of operand 0 with a filter of the shape [h, w, from, to] as operand 1. */
function convolve(operation: Operation, graph: Graph, window: Window, turned: boolean): void {
  const [high, broad, inner, outer] = operation.shapes[1] as unknown as Quad
  const [from, to] = turned ? [outer, inner] : [inner, outer]
  const filter = turned ? turn(graph, graph.plain(operation, 1)) : graph.plain(operation, 1)
  const layout = blockedInput(graph, from, to)
  if (layout) {
    const wide = !turned && layout === 'planes' && window.dilations[1] === 1
    const images = wide ? asOneChannel(operation, graph) : graph.arranged(operation, 0, layout)
    const seen: Quad = wide ? [high, broad * from, 1, to] : [high, broad, from, to]
    const blocked = blockedFilter(graph, wide ? graph.reshape(filter, seen) : filter, seen)
    const numbers = attributesOf(wide ? widened(window, from) : window)
    graph.remakeable(operation, ({ bias, relu = false }) => {
      const attributes = relu ? { ...numbers, activation: 'Relu' } : numbers
      return graph.emit('Conv', [images, blocked, ...(bias ? [bias] : [])], attributes, 'com.microsoft.nchwc')
    })
    return
  }
  const planes = graph.transpose(filter, [3, 2, 0, 1])
  const made = graph.emit('Conv', [graph.arranged(operation, 0, 'planes'), planes], attributesOf(window))
  graph.result(operation, made, 0, 'planes')
}

/** Of operands without numbers the runtime never returns, or the process dies: their convolution is known. */
function record(
  kind: string,
  operands: [tf.TensorInfo, tf.TensorInfo],
  shape: number[],
  window: Window,
  tracer: Tracer,
) {
  const empty = operands.some((operand) => sizeOf(operand.shape) === 0)
  if (empty) return tracer.leaf(new Float32Array(sizeOf(shape)), shape, 'float32')
  return tracer.operation(kind, operands, [{ shape, dtype: 'float32' }], window)
}

const conv2D: Trace = (inputs, attributes, tracer) => {
  const { x, filter } = inputs
  const { window, shape } = windowOf(x!.shape, filter!.shape, attributes)
  return record('Conv2D', [x!, filter!], shape, window, tracer)
}

const conv2DBackpropInput: Trace = (inputs, attributes, tracer) => {
  const { dy, filter } = inputs
  const shape = attributes.inputShape as number[]
  const { window } = windowOf(shape, filter!.shape, attributes)
  return record('Conv2DBackpropInput', [dy!, filter!], shape, window, tracer)
}

const conv2DBackpropFilter: Trace = (inputs, attributes, tracer) => {
  const { x, dy } = inputs
  const shape = attributes.filterShape as number[]
  const { window } = windowOf(x!.shape, shape, attributes)
  return record('Conv2DBackpropFilter', [x!, dy!], shape, window, tracer)
}

/**
 * At stride 1 a convolution of dy with the filter turned by 180 degrees, its channels swapped; else the runtime's
 * transposed convolution. ONNX grows the result by output_padding at the lower right, tfjs says how large it is.
 */
const inputGradient: Lowering = (operation, graph) => {
  const window = operation.attributes as Window
  const { kernel, strides, pads } = window
  const shape = operation.outputs[0]!.shape as unknown as Quad
  const [, outHeight, outWidth] = operation.shapes[0] as unknown as Quad
  const [top, left] = pads
  const before: Pair = [kernel[0] - 1 - top, kernel[1] - 1 - left]
  const after: Pair = [shape[1] - outHeight + top, shape[2] - outWidth + left]
  const plain = strides[0] === 1 && strides[1] === 1 && [...before, ...after].every((side) => side >= 0)
  // CUDA has the transposed convolution as fast as any other.
  if (plain && !graph.forCuda) {
    const around = { ...window, pads: [...before, ...after] as unknown as Window['pads'] }
    convolve(operation, graph, around, true)
    return
  }
  const reached = (axis: 0 | 1, out: number) => (out - 1) * strides[axis] + kernel[axis]
  const full: Pair = [reached(0, outHeight), reached(1, outWidth)]
  const filter = graph.transpose(graph.plain(operation, 1), [3, 2, 0, 1])
  const missing: Pair = [Math.max(0, shape[1] + top - full[0]), Math.max(0, shape[2] + left - full[1])]
  const cut: Pair = [full[0] + missing[0] - top - shape[1], full[1] + missing[1] - left - shape[2]]
  // What is cut on both sides is not computed at all.
  const even: Pair = graph.forCuda ? [Math.min(top, cut[0]), Math.min(left, cut[1])] : [0, 0]
  const made = graph.emit('ConvTranspose', [graph.arranged(operation, 0, 'planes'), filter], {
    kernel_shape: kernel,
    strides,
    dilations: [1, 1],
    pads: [...even, ...even],
  })
  const before8 = [even[0] - top, even[1] - left]
  const pads8 = [0, 0, ...before8, 0, 0, missing[0] - cut[0] + even[0], missing[1] - cut[1] + even[1]]
  const fitted = pads8.some((side) => side !== 0) ? graph.emit('Pad', [made, graph.integers(pads8)]) : made
  graph.result(operation, fitted, 0, 'planes')
}

const lowerConv2D: Lowering = (operation, graph) => convolve(operation, graph, operation.attributes as Window, false)

export const convolution: KernelGroup = {
  traces: {
    Conv2D: conv2D,
    Conv2DBackpropInput: conv2DBackpropInput,
    Conv2DBackpropFilter: conv2DBackpropFilter,
  },
  lowerings: {
    Conv2D: lowerConv2D,
    Conv2DBackpropInput: inputGradient,
    Conv2DBackpropFilter: filterGradient,
  },
}
