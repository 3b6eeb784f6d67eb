import { tf } from '../../tf.ts'
import type { NativeBackend, Setting } from './backend.ts'

type Convolution = ReturnType<typeof tf.backend_util.computeConv2DInfo>
type Pooling = ReturnType<typeof tf.backend_util.computePool2DInfo>
type Sides = [number, number]

/** A call of a kernel, with its backend. */
interface Call {
  inputs: tf.NamedTensorInfoMap
  attributes: Record<string, unknown>
  backend: Required<NativeBackend>
}

/** What a convolution and a pool have in common. */
type Window = Pick<Convolution, 'strideHeight' | 'strideWidth' | 'padInfo'>

const edges = ({ padInfo: { top, bottom, left, right } }: Window) => [0, 0, top, bottom, left, right, 0, 0]

/** Stride and padding of TensorFlow's operation. It knows numbers of cells as EXPLICIT only. */
function settingsOf(window: Window, dtype: tf.DataType, backend: Call['backend']): Setting[] {
  const { TF_ATTR_INT, TF_ATTR_STRING, TF_ATTR_TYPE } = backend.binding
  const given = window.padInfo.type === 'SAME' || window.padInfo.type === 'VALID'
  const none = edges(window).every((cells) => cells === 0)
  const padding = given ? window.padInfo.type : none ? 'VALID' : 'EXPLICIT'
  return [
    { name: 'T', type: TF_ATTR_TYPE, value: backend.getDTypeInteger(dtype) },
    { name: 'strides', type: TF_ATTR_INT, value: [1, window.strideHeight, window.strideWidth, 1] },
    { name: 'padding', type: TF_ATTR_STRING, value: padding },
    { name: 'data_format', type: TF_ATTR_STRING, value: 'NHWC' },
    ...(padding === 'EXPLICIT' ? [{ name: 'explicit_paddings', type: TF_ATTR_INT, value: edges(window) }] : []),
  ]
}

function convolutionOf(call: Call, shape: number[], filterShape: number[]): Convolution {
  const { strides, pad, dataFormat, dilations, dimRoundingMode } = call.attributes as {
    strides: Sides
    pad: 'same'
    dataFormat?: 'NHWC' | 'NCHW'
    dilations?: Sides
    dimRoundingMode?: 'floor'
  }
  if (dataFormat === 'NCHW') throw new Error("images are [n, h, w, c] here; 'NCHW' is not computed")
  return tf.backend_util.computeConv2DInfo(
    shape as never,
    filterShape as never,
    strides,
    dilations ?? 1,
    pad,
    dimRoundingMode,
  )
}

function convolve(operation: string, convolution: Convolution, call: Call, inputs: readonly tf.TensorInfo[]) {
  const { backend } = call
  return backend.executeSingleOutput(
    operation,
    [
      ...settingsOf(convolution, 'float32', backend),
      { name: 'use_cudnn_on_gpu', type: backend.binding.TF_ATTR_BOOL, value: true },
      {
        name: 'dilations',
        type: backend.binding.TF_ATTR_INT,
        value: [1, convolution.dilationHeight, convolution.dilationWidth, 1],
      },
    ],
    inputs,
  )
}

function conv2D(call: Call): tf.TensorInfo {
  const { x, filter } = call.inputs as { x: tf.TensorInfo; filter: tf.TensorInfo }
  return convolve('Conv2D', convolutionOf(call, x.shape, filter.shape), call, [x, filter])
}

/** The operations of both gradients take the shape of what they make as a tensor. */
function withShape<Result>(shape: readonly number[], use: (sizes: tf.Tensor) => Result): Result {
  const sizes = tf.tensor1d([...shape], 'int32')
  try {
    return use(sizes)
  } finally {
    sizes.dispose()
  }
}

function conv2DBackpropInput(call: Call): tf.TensorInfo {
  const { dy, filter } = call.inputs as { dy: tf.TensorInfo; filter: tf.TensorInfo }
  const shape = call.attributes.inputShape as number[]
  const convolution = convolutionOf(call, shape, filter.shape)
  return withShape(shape, (sizes) => convolve('Conv2DBackpropInput', convolution, call, [sizes, filter, dy]))
}

function conv2DBackpropFilter(call: Call): tf.TensorInfo {
  const { x, dy } = call.inputs as { x: tf.TensorInfo; dy: tf.TensorInfo }
  const shape = call.attributes.filterShape as number[]
  const convolution = convolutionOf(call, x.shape, shape)
  return withShape(shape, (sizes) => convolve('Conv2DBackpropFilter', convolution, call, [x, sizes, dy]))
}

function poolingOf({ attributes }: Call, shape: number[]): Pooling {
  const { filterSize, strides, pad, dimRoundingMode } = attributes as {
    filterSize: Sides
    strides: Sides
    pad: 'same'
    dimRoundingMode?: 'floor'
  }
  return tf.backend_util.computePool2DInfo(shape as never, filterSize, strides, 1, pad, dimRoundingMode)
}

function pool(operation: string, pooling: Pooling, { backend }: Call, inputs: readonly tf.TensorInfo[]): tf.Tensor {
  const size = [1, pooling.filterHeight, pooling.filterWidth, 1]
  const settings = [
    ...settingsOf(pooling, inputs.at(-1)!.dtype, backend),
    { name: 'ksize', type: backend.binding.TF_ATTR_INT, value: size },
  ]
  return backend.executeSingleOutput(operation, settings, inputs)
}

function maxPool(call: Call): tf.TensorInfo {
  const { x } = call.inputs as { x: tf.TensorInfo }
  return pool('MaxPool', poolingOf(call, x.shape), call, [x])
}

function maxPoolGrad(call: Call): tf.TensorInfo {
  const { input, output, dy } = call.inputs as Record<'input' | 'output' | 'dy', tf.TensorInfo>
  return pool('MaxPoolGrad', poolingOf(call, input.shape), call, [input, output, dy])
}

/** TensorFlow has no mean over windows with EXPLICIT padding: images are padded here, and the means corrected. */
interface Padded {
  paddings: [Sides, Sides, Sides, Sides]
  shape: number[]
  pooling: Pooling
  /** For each window all its cells by those that lie inside the images, [1, rows, columns, 1]. */
  correction: tf.Tensor
}

/** How many of the `size` cells of each window along a side lie inside it. */
function inside(windows: number, stride: number, size: number, before: number, side: number): number[] {
  return Array.from({ length: windows }, (_, window) => {
    const start = window * stride - before
    return Math.min(side, start + size) - Math.max(0, start)
  })
}

/** Undefined where TensorFlow's own operation does. */
function padded(pooling: Pooling): Padded | undefined {
  const { padInfo, filterHeight, filterWidth, strideHeight, strideWidth, outHeight, outWidth } = pooling
  const { batchSize, inHeight, inWidth, inChannels } = pooling
  if (padInfo.type === 'SAME' || edges(pooling).every((cells) => cells === 0)) return undefined
  const rows = inside(outHeight, strideHeight, filterHeight, padInfo.top, inHeight)
  const columns = inside(outWidth, strideWidth, filterWidth, padInfo.left, inWidth)
  const cells = filterHeight * filterWidth
  const shares = rows.flatMap((high) => columns.map((wide) => cells / (high * wide)))
  const vertical: Sides = [padInfo.top, padInfo.bottom]
  const horizontal: Sides = [padInfo.left, padInfo.right]
  const [height, width] = [inHeight + vertical[0] + vertical[1], inWidth + horizontal[0] + horizontal[1]]
  const shape = [batchSize, height, width, inChannels]
  const size: Sides = [filterHeight, filterWidth]
  return {
    paddings: [[0, 0], vertical, horizontal, [0, 0]],
    shape,
    pooling: tf.backend_util.computePool2DInfo(shape as never, size, [strideHeight, strideWidth], 1, 'valid'),
    correction: tf.tensor(shares, [1, outHeight, outWidth, 1]),
  }
}

function avgPool(call: Call): tf.TensorInfo {
  const { x } = call.inputs as { x: tf.TensorInfo }
  const pooling = poolingOf(call, x.shape)
  return tf.tidy(() => {
    const wide = padded(pooling)
    if (!wide) return pool('AvgPool', pooling, call, [x])
    return tf.mul(pool('AvgPool', wide.pooling, call, [tf.pad(x as tf.Tensor, wide.paddings)]), wide.correction)
  })
}

function avgPoolGrad(call: Call): tf.TensorInfo {
  const { input, dy } = call.inputs as { input: tf.TensorInfo; dy: tf.TensorInfo }
  const pooling = poolingOf(call, input.shape)
  const gradient = (shape: readonly number[], own: Pooling, from: tf.TensorInfo) =>
    withShape(shape, (sizes) => pool('AvgPoolGrad', own, call, [sizes, from]))
  return tf.tidy(() => {
    const wide = padded(pooling)
    if (!wide) return gradient(input.shape, pooling, dy)
    const all = gradient(wide.shape, wide.pooling, tf.mul(dy as tf.Tensor, wide.correction))
    const begin = wide.paddings.map(([before]) => before)
    return tf.slice(all, begin, input.shape)
  })
}

/** Kernels of the package that refuse paddings given as numbers of cells, which all nets of ours use. */
const kernels: Record<string, (call: Call) => tf.TensorInfo> = {
  Conv2D: conv2D,
  Conv2DBackpropInput: conv2DBackpropInput,
  Conv2DBackpropFilter: conv2DBackpropFilter,
  MaxPool: maxPool,
  MaxPoolGrad: maxPoolGrad,
  AvgPool: avgPool,
  AvgPoolGrad: avgPoolGrad,
}

/** Puts ours in the place of the package's. */
export function installWindows(): void {
  for (const [kernelName, kernel] of Object.entries(kernels)) {
    if (tf.getKernel(kernelName, 'tensorflow')) tf.unregisterKernel(kernelName, 'tensorflow')
    tf.registerKernel({
      kernelName,
      backendName: 'tensorflow',
      kernelFunc: ({ inputs, attrs, backend }) =>
        kernel({ inputs, attributes: attrs ?? {}, backend: backend as Call['backend'] }),
    })
  }
}
