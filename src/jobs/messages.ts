import type { Config } from '../config.ts'
import type { StopReason } from '../experiments/context.ts'
import type { EngineRecord, Failure } from '../experiments/run.ts'

/** The settings that a child needs; it does not learn the others. */
export type ChildConfig = Pick<
  Config,
  'home' | 'databaseUrl' | 's3' | 'secret' | 'publicUrl' | 'datasetFolders' | 'engine'
>

/** What the worker tells the child: one task first, later perhaps to stop at the next step boundary. */
export type ToChild =
  | { type: 'perform'; runId: string; attempt: number; definition: unknown; config: ChildConfig }
  | { type: 'probe'; engine: Config['engine'] }
  | { type: 'stop'; reason: StopReason }

/** The last thing the child tells before it ends; one that ends without a word is lost. */
export type FromChild =
  | { type: 'engine'; engine: EngineRecord }
  | { type: 'succeeded' }
  | { type: 'stopped'; reason: StopReason }
  /** `again`: what was missing may be there later. */
  | { type: 'failed'; failure: Failure; again: boolean }
  | { type: 'superseded' }
