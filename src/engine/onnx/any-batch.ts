import { InvalidDefinition } from '../../errors.ts'
import { textOf } from '../recording/keys.ts'
import type { Constant, Model, Node } from './emitter.ts'

/** A graph that was recorded for so many images. */
export interface Recorded {
  model: Model
  images: number
}

/** Names that the graph of a recording has not. */
export interface Names {
  /** The graph's input [images, ...]. */
  input: string
  /** Before names of what is added. */
  prefix: string
}

const refusal = (why: string) =>
  new InvalidDefinition(
    [{ pointer: '/tap', detail: `cannot be exported for any number of images: ${why}` }],
    'the export',
  )

const sameNumbers = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  a === b || (a.length === b.length && Array.from(a).every((value, i) => Object.is(value, b[i])))

/** What a whole number in both recordings is for n images: fixed + each n. */
interface Affine {
  fixed: number[]
  each: number[]
}

function affine(a: ArrayLike<number>, b: ArrayLike<number>, few: number, many: number): Affine | undefined {
  if (a.length !== b.length) return undefined
  const each = Array.from(a, (value, i) => (b[i]! - value) / (many - few))
  if (!each.every(Number.isInteger)) return undefined
  return { each, fixed: Array.from(a, (value, i) => value - each[i]! * few) }
}

/** The number that all of a constant are, where that is one. */
function uniform({ values }: Constant): number | undefined {
  const first = values[0]
  return Array.from(values).every((value) => Object.is(value, first)) ? first : undefined
}

/** Puts sizes that follow the number of images into a graph. */
class Sizes {
  readonly nodes: Node[] = []
  readonly constants: Constant[] = []
  private readonly known = new Map<string, string>()
  private readonly names: Names
  constructor(names: Names) {
    this.names = names
  }

  private constant(values: readonly number[], dtype: Constant['dtype'] = 'int64'): string {
    const name = `${this.names.prefix}${this.constants.length}`
    this.constants.push({ name, dtype, shape: [values.length], values })
    return name
  }

  private emit(op: string, inputs: string[]): string {
    const output = `${this.names.prefix}n${this.nodes.length}`
    this.nodes.push({ op, inputs, outputs: [output], attributes: {}, domain: '', name: `${op}/${output}` })
    return output
  }

  private remember(key: string, make: () => string): string {
    const name = this.known.get(key) ?? make()
    this.known.set(key, name)
    return name
  }

  /** [1]: how many images there are. */
  private count(): string {
    return this.remember('count', () =>
      this.emit('Gather', [this.emit('Shape', [this.names.input]), this.constant([0])]),
    )
  }

  /** Numbers fixed + each n. */
  of({ fixed, each }: Affine): string {
    return this.remember(`${fixed};${each}`, () =>
      this.emit('Add', [this.emit('Mul', [this.count(), this.constant(each)]), this.constant(fixed)]),
    )
  }

  /** One number in a shape. */
  filled(dtype: Constant['dtype'], value: number, shape: Affine): string {
    return this.remember(`${dtype} ${value} ${shape.fixed};${shape.each}`, () =>
      this.emit('Expand', [this.constant([value], dtype), this.of(shape)]),
    )
  }

  /** The same for a new shape: where one side is open the runtime finds it by itself. */
  shape({ fixed, each }: Affine): string {
    const sides = fixed.map((side, i) => (each[i] === 0 ? side : -1))
    const open = each.filter((factor) => factor !== 0).length
    if (open !== 1 || sides.includes(0)) return this.of({ fixed, each })
    return this.remember(`${sides}`, () => this.constant(sides))
  }
}

function assertAlike(a: Node, b: Node): void {
  const alike = a.op === b.op && a.domain === b.domain && a.inputs.length === b.inputs.length
  if (!alike || textOf(a.attributes) !== textOf(b.attributes) || a.outputs.join() !== b.outputs.join())
    throw refusal(`${a.name.split('/')[0]} depends on how many there are`)
}

/**
 * A graph for any number of images, from two recordings of it for different numbers: where they differ in a whole number
 * that grows evenly with the images, it is computed from their number. Throws InvalidDefinition where they differ in
 * anything else.
 */
export function forAnyBatch(first: Recorded, second: Recorded, names: Names): Model {
  const [a, b] = [first.model, second.model]
  if (a.nodes.length !== b.nodes.length) throw refusal('its computation depends on how many there are')
  const constantsOf = (model: Model) => new Map(model.constants.map((constant) => [constant.name, constant]))
  const [inA, inB] = [constantsOf(a), constantsOf(b)]
  const sizes = new Sizes(names)
  const resize = (node: Node, mine: Constant, theirs: Constant): string => {
    const of = (x: ArrayLike<number>, y: ArrayLike<number>) => affine(x, y, first.images, second.images)
    const { dtype, shape, values, name } = mine
    if (dtype === theirs.dtype && sameNumbers(shape, theirs.shape) && sameNumbers(values, theirs.values)) return name
    const grows = dtype === 'int64' && theirs.dtype === 'int64' ? of(values, theirs.values) : undefined
    if (grows) return node.op === 'Reshape' ? sizes.shape(grows) : sizes.of(grows)
    const [value, sides] = [uniform(mine), of(shape, theirs.shape)]
    if (value !== undefined && Object.is(value, uniform(theirs)) && sides && shape.length > 0)
      return sizes.filled(dtype, value, sides)
    throw refusal(`a number in ${node.op} depends on how many there are`)
  }
  const nodes = a.nodes.map((node, i) => {
    const other = b.nodes[i]!
    assertAlike(node, other)
    const inputs = node.inputs.map((name, at) => {
      const [mine, theirs] = [inA.get(name), inB.get(other.inputs[at]!)]
      if (!mine || !theirs) {
        if (name !== other.inputs[at]) throw refusal(`${node.op} depends on how many there are`)
        return name
      }
      return resize(node, mine, theirs)
    })
    return { ...node, inputs }
  })
  const used = new Set([...nodes, ...sizes.nodes].flatMap(({ inputs }) => inputs))
  const constants = [...a.constants, ...sizes.constants].filter(({ name }) => used.has(name))
  return { ...a, nodes: [...sizes.nodes, ...nodes], constants }
}
