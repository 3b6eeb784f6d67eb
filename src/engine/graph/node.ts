import { Unavailable } from '../../errors.ts'
import type { Dtype } from '../recording/record.ts'
import { sizeOf } from '../recording/shape.ts'
import type { FormulaName } from './formulas.ts'

/** Thrown where a graph has something that an engine has no code for; another way has to compute it. */
export class NotWritten extends Unavailable {
  readonly what: string

  constructor(what: string) {
    super(`this engine has no code for ${what}`, 'choose another engine: GESTALT_ENGINE=onnx')
    this.what = what
  }
}

/**
 * How a node's numbers are read: the number for place (i, j, ...) is number offset + i strides[0] + j strides[1] + ...
 * of the node, counted as its numbers follow each other, whatever its shape.
 */
export interface Arg {
  node: Node
  strides: readonly number[]
  offset: number
}

/**
 * Zeros around images [n, h, w, c], rows at the top, columns at the left, at the bottom and at the right, and how far
 * the images' own rows and columns are from each other: 1, 1 without zeros in between.
 */
export type Halo = readonly [top: number, left: number, bottom: number, right: number, rows: number, columns: number]

export type Fold = 'sum' | 'product' | 'max' | 'min'

/** How two parts of a fold become one, of floats and of whole numbers. */
const combining = {
  sum: ['add', 'addWhole'],
  product: ['multiply', 'multiplyWhole'],
  max: ['maximum', 'maximumWhole'],
  min: ['minimum', 'minimumWhole'],
} as const satisfies Record<Fold, readonly [FormulaName, FormulaName]>

/** What is done to each result before it is stored; found out when all operations are nodes. */
export interface Finish {
  /** Added: [columns]. */
  bias?: Node
  relu?: boolean
  /** Multiplied by 1 where this, of the result's shape, is above 0, else by 0. */
  where?: Node
}

export interface SpecialInput {
  node: Node
  /** What has to be in memory: surrounded by zeros, or at least wherever its strides say, or simply in its order. */
  halo?: Halo
  strided?: true
}

export interface ProductSides {
  batch: number
  rows: number
  inner: number
  columns: number
}

/** What a product multiplies, each side read by its strides as [batch, rows, columns]. */
export interface ProductSpecial {
  left: Arg
  right: Arg
  sides: ProductSides
}

/** What an engine computes in a way of its own; it adds to this how. */
export interface Special {
  name: string
  inputs: SpecialInput[]
  /** Whether the result can be written between rows and columns of zeros. */
  strided: boolean
  /** Where it can do more to its results before it stores them: what. */
  finish?: Finish
  /** Where it is a product. */
  product?: ProductSpecial
}

interface Common {
  readonly shape: readonly number[]
  readonly dtype: Dtype
  readonly number: number
}

export type Node = Common &
  (
    | { kind: 'leaf'; leaf: number }
    | { kind: 'constant'; value: number }
    | { kind: 'table'; words: readonly number[] }
    | { kind: 'map'; formula: FormulaName; args: readonly Arg[]; parameter?: number | undefined }
    /** `full` is what is read, of which the folded sides disappear. */
    | { kind: 'fold'; fold: Fold; arg: Arg; full: readonly number[]; folded: readonly boolean[] }
    | { kind: 'special'; special: Special }
  )

type Kind<K extends Node['kind']> = Extract<Node, { kind: K }>
export type MapNode = Kind<'map'>
export type FoldNode = Kind<'fold'>
export type SpecialNode = Kind<'special'>

export function rowStrides(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length)
  let step = 1
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = step
    step *= shape[i]!
  }
  return strides
}

/** Reads a node as numbers of a shape, one after the other. */
export function whole(node: Node, shape: readonly number[] = node.shape): Arg {
  return { node, strides: rowStrides(shape), offset: 0 }
}

/** Reads what is seen under `from` as `to`, repeated along sides that `from` lacks or has once. */
export function spread(node: Node, from: readonly number[], to: readonly number[]): Arg {
  const strides = rowStrides(from)
  const missing = to.length - from.length
  return {
    node,
    strides: to.map((_, i) => (i < missing || from[i - missing] === 1 ? 0 : strides[i - missing]!)),
    offset: 0,
  }
}

/** Puts nodes together; they are numbered as they are made, so that each comes after what it reads. */
export class Nodes {
  readonly all: Node[] = []
  readonly threads: number

  private readonly cutsFolds: boolean

  constructor(threads: number, cutsFolds = true) {
    this.threads = threads
    this.cutsFolds = cutsFolds
  }

  private keep<N extends Node>(node: N): N {
    this.all.push(node)
    return node
  }

  private common(shape: readonly number[], dtype: Dtype): Common {
    return { shape, dtype, number: this.all.length }
  }

  leaf(leaf: number, shape: readonly number[], dtype: Dtype): Node {
    return this.keep({ ...this.common(shape, dtype), kind: 'leaf', leaf })
  }

  constant(value: number, dtype: Dtype = 'float32'): Node {
    return this.keep({ ...this.common([], dtype), kind: 'constant', value })
  }

  /** Known numbers, as words. */
  table(words: readonly number[], dtype: Dtype): Node {
    return this.keep({ ...this.common([words.length], dtype), kind: 'table', words })
  }

  map(formula: FormulaName, args: readonly Arg[], shape: readonly number[], dtype: Dtype, parameter?: number): MapNode {
    return this.keep({ ...this.common(shape, dtype), kind: 'map', formula, args, parameter })
  }

  special<S extends Special>(shape: readonly number[], dtype: Dtype, special: S): SpecialNode {
    return this.keep({ ...this.common(shape, dtype), kind: 'special', special })
  }

  /**
   * Folds sides of what is read. Where there is much to fold into little, threads fold parts, and those are folded
   * where they are read; how many parts does not depend on the threads, so that the result does not either.
   */
  fold(fold: Fold, seen: Arg, shape: readonly number[], sides: readonly boolean[]): Node {
    const places = shape.map((_, i) => i).filter((i) => shape[i] !== 1)
    const arg: Arg = { ...seen, strides: places.map((i) => seen.strides[i]!) }
    const [full, folded] = [places.map((i) => shape[i]!), places.map((i) => sides[i]!)]
    const { dtype } = arg.node
    if (!folded.includes(true)) return this.map('copy', [arg], full, dtype)
    const kept = full.filter((_, i) => !folded[i])
    const fewLeading = folded[0] && folded.every((is, i) => is === (i === 0)) && full[0]! <= 8
    if (fewLeading) return this.combine(fold, kept, dtype, full[0]!, arg.node, arg)
    const make = (of: Arg, shape: readonly number[], sides: readonly boolean[], result: readonly number[]): Node =>
      this.keep({ ...this.common(result, dtype), kind: 'fold', fold, arg: of, full: shape, folded: sides })
    const enoughRows = folded.at(-1) && sizeOf(kept) >= 32
    const cut = this.cutsFolds && sizeOf(full) > smallStage && !enoughRows ? this.partsOf(full, folded) : undefined
    if (!cut) return make(arg, full, folded, kept)
    const { side, parts } = cut
    const { strides } = arg
    const rest = full.map((count, i) => (i === side ? count / parts : count))
    const of = { ...arg, strides: [rest[side]! * strides[side]!, ...strides] }
    const made = make(of, [parts, ...rest], [false, ...folded], [parts, ...kept])
    return this.combine(fold, kept, dtype, parts, made, whole(made))
  }

  /** Into how many parts which of the folded sides can be cut. */
  private partsOf(full: readonly number[], folded: readonly boolean[]): { side: number; parts: number } | undefined {
    for (const parts of [8, 16, 12, 10, 9, 7, 14, 6, 5, 4, 3, 2])
      for (const [side, count] of full.entries())
        if (folded[side] && count % parts === 0 && count > parts) return { side, parts }
    return undefined
  }

  /** Folds `count` pieces of the shape that follow each other. */
  private combine(fold: Fold, shape: readonly number[], dtype: Dtype, count: number, node: Node, pieces: Arg): Node {
    const [step, ...strides] = pieces.strides
    const piece = (i: number): Arg => ({ node, strides, offset: pieces.offset + i * step! })
    const formula = combining[fold][dtype === 'float32' ? 0 : 1]
    let made: Arg = piece(0)
    for (let i = 1; i < count; i++) made = whole(this.map(formula, [made, piece(i)], shape, dtype))
    return count === 1 ? this.map('copy', [made], shape, dtype) : made.node
  }
}

/** Stages of up to so many numbers are one thread's work. */
export const smallStage = 4096
