import type { Node, Special } from '../graph/node.ts'
import type { Dtype } from '../recording/record.ts'
import type { Place, Writer } from './writer.ts'

/** Where a node's numbers lie. */
export interface Stored {
  place: Place
  /** Numbers from one to the next along each side of the node's shape. */
  strides: readonly number[]
  dtype: Dtype
}

/** What a node of its own kind is told when its code is written. */
export interface Writing {
  w: Writer
  stored: (node: Node) => Stored
}

export interface MachineSpecial extends Special {
  write(writing: Writing): void
}
