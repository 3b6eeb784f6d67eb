import { type Constant, elementTypes, type Model, type Node } from '../emitter.ts'
import { cudaKernels, type ElementType, lacksKernel, nameOf, resultType, sharedType, typesOf } from './kernels.ts'

/** What ONNX calls each type of elements. */
const numberOf: Readonly<Record<ElementType, number>> = { ...elementTypes, double: 11 }

/** Beyond the end of any axis. */
const beyond = 2 ** 31 - 1
const lowest = -3.4028234663852886e38

/** Writes a graph anew, node by node, in forms that CUDA's provider has kernels for. */
class Fitting {
  readonly nodes: Node[] = []
  readonly constants: Constant[]
  readonly types: Map<string, ElementType>
  private readonly known: ReadonlyMap<string, Constant>
  private count = 0

  constructor(model: Model) {
    this.constants = [...model.constants]
    this.types = typesOf(model)
    this.known = new Map(model.constants.map((constant) => [constant.name, constant]))
  }

  fit(node: Node): void {
    if (node.op === 'Pad') this.fitPad(node)
    else if (node.op === 'Conv' && node.domain === '') this.add(this.withEvenPads(node))
    else if (node.op === 'MaxPool') this.add(this.withEvenPads(node, lowest))
    else this.add(node)
  }

  /** A node as it is, or between casts to a type that there is a kernel for; where there is none, it stays as it is. */
  private add(node: Node): void {
    const wide = this.widerFor(node)
    if (wide) this.addCast(node, wide)
    else this.push(node)
  }

  private push(node: Node): void {
    for (const [i, name] of node.outputs.entries()) this.types.set(name, resultType(node, this.types, i))
    this.nodes.push(node)
  }

  /** A type that holds all numbers of the one that there is no kernel for. */
  private widerFor(node: Node): ElementType | undefined {
    if (!lacksKernel(node, this.types)) return undefined
    const types = cudaKernels.get(nameOf(node))?.types ?? []
    const type = sharedType(node, this.types)
    const wider: readonly ElementType[] = type === 'bool' ? ['int32', 'float32'] : type === 'int32' ? ['double'] : []
    return wider.find((one) => types.includes(one))
  }

  private addCast(node: Node, wide: ElementType): void {
    const { operands, result } = cudaKernels.get(nameOf(node))!
    const type = sharedType(node, this.types)
    const inputs = node.inputs.map((name, i) => {
      const shared = (operands === 'all' || operands.includes(i)) && name !== ''
      return shared ? this.cast(node, name, wide) : name
    })
    const [output, ...others] = node.outputs as [string, ...string[]]
    if (result) {
      this.push({ ...node, inputs })
      return
    }
    const made = this.name()
    this.push({ ...node, inputs, outputs: [made, ...others] })
    this.push({ ...this.node(node, 'Cast', [made], { to: numberOf[type] }), outputs: [output] })
  }

  private cast(node: Node, name: string, to: ElementType): string {
    return this.emit(node, 'Cast', [name], { to: numberOf[to] })
  }

  /** Windows of cuDNN have as much padding after as before: what differs is padded beforehand. */
  private withEvenPads(node: Node, around?: number): Node {
    const pads = node.attributes.pads as readonly number[] | undefined
    const half = (pads?.length ?? 0) / 2
    if (!pads || pads.slice(0, half).every((before, axis) => before === pads[axis + half])) return node
    const even = pads.slice(0, half).map((before, axis) => Math.min(before, pads[axis + half]!))
    const rest = pads.map((side, i) => side - even[i % half]!)
    const sides = this.integers([0, 0, ...rest.slice(0, half), 0, 0, ...rest.slice(half)])
    const value = around === undefined ? [] : [this.constant('float32', [], [around])]
    const wide = this.emit(node, 'Pad', [node.inputs[0]!, sides, ...value])
    return {
      ...node,
      inputs: [wide, ...node.inputs.slice(1)],
      attributes: { ...node.attributes, pads: [...even, ...even] },
    }
  }

  /** What is cut off is a slice. */
  private fitPad(node: Node): void {
    const pads = Array.from(this.known.get(node.inputs[1]!)!.values)
    if (pads.every((side) => side >= 0)) {
      this.add(node)
      return
    }
    const rank = pads.length / 2
    const from = pads.slice(0, rank).map((side) => Math.max(0, -side))
    const to = pads.slice(rank).map((side) => (side < 0 ? side : beyond))
    const places = [this.integers(from), this.integers(to)]
    const more = pads.map((side) => Math.max(0, side))
    if (more.every((side) => side === 0)) {
      this.push({ ...this.node(node, 'Slice', [node.inputs[0]!, ...places]), outputs: node.outputs })
      return
    }
    const cut = this.emit(node, 'Slice', [node.inputs[0]!, ...places])
    this.add({ ...node, inputs: [cut, this.integers(more), ...node.inputs.slice(2)] })
  }

  private name(): string {
    return `f${this.count++}`
  }

  /** A node that stands for the same kernel as another. */
  private node(like: Node, op: string, inputs: string[], attributes: Node['attributes'] = {}): Node {
    const name = `${like.name.split('/')[0]}/${op}/f${this.nodes.length}`
    return { op, inputs, outputs: [this.name()], attributes, domain: '', name }
  }

  private emit(like: Node, op: string, inputs: string[], attributes: Node['attributes'] = {}): string {
    const made = this.node(like, op, inputs, attributes)
    this.push(made)
    return made.outputs[0]!
  }

  private integers(values: readonly number[]): string {
    return this.constant('int64', [values.length], values)
  }

  private constant(dtype: Constant['dtype'], shape: readonly number[], values: readonly number[]): string {
    const name = `k${this.constants.length}`
    this.constants.push({ name, dtype, shape, values })
    this.types.set(name, dtype)
    return name
  }
}

/**
 * A graph as CUDA's provider computes it: whole numbers and truths are wider where it has kernels for those only, padding
 * is even where cuDNN knows no other. What there is no kernel for in any type is left to the processor.
 */
export function fitToCuda(model: Model): Model {
  const fitting = new Fitting(model)
  for (const node of model.nodes) fitting.fit(node)
  return { ...model, nodes: fitting.nodes, constants: fitting.constants }
}
