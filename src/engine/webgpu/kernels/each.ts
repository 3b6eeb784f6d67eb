import type { Node, SpecialInput } from '../../graph/node.ts'
import { preambleOf } from '../preamble.ts'
import { type Bound, type Facts, type GpuSpecial, groupIndex, groupsFor, type Shader } from '../shader.ts'

export const invocations = 256

/** What every shader of a special node is made of. */
export interface Work {
  label: string
  bound: readonly Bound[]
}

/** Statements that know the number of their workgroup as `number`, and their own place in it as `own`. */
export function groupShader(
  { label, bound }: Work,
  count: number,
  work: string,
  outside = '',
  size = invocations,
): Shader {
  const main = `${outside}
@compute @workgroup_size(${size})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) own: u32) {
let number = ${groupIndex};
${work}
}`
  return { label, bound, code: preambleOf(main) + main, groups: groupsFor(count) }
}

/** Statements for each of so many elements, whose number they know as `i`. */
export function eachShader(own: Work, count: number, work: string, outside = ''): Shader {
  const begin = `let i = number * ${invocations}u + own;\nif (i >= ${count}u) { return; }\n`
  return groupShader(own, Math.ceil(count / invocations), begin + work, outside)
}

/** What of arrays of these types a shader binds: one by one, or by four where all counts allow it. */
export interface Width {
  lanes: 1 | 4
  float: 'f32' | 'vec4<f32>'
  whole: 'i32' | 'vec4<i32>'
}

const single: Width = { lanes: 1, float: 'f32', whole: 'i32' }
const wide: Width = { lanes: 4, float: 'vec4<f32>', whole: 'vec4<i32>' }

export const widthFor = (count: number): Width => (count % 4 === 0 ? wide : single)

/** How a node's numbers are bound. */
export function elementOf(node: Node, width: Width = single): 'f32' | 'i32' | 'vec4<f32>' | 'vec4<i32>' {
  return node.dtype === 'float32' ? width.float : width.whole
}

/** A special node's own part: its name, what it reads, and how it is computed. */
export function special(
  name: string,
  inputs: readonly Node[],
  shaders: (self: Node, work: (bound: readonly Bound[]) => Work, facts: Facts) => Shader[],
): GpuSpecial {
  const label = (self: Node) => `${name} [${self.shape.join(', ')}]`
  return {
    name,
    inputs: inputs.map((node): SpecialInput => ({ node })),
    strided: false,
    shaders: (self, facts) => shaders(self, (bound) => ({ label: label(self), bound }), facts),
  }
}
