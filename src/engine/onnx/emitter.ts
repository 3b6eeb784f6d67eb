import { textOf } from '../recording/keys.ts'
import type { Dtype } from '../recording/record.ts'

/** An attribute of a node: whole numbers, text, or what is marked. */
export type Attribute =
  | number
  | readonly number[]
  | string
  | { float: number }
  | { floats: readonly number[] }
  | { tensor: Omit<Constant, 'name'> }

export type Domain = '' | 'com.microsoft' | 'com.microsoft.nchwc'

export interface Node {
  op: string
  inputs: string[]
  outputs: string[]
  attributes: Record<string, Attribute>
  domain: Domain
  /** Begins with the kernel that it stands for, so that an error of the runtime can be told by it. */
  name: string
}

export interface Constant {
  name: string
  dtype: 'float32' | 'int32' | 'int64' | 'bool'
  shape: readonly number[]
  values: ArrayLike<number>
}

export interface Port {
  name: string
  dtype: Dtype
  /** A side that differs from run to run has a name instead; undefined: any shape. */
  shape: readonly (number | string)[] | undefined
}

/** An ONNX model before its encoding. */
export interface Model {
  nodes: Node[]
  inputs: Port[]
  outputs: Port[]
  constants: Constant[]
}

/** The numbers by which ONNX calls the types of elements (TensorProto.DataType). */
export const elementTypes = { float32: 1, int32: 6, int64: 7, bool: 9 } as const

/** Writes the nodes of an ONNX graph. Equal nodes and constants become one. */
export class Emitter {
  protected readonly nodes: Node[] = []
  protected readonly constants: Constant[] = []
  /** Stands before the names of nodes. */
  protected kernel = ''
  private readonly known = new Map<string, string[]>()
  private readonly knownConstants = new Map<string, string>()
  private count = 0

  emit(op: string, inputs: string[], attributes: Record<string, Attribute> = {}, domain: Domain = ''): string {
    return this.emitMany(op, inputs, 1, attributes, domain)[0]!
  }

  /** Adds a node, or finds the equal one. An empty input name is an absent optional input. */
  emitMany(
    op: string,
    inputs: string[],
    outputs: number,
    attributes: Record<string, Attribute> = {},
    domain: Domain = '',
  ): string[] {
    const key = `${domain}.${op}(${inputs.join()})${outputs}${textOf(attributes)}`
    const found = this.known.get(key)
    if (found) return found
    const made = Array.from({ length: outputs }, () => `t${this.count++}`)
    const name = `${this.kernel}/${op}/${this.nodes.length}`
    this.nodes.push({ op, inputs, outputs: made, attributes, domain, name })
    this.known.set(key, made)
    return made
  }

  constant(dtype: Constant['dtype'], shape: readonly number[], values: ArrayLike<number>): string {
    const key = `${dtype}[${shape.join()}]${Array.from(values, (value) => (Object.is(value, -0) ? '-0' : value)).join()}`
    const found = this.knownConstants.get(key)
    if (found) return found
    const name = `c${this.constants.length}`
    this.constants.push({ name, dtype, shape, values })
    this.knownConstants.set(key, name)
    return name
  }

  /** A constant int64 [n]: shapes, axes, places. */
  integers(values: readonly number[]): string {
    return this.constant('int64', [values.length], values)
  }

  scalar(value: number, dtype: Constant['dtype'] = 'float32'): string {
    return this.constant(dtype, [], [value])
  }

  reshape(name: string, shape: readonly number[]): string {
    return this.emit('Reshape', [name, this.integers(shape)], { allowzero: 1 })
  }

  transpose(name: string, perm: readonly number[]): string {
    return this.emit('Transpose', [name], { perm })
  }
}
