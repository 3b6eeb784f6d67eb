import { sizeOf } from '../recording/shape.ts'
import type { FormulaName } from './formulas.ts'
import { costly } from './formulas.ts'
import { type Arg, type Fold, type Node, NotWritten } from './node.ts'

/** Numbers in memory that a stage reads or writes, with steps along its sides, in numbers. */
export interface Operand {
  node: Node
  strides: readonly number[]
  offset: number
}

export type Expression =
  | { kind: 'read'; operand: Operand }
  | { kind: 'constant'; value: number; whole: boolean }
  | { kind: 'apply'; formula: FormulaName; args: readonly Expression[]; parameter: number }

export type Output =
  | { kind: 'store'; node: Node; expression: Expression; strides: readonly number[] }
  | { kind: 'fold'; node: Node; fold: Fold; expression: Expression; strides: readonly number[] }

/** Loops over some sides that make some results, each from an expression of what is in memory. */
export interface LoopStage {
  sides: readonly number[]
  /** Which sides are folded, of a stage of folds. */
  folded: readonly boolean[]
  outputs: readonly Output[]
}

/** How the plan has its nodes so far. */
export interface Known {
  isStored(node: Node): boolean
  /** Steps in memory along the sides of a stored node's shape; undefined where its numbers simply follow each other. */
  stridesOf(node: Node): readonly number[] | undefined
  /** How many nodes an expression may read. */
  mostReads(): number
}

/** Sides have to be cut first: side `side` into pieces of `piece`. */
class Cut extends Error {
  readonly side: number
  readonly piece: number
  constructor(side: number, piece: number) {
    super('a side has to be cut')
    this.side = side
    this.piece = piece
  }
}

/** The node has to be in memory first. */
class Keep extends Error {
  readonly node: Node
  constructor(node: Node) {
    super('a result has to be kept')
    this.node = node
  }
}

/**
 * Steps along the sides of a node's shape for each side of a stage. Undefined where one side of the stage does not stay
 * within sides of the node.
 */
function digits(
  sides: readonly number[],
  arg: Arg,
  shape: readonly number[],
): { of: number[][]; at: number[] } | undefined {
  const places = shape.map(() => 0)
  let rest = arg.offset
  let step = sizeOf(shape)
  for (const [e, side] of shape.entries()) {
    step /= side
    places[e] = Math.floor(rest / step)
    rest %= step
  }
  const ends = [...places]
  const of: number[][] = []
  for (const [d, stride] of arg.strides.entries()) {
    const steps = shape.map(() => 0)
    of.push(steps)
    if (sides[d] === 1 || stride === 0) continue
    if (stride < 0) return undefined
    let left = stride
    let unit = sizeOf(shape)
    for (const [e, side] of shape.entries()) {
      unit /= side
      steps[e] = Math.floor(left / unit)
      left %= unit
    }
    for (const [e, by] of steps.entries()) {
      if (by === 0) continue
      const reach = ends[e]! + (sides[d]! - 1) * by
      if (reach < shape[e]!) {
        ends[e] = reach
        continue
      }
      // The side goes on in the side before: it is cut where it does.
      const piece = (shape[e]! - places[e]!) / by
      if (!Number.isInteger(piece) || piece <= 1 || sides[d]! % piece !== 0) return undefined
      throw new Cut(d, piece)
    }
  }
  return { of, at: places }
}

/** Reads through a node whose numbers are found by `strides` along its shape. */
function through(
  sides: readonly number[],
  arg: Arg,
  shape: readonly number[],
  strides: readonly number[],
  offset: number,
) {
  const found = digits(sides, arg, shape)
  if (!found) return undefined
  const dot = (steps: readonly number[]) => steps.reduce((sum, by, e) => sum + by * strides[e]!, 0)
  return { strides: found.of.map(dot), offset: offset + dot(found.at) }
}

const mostOperations = 48

/** What one stage computes, as expressions of what is in memory. Sides are cut and nodes kept as that needs. */
class Resolver {
  operations = 0
  private readonly reads = new Set<Node>()
  private readonly sides: readonly number[]
  private readonly known: Known
  private readonly own: ReadonlySet<Node>

  constructor(sides: readonly number[], known: Known, own: ReadonlySet<Node>) {
    this.sides = sides
    this.known = known
    this.own = own
  }

  read(arg: Arg): Expression {
    const { node } = arg
    if (node.kind === 'constant') return { kind: 'constant', value: node.value, whole: node.dtype !== 'float32' }
    const within = this.own.has(node) && node.kind === 'map'
    if (this.known.isStored(node) && !within) {
      this.reads.add(node)
      const strides = this.known.stridesOf(node)
      if (!strides) return { kind: 'read', operand: { node, strides: arg.strides, offset: arg.offset } }
      const found = through(this.sides, arg, node.shape, strides, 0)
      if (!found) throw new NotWritten('this way of reading padded numbers')
      return { kind: 'read', operand: { node, ...found } }
    }
    if (node.kind !== 'map') throw new Keep(node)
    if (node.formula !== 'copy' && sizeOf(this.sides) > sizeOf(node.shape)) throw new Keep(node)
    return this.apply(node, arg)
  }

  apply(node: Extract<Node, { kind: 'map' }>, seen: Arg): Expression {
    const args = node.args.map((arg) => {
      const found = through(this.sides, seen, node.shape, arg.strides, arg.offset)
      if (!found) throw new Keep(node)
      return this.read({ node: arg.node, ...found })
    })
    const tooMuch = ++this.operations > mostOperations || this.reads.size > this.known.mostReads()
    if (tooMuch && !this.own.has(node)) throw new Keep(node)
    if (node.formula === 'copy') return args[0]!
    return { kind: 'apply', formula: node.formula, args, parameter: node.parameter ?? 0 }
  }
}

function cutSide(sides: readonly number[], side: number, piece: number): number[] {
  return sides.flatMap((n, i) => (i === side ? [n / piece, piece] : [n]))
}

function cutStrides(strides: readonly number[], side: number, piece: number): number[] {
  return strides.flatMap((n, i) => (i === side ? [n * piece, n] : [n]))
}

/** A node of a loop stage, before sides are cut: what it reads or is, and its own steps along the sides. */
interface Wanted {
  node: Node
  arg: Arg
  strides: readonly number[]
}

/**
 * The stage that makes some nodes over the same sides. `keep` is told which nodes have to be in memory for that; then
 * undefined is returned, and the plan has to begin anew.
 */
export function resolveStage(nodes: readonly Node[], known: Known, keep: (node: Node) => void): LoopStage | undefined {
  const [first] = nodes
  let sides: readonly number[] = first!.kind === 'fold' ? first!.full : first!.shape
  let folded: readonly boolean[] = first!.kind === 'fold' ? first!.folded : sides.map(() => false)
  const own = new Set(nodes)
  let wanted = nodes.map(wantedOf)
  for (;;) {
    const resolver = new Resolver(sides, known, own)
    try {
      const outputs = wanted.map(({ node, arg, strides }): Output => {
        if (node.kind === 'fold')
          return { kind: 'fold', node, fold: node.fold, expression: resolver.read(arg), strides }
        if (node.kind !== 'map') throw new NotWritten(`a stage of ${node.kind}`)
        const target = known.stridesOf(node)
        const found = target ? through(sides, arg, node.shape, target, 0) : arg
        if (!found) throw new NotWritten('this way of writing padded numbers')
        return { kind: 'store', node, expression: resolver.apply(node, arg), strides: found.strides }
      })
      return { sides, folded, outputs }
    } catch (error) {
      if (error instanceof Cut) {
        const { side, piece } = error
        sides = cutSide(sides, side, piece)
        folded = folded.flatMap((is, i) => (i === side ? [is, is] : [is]))
        wanted = wanted.map(({ node, arg, strides }) => ({
          node,
          arg: { ...arg, strides: cutStrides(arg.strides, side, piece) },
          strides: cutStrides(strides, side, piece),
        }))
        continue
      }
      if (!(error instanceof Keep)) throw error
      keep(error.node)
      return undefined
    }
  }
}

function wantedOf(node: Node): Wanted {
  if (node.kind === 'fold') {
    const kept = node.full.map((side, i) => (node.folded[i] ? 1 : side))
    let step = sizeOf(kept)
    const strides = kept.map((side, i) => {
      step /= side
      return node.folded[i] ? 0 : step
    })
    return { node, arg: node.arg, strides }
  }
  const strides = new Array<number>(node.shape.length)
  let step = 1
  for (let i = node.shape.length - 1; i >= 0; i--) {
    strides[i] = step
    step *= node.shape[i]!
  }
  return { node, arg: { node, strides, offset: 0 }, strides }
}

/** Whether a node is better kept than computed again where it is read: it is dear, and read more than once. */
export function worthKeeping(node: Node, uses: number): boolean {
  if (node.kind !== 'map' || uses < 2) return false
  return costsMuch(node, 4)
}

function costsMuch(node: Node, budget: number): boolean {
  const seen = new Set<Node>()
  const visit = (each: Node): boolean => {
    if (each.kind !== 'map' || seen.has(each)) return false
    seen.add(each)
    if (costly.has(each.formula) || seen.size > 2 * budget) return true
    return each.args.some((arg) => visit(arg.node))
  }
  return visit(node)
}
