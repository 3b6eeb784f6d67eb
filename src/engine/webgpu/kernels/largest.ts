import { cast, castNode, type Lowering } from '../../graph/maps.ts'
import { type Node, type Nodes, whole } from '../../graph/node.ts'
import { sizeOf } from '../../recording/shape.ts'
import type { Bound, Scratch } from '../shader.ts'
import { eachShader, elementOf, groupShader, invocations, special } from './each.ts'
import { gather } from './gathering.ts'

/** Numbers as u32 in their order; what is no number comes first, and zeros are alike. */
const keyOf = (isFloat: boolean) =>
  isFloat
    ? `fn keyOf(x: f32) -> u32 {
let u = bitcast<u32>(x);
if (isNan(x)) { return 0u; }
if ((u << 1u) == 0u) { return 0x80000000u; }
return select(u | 0x80000000u, ~u, (u >> 31u) == 1u);
}`
    : 'fn keyOf(x: i32) -> u32 { return bitcast<u32>(x) ^ 0x80000000u; }'

/** The key of the k-th largest number of row `row`, digit by digit: `key`, and how many of those that have it are taken. */
const search = (n: number, k: number) => `var key = 0u;
var mask = 0u;
var wanted = ${k}u;
for (var shift = 32u; shift > 0u; shift -= 8u) {
atomicStore(&counts[own], 0u);
workgroupBarrier();
for (var j = own; j < ${n}u; j += ${invocations}u) {
let one = keyOf(x[begin + j]);
if ((one & mask) == key) { atomicAdd(&counts[(one >> (shift - 8u)) & 255u], 1u); }
}
workgroupBarrier();
if (own == 0u) {
var digit = 255u;
var left = wanted;
while (digit > 0u && atomicLoad(&counts[digit]) < left) {
left -= atomicLoad(&counts[digit]);
digit--;
}
chosen = vec2<u32>(digit, left);
}
workgroupBarrier();
key |= chosen.x << (shift - 8u);
mask |= 255u << (shift - 8u);
wanted = chosen.y;
workgroupBarrier();
}`

/** Lists the places of larger numbers in any order, and of those that are equal to the k-th the first. */
const list = (
  n: number,
  k: number,
) => `if (own == 0u) { atomicStore(&listed, 0u); atomicStore(&equals, 0u); taken = 0u; }
workgroupBarrier();
for (var first = 0u; first < ${n}u; first += ${invocations}u) {
let j = first + own;
var one = 0u;
if (j < ${n}u) { one = keyOf(x[begin + j]); }
let equal = j < ${n}u && one == key;
same[own] = u32(equal);
if (equal) { atomicAdd(&equals, 1u); }
workgroupBarrier();
if (equal && taken < wanted) {
var before = taken;
for (var other = 0u; other < own; other++) { before += same[other]; }
if (before < wanted) { places[row * ${k}u + atomicAdd(&listed, 1u)] = j; }
}
if (j < ${n}u && one > key) { places[row * ${k}u + atomicAdd(&listed, 1u)] = j; }
workgroupBarrier();
if (own == 0u) { taken += atomicLoad(&equals); atomicStore(&equals, 0u); }
workgroupBarrier();
}`

/** Each listed place goes where as many come before it as are better. */
const sort = (k: number) => `storageBarrier();
for (var t = own; t < ${k}u; t += ${invocations}u) {
let j = places[row * ${k}u + t];
let one = keyOf(x[begin + j]);
var rank = 0u;
for (var u = 0u; u < ${k}u; u++) {
let other = places[row * ${k}u + u];
let another = keyOf(x[begin + other]);
if (another > one || (another == one && other < j)) { rank++; }
}
y[row * ${k}u + rank] = i32(j);
}`

/** Up to so many numbers each look how many of their row are better. */
const few = 512

const byRank = (n: number, k: number) => `let begin = i / ${n}u * ${n}u;
let one = keyOf(x[i]);
var rank = 0u;
for (var j = begin; j < begin + ${n}u; j++) {
let other = keyOf(x[j]);
if (other > one || (other == one && j < i)) { rank++; }
}
if (rank < ${k}u) { y[i / ${n}u * ${k}u + rank] = i32(i - begin); }`

/** The places of the k largest numbers of each row [rows, n], the largest first, of equals the first. */
function placesOfLargest(nodes: Nodes, x: Node, rows: number, n: number, k: number): Node {
  const own = special('places of the largest', [x], (self, work) => {
    const places: Scratch = { scratch: `places of ${self.number}`, bytes: 4 * rows * k }
    const given: Bound = { name: 'x', of: x, element: elementOf(x) }
    const result: Bound = { name: 'y', of: self, element: 'i32', writes: true }
    const isFloat = x.dtype === 'float32'
    if (n <= few) return [eachShader(work([given, result]), rows * n, byRank(n, k), keyOf(isFloat))]
    const bound: Bound[] = [given, { name: 'places', of: places, element: 'u32', writes: true }, result]
    const outside = `var<workgroup> counts: array<atomic<u32>, 256>;
var<workgroup> chosen: vec2<u32>;
var<workgroup> listed: atomic<u32>;
var<workgroup> equals: atomic<u32>;
var<workgroup> taken: u32;
var<workgroup> same: array<u32, ${invocations}>;
${keyOf(isFloat)}`
    const code = `let row = number;
if (row >= ${rows}u) { return; }
let begin = row * ${n}u;
${search(n, k)}
${list(n, k)}
${sort(k)}`
    return [groupShader(work(bound), rows, code, outside)]
  })
  return nodes.special([rows, k], 'int32', own)
}

const topK: Lowering = (operation, nodes, find) => {
  const [values] = operation.outputs
  const { shape, dtype } = values!
  const n = operation.shapes[0]!.at(-1)!
  const k = shape.at(-1)!
  const rows = sizeOf(shape) / k
  const given = find(operation.inputs[0]!)
  const x = cast(nodes, whole(given), given.shape, dtype === 'bool' ? 'int32' : dtype).node
  const places = placesOfLargest(nodes, x, rows, n, k)
  const taken = gather(nodes, x, places, { batch: rows, outer: 1, n, m: k, slice: 1 })
  return [castNode(nodes, taken, dtype), places]
}

/** Operations that look for the largest numbers, by kind. */
export const largest: Readonly<Record<string, Lowering>> = { TopK: topK }
