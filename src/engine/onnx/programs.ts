import type { Plan } from './keys.ts'
import type { Value } from './record.ts'

/** Memory that is not JavaScript's, in which a value's numbers lie. */
export interface Block {
  address: number
  bytes: number
  buffer: ArrayBuffer
  offset: number
}

/** A graph that is computed otherwise than by ONNX Runtime. */
export interface Program {
  readonly kind: 'program'
  /** Bytes of memory that it keeps. */
  readonly bytes: number
  /** Computes the roots' numbers from those of the leaves, within the call. */
  run(leaves: readonly Value[], roots: readonly Value[]): void
  close(): void
}

/** Another way to compute graphs, which is tried before ONNX Runtime. */
export interface Programs {
  /** Undefined where the graph has something that this way does not know. */
  compile(plan: Plan, roots: readonly Value[]): Program | undefined
  /** Memory that no value needs any longer. */
  release(block: Block): void
}
