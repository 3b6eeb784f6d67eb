import type { Expression, LoopStage, Operand, Output } from '../graph/expression.ts'
import { sizeOf } from '../recording/shape.ts'
import { Bindings, Body, elementOf } from './expressions.ts'
import { mergeSides, placeOf, splitIndex, type Walk } from './indices.ts'
import { preambleOf } from './preamble.ts'
import { groupIndex, groupsFor, type Shader } from './shader.ts'

const invocations = 256
/** Places that one invocation computes, a workgroup apart from each other. */
const each = 4

type Store = Extract<Output, { kind: 'store' }>

/** All that an expression reads. */
export function operandsOf(expression: Expression, found: Operand[] = []): Operand[] {
  if (expression.kind === 'read') found.push(expression.operand)
  else if (expression.kind === 'apply') for (const arg of expression.args) operandsOf(arg, found)
  return found
}

/** Walks by operand, along sides that were put together. */
export function walksOf(sides: readonly number[], operands: readonly Operand[], others: readonly Walk[]) {
  const merged = mergeSides<Walk>(sides, [...operands, ...others])
  const walks = new Map(operands.map((operand, i) => [operand, merged.walks[i]!]))
  return { sides: merged.sides, walks, others: merged.walks.slice(operands.length) }
}

/** A stage that computes numbers from numbers, place by place. */
export function mapShader(stage: LoopStage, label: string): Shader {
  const outputs = stage.outputs as readonly Store[]
  const operands = outputs.flatMap(({ expression }) => operandsOf(expression))
  const targets = outputs.map(({ strides }) => ({ strides, offset: 0 }))
  const { sides, walks, others } = walksOf(stage.sides, operands, targets)
  const count = sizeOf(sides)
  const { lines, places } = splitIndex('i', sides, 'p')
  const bindings = new Bindings()
  const body = new Body(bindings, (operand) => placeOf(walks.get(operand)!, places))
  const values = outputs.map(({ expression }) => body.value(expression))
  const stores = outputs.map(
    ({ node }, o) => `${bindings.write(node, elementOf(node))}[${placeOf(others[o]!, places)}] = ${values[o]};`,
  )
  const few = count <= invocations * 64
  const work = [...lines, ...body.lines, ...stores]
  const inner = few
    ? ['let i = first;', `if (i >= ${count}u) { return; }`, ...work]
    : [
        `for (var k = 0u; k < ${each}u; k++) {`,
        `let i = first + k * ${invocations}u;`,
        `if (i >= ${count}u) { return; }`,
        ...work,
        '}',
      ]
  const share = few ? invocations : invocations * each
  const main = `@compute @workgroup_size(${invocations})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) own: u32) {
let first = ${groupIndex} * ${share}u + own;
${inner.join('\n')}
}`
  return {
    label,
    bound: bindings.bound,
    code: preambleOf(main) + main,
    groups: groupsFor(Math.ceil(count / share)),
  }
}
