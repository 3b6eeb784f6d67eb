import { cast, castNode, type Lowering } from '../../graph/maps.ts'
import { type Node, type Nodes, whole } from '../../graph/node.ts'
import { sizeOf } from '../../recording/shape.ts'
import type { Bound, Scratch, Shader } from '../shader.ts'
import { eachShader, elementOf, groupShader, invocations, special, type Work } from './each.ts'
import { flatPlaces, placesOf } from './gathering.ts'

interface Sides {
  rows: number
  width: number
  segments: number
}

type Job = (bound: readonly Bound[]) => Work

/** What the ways of summing are given. */
interface Summing extends Sides {
  self: Node
  x: Node
  ids: Node
  work: Job
}

/** Up to so many segments are summed in the memory of workgroups. */
const fewSegments = 4096
/** Up to so many rows each look through the ids of all. */
const fewRows = 4096

/** Segments whose sums a workgroup keeps at once, each in columns of its own invocations. */
const tileSegments = 48
const tileColumns = 64
/** So many workgroups keep a large card busy. */
const enoughGroups = 1024
const leastRows = 64

/**
 * Few segments: a workgroup goes through a part of the rows in order and adds what is of its segments, each invocation
 * in a column of its own; then the parts are added, in order too.
 */
function inTiles({ self, x, ids, work, rows, width, segments }: Summing): Shader[] {
  const element = elementOf(x)
  const columns = Math.ceil(width / tileColumns)
  const tiles = Math.ceil(segments / tileSegments)
  const most = Math.max(1, Math.floor(2 ** 24 / (segments * width)))
  const parts = Math.min(most, Math.ceil(enoughGroups / (columns * tiles)), Math.ceil(rows / leastRows))
  const share = Math.ceil(rows / parts)
  const size = segments * width
  const partial: Scratch = { scratch: `parts of ${self.number}`, bytes: 4 * size * parts }
  const target = parts > 1 ? partial : self
  const sum = `let part = number / ${columns * tiles}u;
let tile = number / ${columns}u % ${tiles}u;
let begin = tile * ${tileSegments}u;
let column = number % ${columns}u * ${tileColumns}u + own;
if (part >= ${parts}u || column >= ${width}u) { return; }
for (var s = 0u; s < ${tileSegments}u; s++) { sums[s * ${tileColumns}u + own] = ${element}(0); }
let end = min((part + 1u) * ${share}u, ${rows}u);
for (var row = part * ${share}u; row < end; row++) {
let id = u32(ids[row]) - begin;
if (id < ${tileSegments}u) { sums[id * ${tileColumns}u + own] += x[row * ${width}u + column]; }
}
for (var s = 0u; s < min(${tileSegments}u, ${segments}u - begin); s++) {
y[part * ${size}u + (begin + s) * ${width}u + column] = sums[s * ${tileColumns}u + own];
}`
  const bound: Bound[] = [
    { name: 'x', of: x, element },
    { name: 'ids', of: ids, element: 'i32' },
    { name: 'y', of: target, element, writes: true },
  ]
  const shared = `var<workgroup> sums: array<${element}, ${tileSegments * tileColumns}>;`
  const first = groupShader(work(bound), parts * columns * tiles, sum, shared, tileColumns)
  if (parts === 1) return [first]
  const together = `var sum = ${element}(0);
for (var part = 0u; part < ${parts}u; part++) { sum += parts[part * ${size}u + i]; }
y[i] = sum;`
  const rest: Bound[] = [
    { name: 'parts', of: partial, element },
    { name: 'y', of: self, element, writes: true },
  ]
  return [first, eachShader(work(rest), size, together)]
}

/** What follows each row of the same id: the number of the next, `rows` where there is none; and whether it is the first. */
interface Order {
  next: Scratch
  shaders: Shader[]
}

const firstBit = '0x80000000u'

/** Each row looks through the ids of all. */
function orderByLooking({ self, ids, work, rows }: Summing): Order {
  const next: Scratch = { scratch: `next of ${self.number}`, bytes: 4 * rows }
  const code = `let id = ids[i];
var first = ${firstBit};
for (var j = 0u; j < i; j++) { if (ids[j] == id) { first = 0u; break; } }
var j = i + 1u;
while (j < ${rows}u && ids[j] != id) { j++; }
next[i] = j | first;`
  const bound: Bound[] = [
    { name: 'ids', of: ids, element: 'i32' },
    { name: 'next', of: next, element: 'u32', writes: true },
  ]
  return { next, shaders: [eachShader(work(bound), rows, code)] }
}

/** The rows of each id are put in a list, in any order; then each looks through its list. */
function orderByLists({ self, ids, work, rows, segments }: Summing): Order {
  const heads: Scratch = { scratch: `heads of ${self.number}`, bytes: 4 * segments }
  const lists: Scratch = { scratch: `lists of ${self.number}`, bytes: 4 * rows }
  const next: Scratch = { scratch: `next of ${self.number}`, bytes: 4 * rows }
  const places: Bound = { name: 'ids', of: ids, element: 'i32' }
  const link = `let id = u32(ids[i]);
if (id < ${segments}u) { lists[i] = atomicExchange(&heads[id], i + 1u); }`
  const order = `let id = u32(ids[i]);
var first = ${firstBit};
var after = ${rows}u;
if (id < ${segments}u) {
for (var at = heads[id]; at != 0u; at = lists[at - 1u]) {
let j = at - 1u;
if (j < i) { first = 0u; } else if (j > i) { after = min(after, j); }
}
}
next[i] = after | first;`
  return {
    next,
    shaders: [
      eachShader(work([{ name: 'heads', of: heads, element: 'u32', writes: true }]), segments, 'heads[i] = 0u;'),
      eachShader(
        work([
          places,
          { name: 'heads', of: heads, element: 'atomic<u32>', writes: true },
          { name: 'lists', of: lists, element: 'u32', writes: true },
        ]),
        rows,
        link,
      ),
      eachShader(
        work([
          places,
          { name: 'heads', of: heads, element: 'u32' },
          { name: 'lists', of: lists, element: 'u32' },
          { name: 'next', of: next, element: 'u32', writes: true },
        ]),
        rows,
        order,
      ),
    ],
  }
}

/** Many segments, most of which no row has: the first row of each id sums those that follow it, in order. */
function byFirstRows(summing: Summing): Shader[] {
  const { self, x, ids, work, rows, width, segments } = summing
  const element = elementOf(x)
  const { next, shaders } = rows <= fewRows ? orderByLooking(summing) : orderByLists(summing)
  const result: Bound = { name: 'y', of: self, element, writes: true }
  const code = `let row = i / ${width}u;
let column = i % ${width}u;
var at = next[row];
let id = u32(ids[row]);
if ((at & ${firstBit}) == 0u || id >= ${segments}u) { return; }
var sum = x[i];
at &= ~${firstBit};
while (at < ${rows}u) {
sum += x[at * ${width}u + column];
at = next[at] & ~${firstBit};
}
y[id * ${width}u + column] = sum;`
  const bound: Bound[] = [
    { name: 'x', of: x, element },
    { name: 'ids', of: ids, element: 'i32' },
    { name: 'next', of: next, element: 'u32' },
    result,
  ]
  return [
    ...shaders,
    eachShader(work([result]), segments * width, `y[i] = ${element}(0);`),
    eachShader(work(bound), rows * width, code),
  ]
}

/** Rows x [rows, width] summed by their ids, in the order of rows: [segments, width]. Ids out of range count nowhere. */
export function segmentSum(nodes: Nodes, x: Node, ids: Node, sides: Sides): Node {
  const { segments, width, rows } = sides
  const few = segments <= fewSegments && (rows > fewRows || segments <= invocations)
  const own = special('segment sum', [x, ids], (self, work) => {
    const summing = { ...sides, self, x, ids, work }
    return few ? inTiles(summing) : byFirstRows(summing)
  })
  return nodes.special([segments, width], x.dtype, own)
}

const sumSegments: Lowering = (operation, nodes, find) => {
  const [rows, width] = operation.shapes[0] as [number, number]
  const { shape, dtype } = operation.outputs[0]!
  const x = find(operation.inputs[0]!)
  const within = dtype === 'float32' ? 'float32' : 'int32'
  const numbers = cast(nodes, whole(x, [rows, width]), [rows, width], within).node
  const ids = placesOf(operation, 1, nodes, find)
  return castNode(nodes, segmentSum(nodes, numbers, ids, { rows, width, segments: sizeOf(shape) / width }), dtype)
}

/** Rows x [n, d] summed at places [n, rank] of a tensor of zeros. */
const scatterNd: Lowering = (operation, nodes, find) => {
  const [[rows, width], [, rank]] = operation.shapes as [[number, number], [number, number]]
  const { shape, dtype } = operation.outputs[0]!
  const x = find(operation.inputs[0]!)
  const within = dtype === 'float32' ? 'float32' : 'int32'
  const numbers = cast(nodes, whole(x, [rows, width]), [rows, width], within).node
  const ids = flatPlaces(nodes, placesOf(operation, 1, nodes, find), rows, shape.slice(0, rank))
  return castNode(nodes, segmentSum(nodes, numbers, ids, { rows, width, segments: sizeOf(shape) / width }), dtype)
}

/** Operations that sum what goes to the same place, by kind. */
export const segments: Readonly<Record<string, Lowering>> = {
  ScatterNd: scatterNd,
  SegmentSum: sumSegments,
}
