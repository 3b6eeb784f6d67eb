import type { Lowering } from '../../graph/maps.ts'
import type { Node, Nodes } from '../../graph/node.ts'
import { sizeOf } from '../../recording/shape.ts'
import { numeral } from '../formulas.ts'
import type { Bound, Scratch, Shader } from '../shader.ts'
import { eachShader, elementOf, groupShader, invocations, special, type Work } from './each.ts'

type Kind = 'max' | 'min'

/** Numbers [outer, n, inner], of which the side in the middle is looked through. */
interface Sides {
  outer: number
  n: number
  inner: number
}

/** Up to so many numbers are looked through by one invocation, and more where many others do the same. */
const few = 64
const manyResults = 2 ** 15
/** Numbers for each workgroup where there are many for few results. */
const leastShare = 16 * invocations
const enoughGroups = 1024

const worst = (kind: Kind, whole: boolean) => {
  if (whole) return kind === 'max' ? 'i32(-2147483648)' : 'i32(2147483647)'
  return numeral(kind === 'max' ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY)
}

/** What the best so far has to be against `v` to give way: what is no number is never better. */
const beats = (kind: Kind) => (kind === 'max' ? 'v > best' : 'v < best')

/** Puts what is found, by number `k` of the result and place `place`, as tfjs has it: 0 where the first is no number. */
function result(x: Node, sides: Sides): string {
  const first = `x[k / ${sides.inner}u * ${sides.n * sides.inner}u + k % ${sides.inner}u]`
  const begun = x.dtype === 'float32' ? ` || isNan(${first})` : ''
  return `y[k] = select(i32(place), 0, place == ${sides.n}u${begun});`
}

function byInvocations(work: Work, x: Node, kind: Kind, sides: Sides): Shader {
  const { outer, n, inner } = sides
  const code = `let k = i;
let begin = k / ${inner}u * ${n * inner}u + k % ${inner}u;
var best = ${worst(kind, x.dtype !== 'float32')};
var place = ${n}u;
for (var j = 0u; j < ${n}u; j++) {
let v = x[begin + j * ${inner}u];
if (${beats(kind)}) { best = v; place = j; }
}
${result(x, sides)}`
  return eachShader(work, outer * inner, code)
}

/** The better of two, and of equals the former. */
const tree = (kind: Kind) => `bests[own] = best;
places[own] = place;
workgroupBarrier();
for (var step = ${invocations / 2}u; step > 0u; step /= 2u) {
if (own < step) {
let v = bests[own + step];
let other = places[own + step];
let best = bests[own];
if (${beats(kind)} || (v == best && other < places[own])) { bests[own] = v; places[own] = other; }
}
workgroupBarrier();
}`

/** A workgroup for each result, or for each part of what a result is looked for in; then one for the parts. */
function byGroups(work: (bound: readonly Bound[]) => Work, self: Node, x: Node, kind: Kind, sides: Sides): Shader[] {
  const { outer, n, inner } = sides
  const count = outer * inner
  const parts = Math.max(1, Math.min(invocations, Math.ceil(enoughGroups / count), Math.floor(n / leastShare)))
  const share = Math.ceil(n / parts)
  const element = elementOf(x)
  const bests: Scratch = { scratch: `bests of ${self.number}`, bytes: 4 * count * parts }
  const places: Scratch = { scratch: `places of ${self.number}`, bytes: 4 * count * parts }
  const images: Bound = { name: 'x', of: x, element }
  const target: Bound = { name: 'y', of: self, element: 'i32', writes: true }
  const outside = `var<workgroup> bests: array<${element}, ${invocations}>;
var<workgroup> places: array<u32, ${invocations}>;`
  const begin = `var best = ${worst(kind, x.dtype !== 'float32')};\nvar place = ${n}u;`
  const end = (store: string) => `${tree(kind)}\nif (own == 0u && k < ${count}u) {\n${store}\n}`
  const keep = 'partBests[number] = bests[0];\npartPlaces[number] = places[0];'
  const put = `let place = places[0];\n${result(x, sides)}`
  const look = `let k = number / ${parts}u;
let part = number % ${parts}u;
let begin = k / ${inner}u * ${n * inner}u + k % ${inner}u;
${begin}
if (k < ${count}u) {
for (var j = part * ${share}u + own; j < min((part + 1u) * ${share}u, ${n}u); j += ${invocations}u) {
let v = x[begin + j * ${inner}u];
if (${beats(kind)}) { best = v; place = j; }
}
}
${end(parts > 1 ? keep : put)}`
  const kept: Bound[] = [
    { name: 'partBests', of: bests, element },
    { name: 'partPlaces', of: places, element: 'u32' },
  ]
  if (parts === 1) return [groupShader(work([images, target]), count, look, outside)]
  const rest = `let k = number;
${begin}
if (k < ${count}u && own < ${parts}u) {
best = partBests[k * ${parts}u + own];
place = partPlaces[k * ${parts}u + own];
}
${end(put)}`
  const writes = kept.map((one) => ({ ...one, writes: true }))
  return [
    groupShader(work([images, ...writes]), count * parts, look, outside),
    groupShader(work([...kept, images, target]), count, rest, outside),
  ]
}

/** Where along one side the largest or smallest number is, the first of equals; 0 where the first is no number. */
export function placeOfExtreme(nodes: Nodes, kind: Kind, x: Node, shape: readonly number[], axis: number): Node {
  const sides = { outer: sizeOf(shape.slice(0, axis)), n: shape[axis]!, inner: sizeOf(shape.slice(axis + 1)) }
  const count = sides.outer * sides.inner
  const simple = sides.n <= few || (count >= manyResults && sides.inner > 1)
  const own = special(`place of ${kind}`, [x], (self, work) => {
    if (!simple) return byGroups(work, self, x, kind, sides)
    const bound: Bound[] = [
      { name: 'x', of: x, element: elementOf(x) },
      { name: 'y', of: self, element: 'i32', writes: true },
    ]
    return [byInvocations(work(bound), x, kind, sides)]
  })
  return nodes.special(
    shape.filter((_, i) => i !== axis),
    'int32',
    own,
  )
}

const place =
  (kind: Kind): Lowering =>
  (operation, nodes, find) =>
    placeOfExtreme(nodes, kind, find(operation.inputs[0]!), operation.shapes[0]!, operation.attributes!.axis as number)

/** Operations that look for an extreme's place, by kind. */
export const extremes: Readonly<Record<string, Lowering>> = { ArgMax: place('max'), ArgMin: place('min') }
