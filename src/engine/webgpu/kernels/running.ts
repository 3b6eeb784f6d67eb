import type { Lowering } from '../../graph/maps.ts'
import { sizeOf } from '../../recording/shape.ts'
import type { Bound } from '../shader.ts'
import { eachShader, elementOf, groupShader, invocations, special } from './each.ts'

/** Up to so many numbers are gone through by one invocation. */
const few = 64

interface Running {
  axis: number
  exclusive: boolean
  reverse: boolean
}

/** Sums or products of all numbers up to each, along a side; what each invocation does in turn, or a workgroup by doubling. */
const running =
  (sign: '+' | '*'): Lowering =>
  (operation, nodes, find) => {
    const { axis, exclusive, reverse } = operation.attributes as unknown as Running
    const seen = operation.shapes[0]!
    const x = find(operation.inputs[0]!)
    const [n, inner] = [seen[axis]!, sizeOf(seen.slice(axis + 1))]
    const count = sizeOf(seen) / n
    const element = elementOf(x)
    const none = `${element}(${sign === '+' ? 0 : 1})`
    const begin = `${n * inner}u * (k / ${inner}u) + k % ${inner}u`
    const at = (j: string) => `begin + ${reverse ? `(${n - 1}u - (${j}))` : `(${j})`} * ${inner}u`
    const inTurn = `let k = i;
let begin = ${begin};
var so = ${none};
for (var j = 0u; j < ${n}u; j++) {
let v = x[${at('j')}];
y[${at('j')}] = ${exclusive ? 'so' : `so ${sign} v`};
so = so ${sign} v;
}`
    const together = `let k = number;
let begin = ${begin};
var before = ${none};
for (var first = 0u; first < ${n}u; first += ${invocations}u) {
let j = first + own;
let inside = k < ${count}u && j < ${n}u;
var v = ${none};
if (inside) { v = x[${at('j')}]; }
parts[own] = v;
workgroupBarrier();
for (var by = 1u; by < ${invocations}u; by *= 2u) {
if (own >= by) { v = parts[own - by] ${sign} v; }
workgroupBarrier();
parts[own] = v;
workgroupBarrier();
}
var so = before;
${exclusive ? 'if (own > 0u)' : ''} { so = before ${sign} parts[${exclusive ? 'own - 1u' : 'own'}]; }
if (inside) { y[${at('j')}] = so; }
before = before ${sign} parts[${invocations - 1}];
workgroupBarrier();
}`
    const own = special('running', [x], (self, work) => {
      const bound: Bound[] = [
        { name: 'x', of: x, element },
        { name: 'y', of: self, element, writes: true },
      ]
      if (n <= few) return [eachShader(work(bound), count, inTurn)]
      const shared = `var<workgroup> parts: array<${element}, ${invocations}>;`
      return [groupShader(work(bound), count, together, shared)]
    })
    return nodes.special(operation.outputs[0]!.shape, x.dtype, own)
  }

/** Operations that go along a side, by kind. */
export const runs: Readonly<Record<string, Lowering>> = { Cumprod: running('*'), Cumsum: running('+') }
