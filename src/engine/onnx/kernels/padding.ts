import { tf } from '../../../tf.ts'
import type { Dtype } from '../../recording/record.ts'
import { sizeOf } from '../../recording/shape.ts'
import type { Trace } from '../../recording/trace.ts'
import type { KernelGroup, Lowering } from '../kernel.ts'
import { arrangement } from './arrangement.ts'
import { compose } from './composition.ts'
import { view } from './views.ts'

type Pairs = readonly (readonly [before: number, after: number])[]

const arrays = { float32: Float32Array, int32: Int32Array, bool: Uint8Array }

const grown = (shape: readonly number[], paddings: Pairs) =>
  shape.map((side, i) => side + paddings[i]![0] + paddings[i]![1])

/** The number around is an input where it is not 0, so that another one needs no other graph. */
export const pad: Trace = ({ x }, attributes, tracer) => {
  const { paddings, constantValue } = attributes as { paddings: Pairs; constantValue: number }
  if (paddings.every(([before, after]) => before === 0 && after === 0)) return tracer.view(x!, x!.shape)
  const dtype = x!.dtype as Dtype
  const shape = grown(x!.shape, paddings)
  if (sizeOf(x!.shape) === 0) return tracer.leaf(new arrays[dtype](sizeOf(shape)).fill(constantValue), shape, dtype)
  if (!constantValue) return tracer.operation('PadV2', [x!], [{ shape, dtype }], { paddings })
  const around = tracer.leaf(arrays[dtype].of(constantValue), [], dtype)
  const made = tracer.operation('PadV2', [x!, around], [{ shape, dtype }], { paddings })
  tracer.release(around)
  return made
}

const lowerPad: Lowering = (operation, graph) => {
  const { paddings } = operation.attributes as unknown as { paddings: Pairs }
  const sides = graph.integers([...paddings.map(([before]) => before), ...paddings.map(([, after]) => after)])
  const around = operation.inputs.length > 1 ? [graph.plain(operation, 1)] : []
  graph.result(operation, graph.emit('Pad', [graph.plain(operation, 0), sides, ...around]))
}

const mirrorPad: Trace = ({ x }, attributes, tracer) => {
  const { paddings, mode } = attributes as unknown as { paddings: Pairs; mode: 'reflect' | 'symmetric' }
  const output = { shape: grown(x!.shape, paddings), dtype: x!.dtype }
  return tracer.operation('MirrorPad', [x!], [output], { paddings, mode })
}

/** Picks along each axis; ONNX has no mirroring that repeats the border. */
const lowerMirrorPad: Lowering = (operation, graph) => {
  const { paddings, mode } = operation.attributes as unknown as { paddings: Pairs; mode: 'reflect' | 'symmetric' }
  const repeat = mode === 'reflect' ? 0 : 1
  let name = graph.plain(operation, 0)
  for (const [axis, [before, after]] of paddings.entries()) {
    if (before === 0 && after === 0) continue
    const side = operation.shapes[0]![axis]!
    const places = Array.from({ length: before + side + after }, (_, i) => {
      const place = i - before
      if (place < 0) return -place - repeat
      return place < side ? place : 2 * (side - 1) - place + repeat
    })
    name = graph.emit('Gather', [name, graph.integers(places)], { axis })
  }
  graph.result(operation, name)
}

const { getReshaped, getPermuted, getReshapedPermuted, getSliceBeginCoords, getSliceSize } = tf.backend_util

const spaceToBatch: Trace = ({ x }, attributes, tracer) => {
  const { blockShape, paddings } = attributes as { blockShape: number[]; paddings: number[][] }
  const size = sizeOf(blockShape)
  const rest = x!.shape.slice(1 + blockShape.length).map(() => [0, 0])
  return compose(tracer, (call) => {
    const padded = call(pad, { x: x! }, { paddings: [[0, 0], ...paddings, ...rest], constantValue: 0 })
    const shape = getReshaped(padded.shape, blockShape, size, false)
    const parted = call(view.traces.Reshape!, { x: padded }, { shape })
    const perm = getPermuted(shape.length, blockShape.length, false)
    const moved = call(arrangement.traces.Transpose!, { x: parted }, { perm })
    return call(
      view.traces.Reshape!,
      { x: moved },
      { shape: getReshapedPermuted(padded.shape, blockShape, size, false) },
    )
  })
}

const batchToSpace: Trace = ({ x }, attributes, tracer) => {
  const { blockShape, crops } = attributes as { blockShape: number[]; crops: number[][] }
  const size = sizeOf(blockShape)
  return compose(tracer, (call) => {
    const parted = call(view.traces.Reshape!, { x: x! }, { shape: getReshaped(x!.shape, blockShape, size) })
    const perm = getPermuted(parted.shape.length, blockShape.length)
    const moved = call(arrangement.traces.Transpose!, { x: parted }, { perm })
    const shape = getReshapedPermuted(x!.shape, blockShape, size)
    const whole = call(view.traces.Reshape!, { x: moved }, { shape })
    const begin = getSliceBeginCoords(crops, blockShape.length)
    return call(arrangement.traces.Slice!, { x: whole }, { begin, size: getSliceSize(shape, crops, blockShape.length) })
  })
}

/** Depth [n, h, w, b b d] to images [n, h b, w b, d]. */
const depthToSpace: Trace = ({ x }, attributes, tracer) => {
  if (attributes.dataFormat !== 'NHWC') return undefined
  const b = attributes.blockSize as number
  const [n, height, width, depth] = x!.shape as [number, number, number, number]
  const left = depth / (b * b)
  return compose(tracer, (call) => {
    const parted = call(view.traces.Reshape!, { x: x! }, { shape: [n, height, width, b, b, left] })
    const moved = call(arrangement.traces.Transpose!, { x: parted }, { perm: [0, 1, 3, 2, 4, 5] })
    return call(view.traces.Reshape!, { x: moved }, { shape: [n, height * b, width * b, left] })
  })
}

export const padding: KernelGroup = {
  traces: {
    BatchToSpaceND: batchToSpace,
    DepthToSpace: depthToSpace,
    MirrorPad: mirrorPad,
    PadV2: pad,
    SpaceToBatchND: spaceToBatch,
  },
  lowerings: { MirrorPad: lowerMirrorPad, PadV2: lowerPad },
}
