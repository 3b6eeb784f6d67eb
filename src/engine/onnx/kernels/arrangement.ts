import { tf } from '../../../tf.ts'
import type { Numbers } from '../../recording/record.ts'
import { sizeOf } from '../../recording/shape.ts'
import type { Trace } from '../../recording/trace.ts'
import type { KernelGroup, Lowering } from '../kernel.ts'

/** Below any place: a slice with a negative step runs up to the first element. */
const beforeAll = -(2 ** 31)

const transpose: Trace = ({ x }, attributes, tracer) => {
  const perm = attributes.perm as number[]
  if (perm.every((axis, i) => axis === i)) return tracer.view(x!, x!.shape)
  const shape = perm.map((axis) => x!.shape[axis]!)
  // Nothing moves where only sides of 1 do.
  const moving = perm.filter((axis) => x!.shape[axis] !== 1)
  if (moving.every((axis, i) => i === 0 || axis > moving[i - 1]!)) return tracer.view(x!, shape)
  return tracer.operation('Transpose', [x!], [{ shape, dtype: x!.dtype }], { perm })
}

const lowerTranspose: Lowering = (operation, graph) => {
  const { perm } = operation.attributes as { perm: number[] }
  graph.result(operation, graph.transpose(graph.plain(operation, 0), perm))
}

/** Where rows of known numbers are wanted, they are shared: a loop over the rows of a data set is one graph. */
const slice: Trace = ({ x }, attributes, tracer) => {
  const { begin, size } = attributes as { begin: number | number[]; size: number | number[] }
  const [from, shape] = tf.slice_util.parseSliceParams(x!, begin, size) as [number[], number[]]
  tf.slice_util.assertParamsValid(x!, from, shape)
  const numbers: Numbers | undefined = tracer.numbers(x!)
  if (numbers && tf.slice_util.isSliceContinous(x!.shape, from, shape)) {
    const at = tf.slice_util.computeFlatOffset(from, tf.util.computeStrides(x!.shape))
    // A vector has no stride.
    const start = x!.shape.length === 1 ? from[0]! : at
    return tracer.leaf(numbers.subarray(start, start + sizeOf(shape)), shape, x!.dtype)
  }
  return tracer.operation('Slice', [x!], [{ shape, dtype: x!.dtype }], { from })
}

const lowerSlice: Lowering = (operation, graph) => {
  const { from } = operation.attributes as { from: number[] }
  const { shape } = operation.outputs[0]!
  const ends = from.map((place, i) => place + shape[i]!)
  graph.result(operation, graph.emit('Slice', [graph.plain(operation, 0), graph.integers(from), graph.integers(ends)]))
}

const concat: Trace = (inputs, attributes, tracer) => {
  const parts = Object.values(inputs)
  const axis = tf.util.parseAxisParam(attributes.axis as number, parts[0]!.shape)[0]!
  const shapes = parts.map((part) => part.shape)
  tf.backend_util.assertParamsConsistent(shapes, axis)
  const shape = tf.backend_util.computeOutShape(shapes, axis)
  const filled = parts.filter((part) => sizeOf(part.shape) > 0)
  if (filled.length === 1) return tracer.view(filled[0]!, filled[0]!.shape)
  const operands = filled.length > 0 ? filled : parts
  return tracer.operation('Concat', operands, [{ shape, dtype: parts[0]!.dtype }], { axis })
}

const lowerConcat: Lowering = (operation, graph) => {
  const { axis } = operation.attributes as { axis: number }
  const names = operation.inputs.map((_, i) => graph.plain(operation, i))
  graph.result(operation, graph.emit('Concat', names, { axis }))
}

const pack: Trace = (inputs, attributes, tracer) => {
  const parts = Object.values(inputs)
  const axis = (attributes.axis as number) + ((attributes.axis as number) < 0 ? parts[0]!.shape.length + 1 : 0)
  const shape = [...parts[0]!.shape]
  shape.splice(axis, 0, 1)
  const seen = parts.map((part) => ({ ...part, shape }))
  return concat(Object.fromEntries(seen.entries()), { axis }, tracer)
}

const tile: Trace = ({ x }, attributes, tracer) => {
  const reps = attributes.reps as number[]
  if (reps.every((count) => count === 1)) return tracer.view(x!, x!.shape)
  const shape = x!.shape.map((side, i) => side * reps[i]!)
  return tracer.operation('Tile', [x!], [{ shape, dtype: x!.dtype }], { reps })
}

const lowerTile: Lowering = (operation, graph) => {
  const { reps } = operation.attributes as { reps: number[] }
  graph.result(operation, graph.emit('Tile', [graph.plain(operation, 0), graph.integers(reps)]))
}

/** A slice along one axis for each part. */
const splitV: Trace = ({ x }, attributes, tracer) => {
  const axis = tf.util.parseAxisParam(attributes.axis as number, x!.shape)[0]!
  const sizes = tf.backend_util.prepareSplitSize(x as tf.Tensor, attributes.numOrSizeSplits as number[], axis)
  const begin = x!.shape.map(() => 0)
  return sizes.map((side) => {
    const size = x!.shape.with(axis, side)
    const part = slice({ x: x! }, { begin: [...begin], size }, tracer)
    begin[axis] = begin[axis]! + side
    return Array.isArray(part) ? part[0]! : part!
  })
}

const unpack: Trace = ({ value }, attributes, tracer) => {
  const axis = tf.util.parseAxisParam(attributes.axis as number, value!.shape)[0]!
  const parts = splitV({ x: value! }, { axis, numOrSizeSplits: value!.shape[axis]! }, tracer) as tf.TensorInfo[]
  const shape = value!.shape.toSpliced(axis, 1)
  return parts.map((part) => ({ ...part, shape }))
}

const reverse: Trace = ({ x }, attributes, tracer) => {
  const axes = tf.util.parseAxisParam(attributes.dims as number[], x!.shape).filter((axis) => x!.shape[axis]! > 1)
  if (axes.length === 0) return tracer.view(x!, x!.shape)
  return tracer.operation('Reverse', [x!], [{ shape: x!.shape, dtype: x!.dtype }], { axes })
}

const lowerReverse: Lowering = (operation, graph) => {
  const { axes } = operation.attributes as { axes: number[] }
  const all = (value: number) => graph.integers(axes.map(() => value))
  const inputs = [graph.plain(operation, 0), all(-1), all(beforeAll), graph.integers(axes), all(-1)]
  graph.result(operation, graph.emit('Slice', inputs))
}

const stridedSlice: Trace = ({ x }, attributes, tracer) => {
  const { begin, end, strides, beginMask, endMask, ellipsisMask, newAxisMask, shrinkAxisMask } = attributes as {
    begin: number[]
    end: number[]
    strides: number[]
  } & Record<string, number>
  const info = tf.slice_util.sliceInfo(
    x!.shape,
    begin,
    end,
    strides,
    beginMask!,
    endMask!,
    ellipsisMask!,
    newAxisMask!,
    shrinkAxisMask!,
  )
  if (info.isIdentity) return tracer.view(x!, info.finalShape)
  const plan = { from: info.begin, to: info.end, steps: info.strides }
  return tracer.operation('StridedSlice', [x!], [{ shape: info.finalShape, dtype: x!.dtype }], plan)
}

const lowerStridedSlice: Lowering = (operation, graph) => {
  const { from, to, steps } = operation.attributes as { from: number[]; to: number[]; steps: number[] }
  const ends = to.map((end, i) => (steps[i]! < 0 && end < 0 ? beforeAll : end))
  const axes = from.map((_, axis) => axis)
  const places = [from, ends, axes, steps].map((values) => graph.integers(values))
  const made = graph.emit('Slice', [graph.plain(operation, 0), ...places])
  graph.result(operation, graph.reshape(made, operation.outputs[0]!.shape))
}

export const arrangement: KernelGroup = {
  traces: {
    Concat: concat,
    FlipLeftRight: ({ image }, _, tracer) => reverse({ x: image! }, { dims: [2] }, tracer),
    Pack: pack,
    Reverse: reverse,
    Slice: slice,
    SplitV: splitV,
    StridedSlice: stridedSlice,
    Tile: tile,
    Transpose: transpose,
    Unpack: unpack,
  },
  lowerings: {
    Concat: lowerConcat,
    Reverse: lowerReverse,
    Slice: lowerSlice,
    StridedSlice: lowerStridedSlice,
    Tile: lowerTile,
    Transpose: lowerTranspose,
  },
}
