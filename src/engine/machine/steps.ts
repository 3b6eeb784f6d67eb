import type { Expression, LoopStage, Operand, Output } from '../graph/expression.ts'
import type { FormulaName } from '../graph/formulas.ts'
import type { Node } from '../graph/node.ts'
import type { Memory } from './operands.ts'
import type { Stored } from './special.ts'
import { moved, type Place, type Writer } from './writer.ts'

export const widthOf = (dtype: Stored['dtype']) => (dtype === 'bool' ? 1 : 4)

/** One operation on vectors: what it reads are earlier steps. */
export type Step =
  | { kind: 'read'; access: Access }
  | { kind: 'constant'; place: Memory }
  | { kind: 'apply'; formula: FormulaName; args: number[]; parameter: number }

/** A place that is read or written, and how it moves along the loops. */
export interface Access {
  place: Place
  dtype: Stored['dtype']
  /** In bytes, by side. */
  steps: number[]
}

export interface Side {
  count: number
  folded: boolean
  /** Whether each thread takes its part of it. */
  shared: boolean
}

export interface Result {
  output: Output
  access: Access
  step: number
}

/** A stage as steps, and the accesses by which its loops can be merged and cut. */
export class Loops {
  sides: Side[]
  readonly steps: Step[] = []
  readonly results: Result[]
  private readonly accesses = new Map<string, Access>()
  private readonly known = new Map<string, number>()
  private readonly w: Writer
  private readonly stored: (node: Node) => Stored

  constructor(w: Writer, stage: LoopStage, stored: (node: Node) => Stored) {
    this.w = w
    this.stored = stored
    this.sides = stage.sides.map((count, i) => ({ count, folded: stage.folded[i]!, shared: false }))
    this.results = stage.outputs.map((output) => {
      const { node, strides, expression } = output
      const { place, dtype } = stored(node)
      const size = widthOf(dtype)
      const access = { place, dtype, steps: strides.map((stride) => stride * size) }
      return { output, access, step: this.stepOf(expression) }
    })
  }

  private access({ node, strides, offset }: Operand): Access {
    const key = `${node.number} ${offset} ${strides}`
    let found = this.accesses.get(key)
    if (!found) {
      const { place, dtype } = this.stored(node)
      const size = widthOf(dtype)
      found = { place: moved(place, offset * size), dtype, steps: strides.map((stride) => stride * size) }
      this.accesses.set(key, found)
    }
    return found
  }

  private stepOf(expression: Expression): number {
    const [key, step] = this.describe(expression)
    let found = this.known.get(key)
    if (found === undefined) {
      found = this.steps.length
      this.steps.push(step)
      this.known.set(key, found)
    }
    return found
  }

  private describe(expression: Expression): [string, Step] {
    if (expression.kind === 'read') {
      const { node, offset, strides } = expression.operand
      return [`read ${node.number} ${offset} ${strides}`, { kind: 'read', access: this.access(expression.operand) }]
    }
    if (expression.kind === 'constant') {
      const { value, whole } = expression
      const place = whole ? this.w.integer(value) : this.w.float(value)
      return [`constant ${value} ${whole}`, { kind: 'constant', place }]
    }
    const { formula, parameter } = expression
    const args = expression.args.map((each) => this.stepOf(each))
    return [`${formula} ${parameter} ${args}`, { kind: 'apply', formula, args, parameter }]
  }

  all(): Access[] {
    return [...this.accesses.values(), ...this.results.map((result) => result.access)]
  }

  /** Puts the sides in another order. */
  order(places: readonly number[]): void {
    this.sides = places.map((i) => this.sides[i]!)
    for (const access of this.all()) access.steps = places.map((i) => access.steps[i]!)
  }

  /** Makes one side of two that follow each other wherever all numbers follow each other; leaves out sides of 1. */
  merge(may: (outer: Side, inner: Side) => boolean): void {
    const kept = this.sides.map((_, i) => i).filter((i) => this.sides[i]!.count !== 1)
    this.order(kept)
    for (let i = this.sides.length - 2; i >= 0; i--) {
      const [outer, inner] = [this.sides[i]!, this.sides[i + 1]!]
      if (outer.folded !== inner.folded || !may(outer, inner)) continue
      if (!this.all().every(({ steps }) => steps[i] === inner.count * steps[i + 1]!)) continue
      this.sides.splice(i, 2, { ...inner, count: outer.count * inner.count })
      for (const { steps } of this.all()) steps.splice(i, 1)
    }
    if (this.sides.length === 0) {
      this.sides.push({ count: 1, folded: false, shared: false })
      for (const access of this.all()) access.steps = [4]
    }
  }

  /** Makes two sides of one. */
  cut(i: number, piece: number): void {
    const side = this.sides[i]!
    this.sides.splice(i, 1, { ...side, count: side.count / piece }, { ...side, count: piece })
    for (const { steps } of this.all()) steps.splice(i, 1, steps[i]! * piece, steps[i]!)
  }
}
