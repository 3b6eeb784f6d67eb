import type { tf } from '../../tf.ts'
import type { Numbers } from './record.ts'

type TensorInfo = tf.TensorInfo

export type Attributes = Readonly<Record<string, unknown>>

/** What a kernel's trace can do. Whoever makes a tensor gives it back or releases it. */
export interface Tracer {
  /** Records one operation of a kind that has a lowering, and gives its results. */
  operation(
    kind: string,
    inputs: readonly TensorInfo[],
    outputs: readonly { shape: readonly number[]; dtype: TensorInfo['dtype'] }[],
    attributes?: Attributes,
  ): TensorInfo[]
  /** The same numbers in another shape of the same size. */
  view(x: TensorInfo, shape: readonly number[]): TensorInfo
  /** Known numbers; they become an input of the graph, so that other numbers need no other graph. */
  leaf(values: Numbers, shape: readonly number[], dtype: TensorInfo['dtype']): TensorInfo
  /** The numbers where they are known already. */
  numbers(x: TensorInfo): Numbers | undefined
  release(x: TensorInfo): void
}

/**
 * Infers shapes when a kernel is called and records what it will compute. `inputs` of a list are numbered. Undefined
 * where the kernel has to be computed by the fallback.
 */
export type Trace = (
  inputs: Record<string, TensorInfo>,
  attributes: Attributes,
  tracer: Tracer,
) => TensorInfo | TensorInfo[] | undefined
