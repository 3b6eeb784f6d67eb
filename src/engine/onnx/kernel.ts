import type { Operation } from '../recording/record.ts'
import type { Trace } from '../recording/trace.ts'
import type { Graph } from './graph.ts'

/** Writes one operation as nodes of a graph; runs only for a graph of a structure not seen before. */
export type Lowering = (operation: Operation, graph: Graph) => void

export interface KernelGroup {
  /** By the name that tfjs gives the kernel. */
  traces: Record<string, Trace>
  /** By the kind of operation. */
  lowerings: Record<string, Lowering>
}
