import type { Block } from './computer.ts'
import type { Attributes } from './trace.ts'

/** The types of numbers that are recorded; what else tfjs has is computed by the fallback. */
export type Dtype = 'float32' | 'int32' | 'bool'

export type Numbers = Float32Array | Int32Array | Uint8Array

/**
 * A tensor's value. A leaf has its numbers; any other is result `output` of an operation that has not run yet, and
 * becomes a leaf when that is about to. Values never change as long as somebody can see it: leaves may share their
 * numbers with whoever wrote them.
 */
export class Value {
  readonly shape: readonly number[]
  readonly dtype: Dtype
  data: Numbers | undefined
  operation: Operation | undefined
  readonly output: number
  /** Why it could not be computed. */
  failure: unknown = undefined
  /** The leaf as the runtime takes it, made when it is first fed. */
  fed: unknown = undefined
  /** The leaf's numbers as programs take them, where it has been fed to one or was made by one. */
  block: Block | undefined = undefined
  /** Whether its numbers have been read where JavaScript has them. */
  lent = false
  /** Whether an update made the array of its numbers and nobody else has seen it. */
  ours = false
  /** Whether a tensor stands for it. */
  alive = true
  /** Its place in the graph that is being put together: among the leaves, or of its operation among the operations. */
  place = -1

  constructor(shape: readonly number[], dtype: Dtype, data?: Numbers, operation?: Operation, output = 0) {
    this.shape = shape
    this.dtype = dtype
    this.data = data
    this.operation = operation
    this.output = output
  }
}

/** One recorded computation. */
export interface Operation {
  readonly kind: string
  /** Part of the structural key: what differs from step to step has to be an input instead. */
  readonly attributes: Attributes | undefined
  readonly inputs: Value[]
  /** The shape under which each input is read: reshaping shares the value. */
  readonly shapes: readonly (readonly number[])[]
  readonly outputs: Value[]
  /** Whether a result is asked for by the graph that is being put together. */
  needed: boolean
}

/** The same as numbers that remain when the value's memory is given back. */
export function own(value: Value): Numbers {
  const numbers = known(value)
  if (value.block && numbers.buffer === value.block.buffer) return numbers.slice()
  value.ours = false
  return numbers
}

/** Whether the numbers are there, if only where the engine has them. */
export function isComputed({ data, block }: Value): boolean {
  return data !== undefined || block !== undefined
}

/** The numbers of a value that was computed. Throws what kept it from being computed. */
export function known({ data, failure }: Value): Numbers {
  if (data) return data
  throw failure
}

/** Throws what kept a value from being computed, whatever has been put in its memory since. */
export function refuseFailed({ failure }: Value): void {
  if (failure !== undefined) throw failure
}

/** Tells whoever reads the values why they could not be computed. */
export function fail(roots: readonly Value[], error: unknown): never {
  for (const root of roots) root.failure = error
  throw error
}
