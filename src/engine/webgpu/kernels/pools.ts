import { type Lowering, shaped } from '../../graph/maps.ts'
import type { Node, Nodes } from '../../graph/node.ts'
import type { Pooling } from '../../onnx/kernels/pooling.ts'
import { sizeOf } from '../../recording/shape.ts'
import type { Scratch } from '../shader.ts'
import { eachShader, special, type Width, widthFor } from './each.ts'

/** Images [n, h, w, c] and what they are pooled to. */
interface Sides {
  width: Width
  images: readonly number[]
  pooled: readonly number[]
  /** Of elements. */
  channels: number
}

function sidesOf(images: readonly number[], pooled: readonly number[]): Sides {
  const width = widthFor(images[3]!)
  return { width, images, pooled, channels: images[3]! / width.lanes }
}

type Names = readonly [row: string, column: string]

/** The image `n`, row, column and channel `c` of element `i`. */
function split(channels: number, [, height, wide]: readonly number[], [row, column]: Names): string {
  return `let c = i % ${channels}u;
let at = i / ${channels}u;
let ${column} = i32(at % ${wide}u);
let ${row} = i32(at / ${wide}u % ${height}u);
let n = i32(at / ${height! * wide!}u);`
}

const element = (name: string, { channels }: Sides, [, height, wide]: readonly number[], [row, column]: Names) =>
  `${name}[u32((n * ${height} + ${row}) * ${wide} + ${column}) * ${channels}u + c]`

const cell: Names = ['row', 'column']
const place: Names = ['r', 'q']

/** Statements for each cell of the window at place (r, q) that is in the images, by names for its row and column; `k` is its number. */
function overWindow({ images, pooled }: Sides, pooling: Pooling, [row, column]: Names, work: string): string {
  const { kernel, strides, pads } = pooling
  const axes = [0, 1] as const
  const inside = axes.every(
    (axis) => pads[axis] === 0 && (pooled[axis + 1]! - 1) * strides[axis] + kernel[axis] <= images[axis + 1]!,
  )
  const check = `if (${row} < 0 || ${row} >= ${images[1]} || ${column} < 0 || ${column} >= ${images[2]}) { continue; }`
  return `for (var k = 0; k < ${kernel[0] * kernel[1]}; k++) {
let ${row} = r * ${strides[0]} - ${pads[0]} + k / ${kernel[1]};
let ${column} = q * ${strides[1]} - ${pads[1]} + k % ${kernel[1]};
${inside ? '' : check}
${work}
}`
}

/** How many cells of the window at place (r, q) are in the images. */
function insideOf({ images }: Sides, { kernel, strides, pads }: Pooling, r: string, q: string): string {
  const along = (axis: 0 | 1, place: string) => {
    const first = `${place} * ${strides[axis]} - ${pads[axis]}`
    return `(min(${first} + ${kernel[axis]}, ${images[axis + 1]}) - max(${first}, 0))`
  }
  return `f32(${along(0, r)} * ${along(1, q)})`
}

function maxPool(nodes: Nodes, x: Node, pooling: Pooling, shape: readonly number[]): Node {
  const sides = sidesOf(x.shape, shape)
  const { width, channels } = sides
  return nodes.special(
    shape,
    'float32',
    special('max pool', [x], (self, work) => {
      const better = `let v = ${element('x', sides, x.shape, cell)};\nbest = select(best, v, v > best);`
      const code = `${split(channels, shape, place)}
var best = ${width.float}(bits(0xff800000u));
${overWindow(sides, pooling, cell, better)}
y[i] = best;`
      const bound = [
        { name: 'x', of: x, element: width.float },
        { name: 'y', of: self, element: width.float, writes: true },
      ]
      return [eachShader(work(bound), sizeOf(shape) / width.lanes, code)]
    }),
  )
}

function averagePool(nodes: Nodes, x: Node, pooling: Pooling, shape: readonly number[]): Node {
  const sides = sidesOf(x.shape, shape)
  const { width, channels } = sides
  return nodes.special(
    shape,
    'float32',
    special('average pool', [x], (self, work) => {
      const code = `${split(channels, shape, place)}
var sum = ${width.float}(0f);
${overWindow(sides, pooling, cell, `sum += ${element('x', sides, x.shape, cell)};`)}
y[i] = sum / ${insideOf(sides, pooling, 'r', 'q')};`
      const bound = [
        { name: 'x', of: x, element: width.float },
        { name: 'y', of: self, element: width.float, writes: true },
      ]
      return [eachShader(work(bound), sizeOf(shape) / width.lanes, code)]
    }),
  )
}

/** The number in its window of the first largest cell, as `largest`, of the window at place (r, q). */
function largestCell(sides: Sides, pooling: Pooling, names: Names): string {
  const { float, whole } = sides.width
  const better = `let v = ${element('x', sides, sides.images, names)};
let is = v > best;
best = select(best, v, is);
largest = select(largest, ${whole}(k), is);`
  return `var best = ${float}(bits(0xff800000u));
var largest = ${whole}(-1);
${overWindow(sides, pooling, names, better)}`
}

/** Where in a window at place (r, q) the cell is, along one side. */
const within = ({ strides, pads }: Pooling, axis: 0 | 1) =>
  `(${cell[axis]} + ${pads[axis]} - ${place[axis]} * ${strides[axis]})`

/** Statements for each window, at place (r, q), that has the cell at `row` and `column`. */
function overWindows({ pooled }: Sides, pooling: Pooling, work: string): string {
  const { kernel, strides, pads } = pooling
  const range = (axis: 0 | 1) => {
    const [name, of] = [place[axis], cell[axis]]
    const last = `(${of} + ${pads[axis]}) / ${strides[axis]}`
    const first = `(${of} + ${pads[axis] - kernel[axis] + strides[axis]}) / ${strides[axis]}`
    return `for (var ${name} = max(${first}, 0); ${name} <= min(${last}, ${pooled[axis + 1]! - 1}); ${name}++) {
if (${within(pooling, axis)} >= ${kernel[axis]}) { continue; }`
  }
  return `${range(0)}\n${range(1)}\n${work}\n}\n}`
}

/** Each gradient goes to the first largest cell of its window. */
function maxPoolGradient(nodes: Nodes, dy: Node, x: Node, pooling: Pooling): Node {
  const { kernel, strides } = pooling
  // Where windows do not overlap, each cell finds out by itself whether it is the largest of its one.
  const overlap = kernel[0] > strides[0] || kernel[1] > strides[1]
  const sides = sidesOf(x.shape, dy.shape)
  const { float, whole, lanes } = sides.width
  const made = special('max pool gradient', [dy, x], (self, work) => {
    const images = { name: 'x', of: x, element: float }
    const gradient = { name: 'dy', of: dy, element: float }
    const result = { name: 'y', of: self, element: float, writes: true }
    const { where } = made.finish!
    const found = overlap
      ? `let largest = ${element('places', sides, dy.shape, place)};`
      : largestCell(sides, pooling, ['otherRow', 'otherColumn'])
    const gather = `${split(sides.channels, x.shape, cell)}
var sum = ${float}(0f);
${overWindows(
  sides,
  pooling,
  `${found}
let is = largest == ${whole}(${within(pooling, 0)} * ${kernel[1]} + ${within(pooling, 1)});
sum += select(${float}(0f), ${element('dy', sides, dy.shape, place)}, is);`,
)}
y[i] = ${where ? `select(${float}(0f), sum, x[i] > ${float}(0f))` : 'sum'};`
    const count = sizeOf(x.shape) / lanes
    if (!overlap) return [eachShader(work([gradient, images, result]), count, gather)]
    const size = sizeOf(dy.shape)
    const of: Scratch = { scratch: `places of ${self.number}`, bytes: 4 * size }
    const places = { name: 'places', of, element: whole }
    const find = `${split(sides.channels, dy.shape, place)}
${largestCell(sides, pooling, cell)}
places[i] = largest;`
    return [
      eachShader(work([images, { ...places, writes: true }]), size / lanes, find),
      eachShader(work([gradient, places, ...(where ? [images] : []), result]), count, gather),
    ]
  })
  made.finish = {}
  return nodes.special(x.shape, 'float32', made)
}

/** Every cell of a window gets the same share: one over how many cells of it lie inside the images. */
function averagePoolGradient(nodes: Nodes, dy: Node, pooling: Pooling, shape: readonly number[]): Node {
  const sides = sidesOf(shape, dy.shape)
  const { width, channels } = sides
  return nodes.special(
    shape,
    'float32',
    special('average pool gradient', [dy], (self, work) => {
      const share = `${element('dy', sides, dy.shape, place)} / ${insideOf(sides, pooling, 'r', 'q')}`
      const code = `${split(channels, shape, cell)}
var sum = ${width.float}(0f);
${overWindows(sides, pooling, `sum += ${share};`)}
y[i] = sum;`
      const bound = [
        { name: 'dy', of: dy, element: width.float },
        { name: 'y', of: self, element: width.float, writes: true },
      ]
      return [eachShader(work(bound), sizeOf(shape) / width.lanes, code)]
    }),
  )
}

const poolingOf = ({ attributes }: Parameters<Lowering>[0]) => attributes as unknown as Pooling

export const pools: Readonly<Record<string, Lowering>> = {
  AvgPool: (operation, nodes, find) =>
    averagePool(nodes, shaped(operation, 0, nodes, find), poolingOf(operation), operation.outputs[0]!.shape),
  AvgPoolGrad: (operation, nodes, find) =>
    averagePoolGradient(nodes, shaped(operation, 0, nodes, find), poolingOf(operation), operation.outputs[0]!.shape),
  MaxPool: (operation, nodes, find) =>
    maxPool(nodes, shaped(operation, 0, nodes, find), poolingOf(operation), operation.outputs[0]!.shape),
  MaxPoolGrad: (operation, nodes, find) =>
    maxPoolGradient(nodes, shaped(operation, 0, nodes, find), shaped(operation, 1, nodes, find), poolingOf(operation)),
}
