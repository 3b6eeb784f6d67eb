import type { Unavailable } from '../../errors.ts'
import type { Largest } from '../../tf.ts'
import type { Plan } from './keys.ts'
import type { Numbers, Value } from './record.ts'
import type { Update } from './updates.ts'

/** Memory that is not JavaScript's, in which a value's numbers lie. */
export interface Block {
  readonly bytes: number
  /** Where JavaScript can look into it. */
  readonly buffer?: ArrayBuffer
}

/** A compiled graph. */
export interface Compiled {
  /** For what is counted: a program of our own, or a session of a runtime. */
  readonly kind: 'program' | 'session'
  /** Gives each root its numbers or a block with them, made from those of the leaves; what it gives may still be computed. */
  run(leaves: readonly Value[], roots: readonly Value[]): void | Promise<void>
  close(): void
}

/** What compiles recorded graphs and runs them. */
export interface Computer {
  /** Whether all of it is done within the calls; else numbers can be had in promises only. */
  readonly synchronous: boolean
  /** What it takes of JavaScript in one piece, where that is less than other engines do. */
  readonly largest?: Largest
  /** Bytes that a result may have at most, where that is more: what is never stored as a whole may be larger than memory. */
  readonly largestResult?: number
  /** Thrown, where it is not, to whoever wants a number at once. */
  refusal(): Unavailable
  compile(plan: Plan, roots: readonly Value[]): Compiled | Promise<Compiled>
  /**
   * Gives an update's root its numbers, once the graph has run that computes its rows: in the memory of its base where
   * that is free, else in a copy. Where it is absent, graphs make updates themselves.
   */
  putRows?(update: Update): void | Promise<void>
  /** The numbers of a value that lie in a block which JavaScript cannot look into. */
  fetch?(value: Value): Promise<Numbers>
  /** The same within the call. */
  fetchNow?(value: Value): Numbers
  /** Memory that no value needs any longer. */
  release?(block: Block): void
  close?(): void
}
