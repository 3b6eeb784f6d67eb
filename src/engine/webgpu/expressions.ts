import type { Expression, Operand } from '../graph/expression.ts'
import type { Node } from '../graph/node.ts'
import { sizeOf } from '../recording/shape.ts'
import { formulas, numeral } from './formulas.ts'
import type { Bound } from './shader.ts'

/** Names for the buffers of a shader, one for each node. */
export class Bindings {
  readonly bound: Bound[] = []
  private readonly names = new Map<Node, string>()

  read(node: Node): string {
    const known = this.names.get(node)
    if (known) return known
    const name = `x${this.bound.length}`
    this.names.set(node, name)
    this.bound.push({ name, of: node, element: elementOf(node) })
    return name
  }

  write(of: Bound['of'], element: Bound['element']): string {
    const name = `y${this.bound.length}`
    this.bound.push({ name, of, element, writes: true })
    return name
  }
}

export const elementOf = ({ dtype }: Node): 'f32' | 'i32' => (dtype === 'float32' ? 'f32' : 'i32')

/** Writes expressions as lines, each part of them once. */
export class Body {
  readonly lines: string[] = []
  private readonly known = new Map<string, string>()
  private readonly bindings: Bindings
  private readonly at: (operand: Operand) => string
  private readonly prefix: string

  /** `at` is the place of an operand's number. */
  constructor(bindings: Bindings, at: (operand: Operand) => string, prefix = 'v') {
    this.bindings = bindings
    this.at = at
    this.prefix = prefix
  }

  /** The name of an expression's value, or the value where it is a known one. */
  value(expression: Expression): string {
    if (expression.kind === 'constant') return numeral(expression.value, expression.whole)
    if (expression.kind === 'read') {
      const { operand } = expression
      const single = sizeOf(operand.node.shape) === 1
      return this.keep(`${this.bindings.read(operand.node)}[${single ? '0u' : this.at(operand)}]`)
    }
    const { formula, args, parameter } = expression
    return this.keep(
      formulas[formula](
        args.map((arg) => this.value(arg)),
        parameter,
      ),
    )
  }

  private keep(text: string): string {
    const known = this.known.get(text)
    if (known) return known
    const name = `${this.prefix}${this.known.size}`
    this.known.set(text, name)
    this.lines.push(`let ${name} = ${text};`)
    return name
  }
}
