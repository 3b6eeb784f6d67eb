import type { Expression, LoopStage } from '../graph/expression.ts'
import { isWhole } from '../graph/finish.ts'
import type { Node } from '../graph/node.ts'
import type { Schedule, Stage } from '../graph/plan.ts'
import { sizeOf } from '../recording/shape.ts'
import type { GpuBlock, Part } from './buffers.ts'
import { type Half, storedInHalf } from './half.ts'
import { inRow } from './layout.ts'
import type { Shader } from './shader.ts'

type Loops = Extract<Stage, { kind: 'loops' }>

/** Larger arrays keep a card busy by themselves. */
const mostNumbers = 2 ** 18
/** Arrays that lie one behind the other are this many bytes at most, so that every device has such buffers. */
const mostBytes = 2 ** 27

/**
 * Updates of weights and of the optimiser's slots that compute the same, number by number, from arrays that play the
 * same parts. Where all arrays of each part lie one behind the other they are one dispatch over all of them.
 */
export interface Family {
  /** Where there is one alone, the rest is empty. */
  updates: readonly Loops[]
  /** Each part that is read, as the array of each update; then each that is written. */
  reads: readonly (readonly Node[])[]
  writes: readonly (readonly Node[])[]
  /** Single numbers that are leaves, such as the momentum: they have to be the same ones. */
  numbers: readonly (readonly Node[])[]
  /** What of the reads the graph computes for them: it is to lie in one buffer. */
  gathered: readonly Node[]
}

/** What an update computes, but for its arrays and numbers, and those in the order in which they are read. */
interface Signature {
  text: string
  reads: Node[]
  numbers: Node[]
}

function signatureOf({ sides, outputs }: LoopStage): Signature | undefined {
  const reads: Node[] = []
  const numbers: Node[] = []
  const placeIn = (nodes: Node[], node: Node) => {
    if (!nodes.includes(node)) nodes.push(node)
    return nodes.indexOf(node)
  }
  let flat = true
  const textOf = (expression: Expression): string => {
    if (expression.kind === 'constant') return `${expression.value}`
    if (expression.kind === 'apply')
      return `${expression.formula} ${expression.parameter} (${expression.args.map(textOf).join()})`
    const { node } = expression.operand
    const single = sizeOf(node.shape) === 1
    if (single) return node.kind === 'leaf' ? `number ${placeIn(numbers, node)}` : `node ${node.number}`
    flat &&= isWhole(expression.operand, sides)
    return `array ${placeIn(reads, node)}`
  }
  const text = outputs.map(({ expression }) => textOf(expression)).join('; ')
  flat &&= outputs.every(({ node, strides }) => isWhole({ node, strides, offset: 0 }, sides))
  return flat ? { text, reads, numbers } : undefined
}

/** Whether a stage makes the next numbers of what leaves of the graph hold. */
function isUpdate(stage: Stage, roots: readonly Node[]): stage is Loops {
  if (stage.kind !== 'loops' || stage.loops.outputs.some(({ kind }) => kind !== 'store')) return false
  const outputs = resultsOf(stage)
  const size = sizeOf(stage.loops.sides)
  const fits = [...stage.reads, ...outputs].every(
    ({ dtype, shape }) => dtype === 'float32' && sizeOf(shape) <= mostNumbers && sizeOf(shape) <= size,
  )
  const alike = ({ shape }: Node) =>
    stage.reads.some((other) => other.kind === 'leaf' && other.shape.join() === shape.join())
  return size > 1 && fits && outputs.every((node) => roots.includes(node) && alike(node))
}

const resultsOf = ({ loops }: Loops): Node[] => loops.outputs.map(({ node }) => node)

type Own = (node: Node) => Node

/**
 * Updates that only other updates wait for, with how many of those have to come before each: weights that are computed
 * from the next means of Adam come after these.
 */
function updatesOf({ stages, roots }: Schedule, own: Own): Map<Loops, number> {
  const updates = new Set(stages.filter((stage): stage is Loops => isUpdate(stage, roots)))
  for (let before = -1; before !== updates.size; ) {
    before = updates.size
    const others = stages.filter((stage) => !updates.has(stage as Loops))
    const read = new Set(others.flatMap(({ reads }) => reads.map(own)))
    for (const stage of updates) if (resultsOf(stage).some((node) => read.has(node))) updates.delete(stage)
  }
  const levels = new Map<Loops, number>()
  const levelOf = new Map<Node, number>()
  for (const stage of updates) {
    const level = 1 + Math.max(-1, ...stage.reads.map((node) => levelOf.get(own(node)) ?? -1))
    levels.set(stage, level)
    for (const node of resultsOf(stage)) levelOf.set(node, level)
  }
  return levels
}

const ownIn =
  ({ finished }: Schedule): Own =>
  (node) =>
    finished.get(node) ?? node

interface Member {
  stage: Loops
  level: number
  signature: Signature
}

/** Nodes of `elsewhere` may not lie with others of their kind. */
function find(schedule: Schedule, half: Half | undefined, elsewhere: ReadonlySet<Node>): Family[] {
  const own = ownIn(schedule)
  const roots = new Set(schedule.roots)
  const inHalf = half ? storedInHalf(schedule) : new Set<Node>()
  const taken = new Set<Node>()
  const byKey = new Map<string, Member[]>()
  let total = 0
  const gathers = (node: Node) => node.kind !== 'leaf' && !roots.has(node)
  for (const [stage, level] of updatesOf(schedule, own)) {
    const found = signatureOf(stage.loops)
    const signature = { text: '', numbers: [], ...found, reads: (found?.reads ?? []).map(own) }
    const gathered = signature.reads.filter(gathers)
    total += inRow(resultsOf(stage)).bytes
    const fits = total <= mostBytes
    const able =
      fits && found && gathered.every((node) => !taken.has(node) && !inHalf.has(node) && !elsewhere.has(node))
    for (const node of able ? gathered : []) taken.add(node)
    // What cannot be with others is by itself, in its turn.
    const key = `${level} ${able ? signature.text : `stage ${byKey.size}`}`
    byKey.set(key, [...(byKey.get(key) ?? []), { stage, level, signature }])
  }
  const inTurn = [...byKey.values()].sort(([a], [b]) => a!.level - b!.level)
  return inTurn.map((members) => familyOf(members, gathers))
}

function familyOf(members: readonly Member[], gathers: (node: Node) => boolean): Family {
  const updates = members.map(({ stage }) => stage)
  if (members.length === 1) return { updates, reads: [], writes: [], numbers: [], gathered: [] }
  const turned = (rows: readonly Node[][]) => rows[0]!.map((_, i) => rows.map((row) => row[i]!))
  const reads = turned(members.map(({ signature }) => signature.reads))
  const numbers = turned(members.map(({ signature }) => signature.numbers))
  return { updates, reads, writes: turned(updates.map(resultsOf)), numbers, gathered: reads.flat().filter(gathers) }
}

/** Of what is gathered, what is read by a shader that writes some of it: it cannot do both in one buffer. */
function conflictsOf(gathered: readonly Node[], shaders: readonly Shader[], own: Own): Set<Node> {
  const all = new Set(gathered)
  const found = new Set<Node>()
  for (const { bound } of shaders) {
    const within = bound.flatMap(({ of, writes }) => {
      const node = 'scratch' in of ? undefined : own(of)
      return node && all.has(node) ? [{ node, writes }] : []
    })
    if (within.some(({ writes }) => writes)) for (const { node, writes } of within) if (!writes) found.add(node)
  }
  return found
}

/** The families of a graph's updates, in their turn, which its shaders (of all stages) allow. */
export function familiesOf(schedule: Schedule, half: Half | undefined, shaders: readonly Shader[]): Family[] {
  const wanted = find(schedule, half, new Set()).flatMap(({ gathered }) => gathered)
  return find(schedule, half, conflictsOf(wanted, shaders, ownIn(schedule)))
}

/** Whether all are the same block. */
export const areOne = (blocks: readonly GpuBlock[]): boolean => blocks.every((block) => block === blocks[0])

/** Whether blocks lie one behind the other in one buffer. */
export function areInRow(blocks: readonly GpuBlock[], parts: readonly Part[]): boolean {
  const [first] = blocks
  return blocks.every(
    ({ number, offset }, i) => number === first!.number && offset - first!.offset === parts[i]!.offset,
  )
}

/** The loops of a family's first update, over the numbers of all. */
export function loopsOfAll({ updates, writes }: Family): LoopStage {
  const all = (expression: Expression): Expression => {
    if (expression.kind === 'apply') return { ...expression, args: expression.args.map(all) }
    if (expression.kind === 'constant') return expression
    const { node } = expression.operand
    return { kind: 'read', operand: { node, strides: [sizeOf(node.shape) === 1 ? 0 : 1], offset: 0 } }
  }
  const outputs = updates[0]!.loops.outputs.map((output) => ({
    ...output,
    expression: all(output.expression),
    strides: [1],
  }))
  return { sides: [inRow(writes[0]!).bytes / 4], folded: [false], outputs }
}
