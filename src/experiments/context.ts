import type { ByteSource } from '../data/dataset.ts'
import type { Checkpoint } from '../models/checkpoint.ts'
import type { Findings } from '../models/evaluation.ts'
import type { Origins } from './from.ts'
import type { Progress } from './run.ts'

/** What is said of a set of embeddings beside its numbers. */
export interface EmbeddingMeta {
  /** Rows in the order of the dataset. */
  rows: number
  dimension: number
  dtype: 'f32' | 'f16'
  split: 'train' | 'test'
  tap: string
  dataset: string
  /** One a row: index in the dataset. */
  ids: Int32Array
  /** One a row, where there are labels. */
  labels?: Int32Array
}

export interface Logger {
  info(text: string): void
  warn(text: string): void
  error(text: string): void
}

/** Why a run is asked to stop at the next step boundary: the `reason` of `RunContext.stop`. */
export type StopReason = 'cancelled' | 'paused' | 'shutting-down' | 'superseded'

/**
 * The only window from science to service; `experiments/memory-context.ts` is its in-memory twin for tests and
 * notebooks. Writes may be batched inside; `flush` returns when all of them are durable. Any call throws Superseded
 * once another attempt has taken the run over.
 */
export interface RunContext {
  log: Logger
  metrics: {
    /** NaN and infinities are kept as they are. */
    report(step: number, values: Record<string, number>): void
  }
  /** Where the run stands; shown to people, at most a few times a second. */
  progress(progress: Progress): void
  checkpoints: {
    /** The newest that verifies; Damaged ones are logged and passed over. */
    latest(): Promise<Checkpoint | undefined>
    /** Durable when it resolves. Keeps the newest two and the final one. */
    save(checkpoint: Checkpoint, options?: { final?: boolean }): Promise<void>
  }
  /** What a run may start from. */
  origins: Origins
  artifacts: {
    put(name: string, type: string, bytes: AsyncIterable<Uint8Array> | Uint8Array): Promise<void>
  }
  embeddings: {
    put(name: string, meta: EmbeddingMeta, rows: AsyncIterable<Float32Array>): Promise<void>
  }
  findings: {
    /** `index` is the evaluation's place in the definition; a second report replaces the first. */
    report(index: number, evaluation: string, findings: Findings): Promise<void>
  }
  /** Does a part of the run that a trace shows under its name. */
  phase<T>(name: string, work: () => Promise<T>): Promise<T>
  bytes: ByteSource
  stop: AbortSignal
  flush(): Promise<void>
}
