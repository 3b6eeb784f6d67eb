import type { Lowering } from '../../src/engine/graph/maps.ts'
import type { Node } from '../../src/engine/graph/node.ts'
import { scheduleGraph } from '../../src/engine/graph/plan.ts'
import type { Plan } from '../../src/engine/recording/keys.ts'
import type { Value } from '../../src/engine/recording/record.ts'
import { storedInHalf } from '../../src/engine/webgpu/half.ts'
import { targetFor } from '../../src/engine/webgpu/program.ts'

/** What a GPU would keep in half precision of a graph. */
export interface Places {
  values: Set<Value>
  /** What else: it lies within an operation, as the copy of an input. */
  others: Node[]
}

/** Lowerings that note which nodes they make for which values. */
function noting(lowerings: Readonly<Record<string, Lowering>>, note: (value: Value, node: Node) => void) {
  const noted = (lower: Lowering): Lowering => {
    return (operation, nodes, find) => {
      const made = lower(operation, nodes, find)
      for (const [i, node] of [made].flat().entries()) if (operation.outputs[i]) note(operation.outputs[i], node)
      return made
    }
  }
  return Object.fromEntries(Object.entries(lowerings).map(([kind, lower]) => [kind, noted(lower)]))
}

/** Which values of a graph the WebGPU engine would store in half precision, where shaders may have so many buffers. */
export function keptInHalf(plan: Plan, roots: readonly Value[], buffers: number): Places {
  const made: { value: Value; node: Node }[] = []
  const target = targetFor(buffers)
  const lowerings = noting(target.lowerings, (value, node) => made.push({ value, node }))
  const schedule = scheduleGraph(plan, roots, { ...target, lowerings })
  const inHalf = storedInHalf(schedule)
  // Of a node and those whose work it does only the last is stored: the number says in which order they were made.
  const last = new Map<Node, Node>()
  for (const [user, node] of schedule.finished) if (user.number > (last.get(node)?.number ?? -1)) last.set(node, user)
  const stored = new Map([...inHalf].map((node) => [last.get(node) ?? node, node]))
  // An operation that sees a value in another shape, or spread, has a copy of it, which is rounded: here the value itself is.
  const ofValues = new Set(made.map(({ node }) => node))
  const copied = new Map<Node, Node[]>()
  for (const node of inHalf) {
    if (node.kind !== 'map' || node.formula !== 'copy' || ofValues.has(node)) continue
    const of = node.args[0]!.node
    copied.set(of, [...(copied.get(of) ?? []), node])
  }
  const values = new Set<Value>()
  const found = new Set<Node>()
  for (const { value, node } of made) {
    const rounded = [stored.get(node), ...(copied.get(node) ?? [])].filter((one) => one !== undefined)
    if (rounded.length > 0) values.add(value)
    for (const one of rounded) found.add(one)
  }
  return { values, others: [...inHalf].filter((node) => !found.has(node)) }
}
