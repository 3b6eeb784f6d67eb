import type { Plan } from '../recording/keys.ts'
import type { Value } from '../recording/record.ts'
import { sizeOf } from '../recording/shape.ts'
import { type Known, type LoopStage, resolveStage, worthKeeping } from './expression.ts'
import { finishResults, reached, readBy } from './finish.ts'
import type { Lowering } from './maps.ts'
import { type Halo, type Node, Nodes, NotWritten, type SpecialInput, type SpecialNode, whole } from './node.ts'

export type Stage =
  | { kind: 'loops'; loops: LoopStage; nodes: Node[]; reads: Node[] }
  | { kind: 'special'; node: SpecialNode; nodes: Node[]; reads: Node[]; instead: ReadonlyMap<Node, Node> }

/** What has to be done in which order, and what lies in memory. */
export interface Schedule {
  stages: Stage[]
  /** Nodes by leaf and by root. */
  leaves: (Node | undefined)[]
  roots: Node[]
  halos: ReadonlyMap<Node, Halo>
  /** Nodes whose work others do. */
  finished: ReadonlyMap<Node, Node>
}

const noHalo: Halo = [0, 0, 0, 0, 1, 1]
const widest = (a: Halo, b: Halo): Halo => a.map((side, i) => Math.max(side, b[i]!)) as unknown as Halo
const isNone = (halo: Halo) => halo.every((side, i) => side === noHalo[i])
const isApart = ([, , , , rows, columns]: Halo) => rows > 1 || columns > 1

/** Steps along [n, h, w, c] with zeros around and in between, where the first number lies, and how many there are. */
export function paddedStrides(shape: readonly number[], [top, left, bottom, right, rows, columns]: Halo) {
  const [images, height, width, channels] = shape as [number, number, number, number]
  const row = ((width - 1) * columns + 1 + left + right) * channels
  const image = ((height - 1) * rows + 1 + top + bottom) * row
  return {
    strides: [image, rows * row, columns * channels, 1],
    offset: top * row + left * channels,
    size: images * image,
  }
}

class Planner {
  readonly nodes: Nodes
  private readonly order: Node[]
  private readonly stored = new Set<Node>()
  private readonly halos = new Map<Node, Halo>()
  /** What inputs of nodes of their own kind read instead. */
  private readonly copies = new Map<SpecialInput, Node>()
  private readonly specials: SpecialNode[]
  private readonly roots: Node[]
  private readonly target: Target

  constructor(nodes: Nodes, roots: Node[], target: Target) {
    this.target = target
    this.nodes = nodes
    this.roots = roots
    this.order = reached(nodes.all, roots)
    this.specials = this.order.filter((node) => node.kind === 'special')
    this.place()
  }

  /** Says what lies in memory from the start, and how. */
  private place(): void {
    const uses = new Map<Node, number>()
    for (const node of this.order) for (const read of readBy(node)) uses.set(read, (uses.get(read) ?? 0) + 1)
    const roots = new Set(this.roots)
    const plain = new Set<Node>(roots)
    const inputs = this.specials.flatMap(({ special }) => special.inputs)
    for (const { node, halo, strided } of inputs) {
      this.stored.add(node)
      if (!halo && !strided) plain.add(node)
    }
    for (const node of this.order)
      if (node.kind !== 'map' || roots.has(node) || worthKeeping(node, uses.get(node) ?? 0)) this.stored.add(node)
    for (const input of inputs) this.surround(input, plain)
  }

  /** Puts what an input wants around a node's numbers, or around those of a copy of them. */
  private surround(input: SpecialInput, plain: ReadonlySet<Node>): void {
    const { node, halo } = input
    if (!halo || isNone(halo)) return
    const able = node.kind === 'map' || (node.kind === 'special' && node.special.strided)
    if (able && !plain.has(node) && !isApart(halo)) {
      this.halos.set(node, widest(halo, this.halos.get(node) ?? noHalo))
      return
    }
    for (const [other, copy] of this.copies) {
      const own = this.halos.get(copy)!
      if (other.node !== node || own[4] !== halo[4] || own[5] !== halo[5]) continue
      this.halos.set(copy, widest(halo, own))
      this.copies.set(input, copy)
      return
    }
    const copy = this.nodes.map('copy', [whole(node)], node.shape, node.dtype)
    this.order.splice(this.order.indexOf(node) + 1, 0, copy)
    this.copies.set(input, copy)
    this.stored.add(copy)
    this.halos.set(copy, halo)
  }

  private readonly known: Known = {
    mostReads: () => this.target.mostReads ?? Number.POSITIVE_INFINITY,
    isStored: (node: Node) => this.stored.has(node),
    stridesOf: (node: Node) => {
      const halo = this.halos.get(node)
      return halo && paddedStrides(node.shape, halo).strides
    },
  }

  private keep(node: Node): void {
    if (this.stored.has(node)) throw new NotWritten('so intricate a formula')
    this.stored.add(node)
  }

  schedule(leaves: (Node | undefined)[]): Omit<Schedule, 'finished'> {
    for (;;) {
      const before = this.stored.size
      for (const node of this.order)
        if ((node.kind === 'map' || node.kind === 'fold') && this.stored.has(node))
          while (!resolveStage([node], this.known, (each) => this.keep(each)));
      if (this.stored.size === before) break
    }
    return { stages: this.stages(), leaves, roots: this.roots, halos: this.halos }
  }

  /** Stages in order; nodes over the same sides whose operands are there already join the stage before. */
  private stages(): Stage[] {
    const stages: Stage[] = []
    const madeBy = new Map<Node, number>()
    const open = new Map<string, number[]>()
    for (const node of this.order) {
      if (!this.stored.has(node) || node.kind === 'leaf' || node.kind === 'constant' || node.kind === 'table') continue
      if (node.kind === 'special') {
        const instead = new Map<Node, Node>()
        for (const input of node.special.inputs) {
          const copy = this.copies.get(input)
          if (copy) instead.set(input.node, copy)
        }
        const reads = node.special.inputs.flatMap(({ node: input }) => [input, instead.get(input) ?? input])
        madeBy.set(node, stages.length)
        stages.push({ kind: 'special', node, nodes: [node], reads, instead })
        continue
      }
      const sides = node.kind === 'fold' ? node.full : node.shape
      const key = `${node.kind} ${sides} ${node.kind === 'fold' ? node.folded : ''}`
      const candidates = open.get(key) ?? []
      open.set(key, candidates)
      const alone = this.resolve([node])
      const after = Math.max(-1, ...readsOf(alone).map((read) => madeBy.get(read) ?? -1))
      const joined = candidates.find((place) => place >= after && this.join(stages, place, node, madeBy))
      if (joined !== undefined) {
        madeBy.set(node, joined)
        continue
      }
      candidates.push(stages.length)
      madeBy.set(node, stages.length)
      stages.push({ kind: 'loops', loops: alone, nodes: [node], reads: readsOf(alone) })
    }
    return stages
  }

  private resolve(nodes: readonly Node[]): LoopStage {
    const made = resolveStage(nodes, this.known, () => {
      throw new NotWritten('stages that cannot be joined')
    })
    return made!
  }

  /** Whether a root has no array in common with a stage. */
  private isApart({ reads, nodes }: Stage, node: Node): boolean {
    const known = new Set<Node>([...reads, ...nodes])
    const common = readsOf(this.resolve([node])).some((read) => sizeOf(read.shape) > 1 && known.has(read))
    return this.roots.includes(node) && !common
  }

  private join(stages: Stage[], place: number, node: Node, madeBy: ReadonlyMap<Node, number>): boolean {
    const stage = stages[place]!
    if (stage.kind !== 'loops') return false
    if (!(this.target.joinsApart ?? true) && this.isApart(stage, node)) return false
    const nodes = [...stage.nodes, node]
    let loops: LoopStage
    try {
      loops = this.resolve(nodes)
    } catch (error) {
      if (error instanceof NotWritten) return false
      throw error
    }
    const reads = readsOf(loops)
    if (reads.some((read) => (madeBy.get(read) ?? -1) >= place)) return false
    const { mostArrays, mostOutputs, countsSingles = false } = this.target
    if (arraysOf(loops, countsSingles) > mostArrays || loops.outputs.length > mostOutputs) return false
    stages[place] = { kind: 'loops', loops, nodes, reads }
    return true
  }
}

function readsOf({ outputs }: LoopStage): Node[] {
  const reads = new Set<Node>()
  const visit = (expression: LoopStage['outputs'][number]['expression']): void => {
    if (expression.kind === 'read') reads.add(expression.operand.node)
    else if (expression.kind === 'apply') for (const arg of expression.args) visit(arg)
  }
  for (const { expression } of outputs) visit(expression)
  return [...reads]
}

function arraysOf(stage: LoopStage, countsSingles: boolean): number {
  return readsOf(stage).filter((node) => countsSingles || sizeOf(node.shape) > 1).length + stage.outputs.length
}

const isRelu = (node: Node): boolean => node.kind === 'map' && node.formula === 'relu'

/** Operations as nodes. A step of what has a relu is that of the relu: so what was before the relu need not be kept. */
function lowerAll(
  { operations, leaves }: Pick<Plan, 'operations' | 'leaves'>,
  roots: readonly Value[],
  nodes: Nodes,
  lowerings: Readonly<Record<string, Lowering>>,
) {
  const made = new Map<Value, Node>()
  const leafNodes = leaves.map((value, i) => {
    const node = nodes.leaf(i, value.shape, value.dtype)
    made.set(value, node)
    return node
  })
  const reluOf = new Map<Node, Node>()
  const find = (value: Value) => made.get(value)!
  for (const operation of operations) {
    const lower = lowerings[operation.kind]
    if (!lower) throw new NotWritten(operation.kind)
    if (
      operation.outputs.some(({ shape }) => sizeOf(shape) === 0) ||
      operation.inputs.some(({ shape }) => sizeOf(shape) === 0)
    )
      throw new NotWritten('no numbers at all')
    const seen = operation.kind === 'Step' ? (value: Value) => reluOf.get(find(value)) ?? find(value) : find
    const lowered = lower(operation, nodes, seen)
    const results = Array.isArray(lowered) ? lowered : [lowered]
    if (operation.kind === 'Relu' && isRelu(results[0]!)) reluOf.set(find(operation.inputs[0]!), results[0]!)
    for (const [i, output] of operation.outputs.entries()) {
      const node = results[i]
      if (node?.dtype !== output.dtype || sizeOf(node.shape) !== sizeOf(output.shape))
        throw new NotWritten(`${operation.kind} with a result of another type`)
      made.set(output, node)
    }
  }
  const rootNodes = roots.map((value) => {
    const node = find(value)
    // Each root has memory of its own.
    return node.kind === 'leaf' || node.kind === 'constant'
      ? nodes.map('copy', [whole(node)], node.shape, node.dtype)
      : node
  })
  return { leafNodes, rootNodes: distinct(rootNodes, nodes) }
}

function distinct(roots: Node[], nodes: Nodes): Node[] {
  const seen = new Set<Node>()
  return roots.map((node) => {
    const own = seen.has(node) ? nodes.map('copy', [whole(node)], node.shape, node.dtype) : node
    seen.add(own)
    return own
  })
}

/** What an engine makes of graphs. */
export interface Target {
  lowerings: Readonly<Record<string, Lowering>>
  threads: number
  /** Whether large folds are cut into parts beforehand; default yes. */
  cutsFolds?: boolean
  /** How many arrays and how many results one stage of loops may have. */
  mostArrays: number
  mostOutputs: number
  /** Whether arrays of one number count too. */
  countsSingles?: boolean
  /** Whether a root may be made by a stage with which it has no array in common; default yes. */
  joinsApart?: boolean
  /** How many arrays what one result is computed from may read; default any number. */
  mostReads?: number
}

/** A graph as stages. Throws NotWritten where it has something for which the target has no code. */
export function scheduleGraph(plan: Plan, roots: readonly Value[], target: Target): Schedule {
  const nodes = new Nodes(target.threads, target.cutsFolds ?? true)
  const { leafNodes, rootNodes } = lowerAll(plan, roots, nodes, target.lowerings)
  const finished = finishResults(reached(nodes.all, rootNodes), rootNodes)
  return { ...new Planner(nodes, rootNodes, target).schedule(leafNodes), finished }
}
