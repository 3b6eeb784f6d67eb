import { cast, type Lowering } from '../../graph/maps.ts'
import { type Node, type Nodes, whole } from '../../graph/node.ts'
import { between, nearest, type Resizing, type Source } from '../../onnx/kernels/resizing.ts'
import type { Operation } from '../../recording/record.ts'
import { sizeOf } from '../../recording/shape.ts'
import type { Bound } from '../shader.ts'
import { eachShader, elementOf, special, type Width, widthFor } from './each.ts'

type Quad = readonly [images: number, height: number, width: number, channels: number]

const wordsOf = (numbers: readonly number[]) => [...new Int32Array(Float32Array.from(numbers).buffer)]

/** Nearest neighbours as two of which the second has no share. */
const alone = (places: number[]): Source => ({ first: places, second: places, share: places.map(() => 0) })

const resizingOf = ({ attributes }: Operation) => attributes as unknown as Resizing

/** For each row, then each column: its first neighbour, its second one, and the share of that. */
function neighbourTable(nodes: Nodes, axes: readonly Source[]): Node {
  const words = axes.flatMap(({ first, second, share }) => [...first, ...second, ...wordsOf(share)])
  return nodes.table(words, 'int32')
}

/** The image, row, column and channel of element `i`. */
const split = (width: Width, [, height, wide, channels]: Quad) => `let c = i % ${channels / width.lanes}u;
let at = i / ${channels / width.lanes}u;
let column = at % ${wide}u;
let row = at / ${wide}u % ${height}u;
let n = at / ${wide * height}u;`

/** Images in another size, each pixel between two rows and two columns, or the nearest. */
function resize(nodes: Nodes, x: Node, from: Quad, to: Quad, sources: readonly [Source, Source], mixes: boolean): Node {
  const width = widthFor(to[3])
  const channels = to[3] / width.lanes
  const element = elementOf(x, width)
  const table = neighbourTable(nodes, sources)
  const [high, wide] = [to[1], to[2]]
  const read = (row: string, column: string) =>
    `x[((n * ${from[1]}u + u32(${row})) * ${from[2]}u + u32(${column})) * ${channels}u + c]`
  const between = `let bottom = t[row + ${high}u];
let right = t[column + ${3 * high + wide}u];
let down = bitcast<f32>(t[row + ${2 * high}u]);
let across = bitcast<f32>(t[column + ${3 * high + 2 * wide}u]);
let a = ${read('top', 'left')};
let b = ${read('bottom', 'left')};
let upper = a + (${read('top', 'right')} - a) * across;
let lower = b + (${read('bottom', 'right')} - b) * across;
y[i] = upper + (lower - upper) * down;`
  const own = special('resize', [x, table], (self, work) => {
    const code = `${split(width, to)}
let top = t[row];
let left = t[column + ${3 * high}u];
${mixes ? between : `y[i] = ${read('top', 'left')};`}`
    const bound: Bound[] = [
      { name: 'x', of: x, element },
      { name: 't', of: table, element: 'i32' },
      { name: 'y', of: self, element, writes: true },
    ]
    return [eachShader(work(bound), sizeOf(to) / width.lanes, code)]
  })
  return nodes.special(to, x.dtype, own)
}

/** For each place of the small side which of the resized one it gave to, and how much: where the list begins, then lists. */
function receivers({ first, second, share }: Source, from: number): { words: number[]; length: number } {
  const lists = Array.from({ length: from }, () => new Map<number, number>())
  for (const [j, place] of first.entries()) {
    const give = (to: number, part: number) => {
      if (part !== 0) lists[to]!.set(j, (lists[to]!.get(j) ?? 0) + part)
    }
    give(place, 1 - share[j]!)
    give(second[j]!, share[j]!)
  }
  let at = from + 1
  const begins = lists.map((list) => {
    const begin = at
    at += 2 * list.size
    return begin
  })
  const entries = lists.flatMap((list) => [...list].flatMap(([j, part]) => [j, ...wordsOf([part])]))
  return { words: [...begins, at, ...entries], length: at }
}

/** dy back to where it came from: each pixel of the small images gathers what it gave. */
function resizeGradient(nodes: Nodes, dy: Node, from: Quad, to: Quad, sources: readonly [Source, Source]): Node {
  const width = widthFor(to[3])
  const channels = to[3] / width.lanes
  const rows = receivers(sources[0], to[1])
  const columns = receivers(sources[1], to[2])
  const table = nodes.table([...rows.words, ...columns.words], 'int32')
  const first = rows.length
  const own = special('resize gradient', [dy, table], (self, work) => {
    const code = `${split(width, to)}
var sum = ${width.float}(0f);
for (var r = t[row]; r < t[row + 1u]; r += 2) {
var line = ${width.float}(0f);
for (var q = t[${first}u + column]; q < t[${first}u + column + 1u]; q += 2) {
let place = (n * ${from[1]}u + u32(t[r])) * ${from[2]}u + u32(t[${first} + q]);
line += dy[place * ${channels}u + c] * bitcast<f32>(t[${first} + q + 1]);
}
sum += line * bitcast<f32>(t[r + 1]);
}
y[i] = sum;`
    const bound: Bound[] = [
      { name: 'dy', of: dy, element: width.float },
      { name: 't', of: table, element: 'i32' },
      { name: 'y', of: self, element: width.float, writes: true },
    ]
    return [eachShader(work(bound), sizeOf(to) / width.lanes, code)]
  })
  return nodes.special(to, 'float32', own)
}

type Seek = (from: number, to: number, resizing: Resizing) => Source

const bilinear: Seek = between
const closest: Seek = (from, to, resizing) => alone(nearest(from, to, resizing))

const lowerResize =
  (seek: Seek, mixes: boolean): Lowering =>
  (operation, nodes, find) => {
    const from = operation.shapes[0] as unknown as Quad
    const { shape, dtype } = operation.outputs[0]!
    const to = shape as unknown as Quad
    const resizing = resizingOf(operation)
    const x = cast(nodes, whole(find(operation.inputs[0]!), from), from, dtype).node
    const sources = [seek(from[1], to[1], resizing), seek(from[2], to[2], resizing)] as const
    return resize(nodes, x, from, to, sources, mixes)
  }

const lowerGradient =
  (seek: Seek): Lowering =>
  (operation, nodes, find) => {
    const from = operation.shapes[0] as unknown as Quad
    const to = operation.outputs[0]!.shape as unknown as Quad
    const resizing = { ...resizingOf(operation), halfPixelCenters: false }
    const sources = [seek(to[1], from[1], resizing), seek(to[2], from[2], resizing)] as const
    return resizeGradient(nodes, find(operation.inputs[0]!), from, to, sources)
  }

/** Operations that change the size of images, by kind. */
export const resizes: Readonly<Record<string, Lowering>> = {
  ResizeBilinear: lowerResize(bilinear, true),
  ResizeBilinearGrad: lowerGradient(bilinear),
  ResizeNearestNeighbor: lowerResize(closest, false),
  ResizeNearestNeighborGrad: lowerGradient(closest),
}
