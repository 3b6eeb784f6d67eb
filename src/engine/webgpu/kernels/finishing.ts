import type { Finish, Node } from '../../graph/node.ts'
import { sizeOf } from '../../recording/shape.ts'
import { type Bound, groupIndex, groupsFor, type Scratch, type Shader } from '../shader.ts'

/** What is done to results before they are stored: WGSL's `finished(value, place, column)`, counted in values. */
export function finishing({ bias, relu, where }: Finish, type: 'f32' | 'vec4<f32>'): { bound: Bound[]; code: string } {
  const lines: string[] = ['var made = value;']
  const bound: Bound[] = []
  if (bias) {
    bound.push({ name: 'biases', of: bias, element: type })
    lines.push('made += biases[column];')
  }
  // Written so that what is no number stays none.
  if (relu) lines.push(`made = select(made, ${type}(), made <= ${type}());`)
  if (where) {
    bound.push({ name: 'deciding', of: where, element: type })
    lines.push('let decides = deciding[place];')
    const none = `${type}()`
    lines.push(`made *= select(select(decides, ${none}, decides <= ${none}), ${type}(1), decides > ${none});`)
  }
  const code = `fn finished(value: ${type}, place: u32, column: u32) -> ${type} {\n${lines.join('\n')}\nreturn made;\n}`
  return { bound, code }
}

const threads = 256

/** Sums parts, each of a whole result, in their order, and finishes them. */
export function sumParts(
  label: string,
  self: Node,
  scratch: Scratch,
  parts: number,
  columns: number,
  finish: Finish,
): Shader {
  const wide = columns % 4 === 0
  const type = wide ? 'vec4<f32>' : 'f32'
  const size = sizeOf(self.shape) / (wide ? 4 : 1)
  const row = wide ? columns / 4 : columns
  const { bound, code } = finishing(finish, type)
  // Where there are few results, several invocations sum parts of the parts.
  const lanes = parts >= 16 ? 8 : parts >= 8 ? 4 : 1
  const each = Math.ceil(parts / lanes)
  const own = threads / lanes
  const gather =
    lanes === 1
      ? ''
      : `partial[lid] = sum;
workgroupBarrier();
if (lane > 0u) { return; }
${Array.from({ length: lanes - 1 }, (_, i) => `sum += partial[lid + ${(i + 1) * own}u];`).join('\n')}`
  return {
    label: `${label}: parts`,
    bound: [
      { name: 'parts', of: scratch, element: type },
      { name: 'results', of: self, element: type, writes: true },
      ...bound,
    ],
    groups: groupsFor(Math.ceil(size / own)),
    code: `${code}
${lanes === 1 ? '' : `var<workgroup> partial: array<${type}, ${threads}>;`}
@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lid: u32) {
let lane = lid / ${own}u;
let place = ${groupIndex} * ${own}u + lid % ${own}u;
var sum = ${type}();
if (place < ${size}u) {
let end = min(${parts}u, (lane + 1u) * ${each}u);
for (var part = lane * ${each}u; part < end; part++) { sum += parts[part * ${size}u + place]; }
}
${gather}
if (place < ${size}u) { results[place] = finished(sum, place, place % ${row}u); }
}`,
  }
}
