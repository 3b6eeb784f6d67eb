import type { Config } from '../config.ts'
import type { EngineChoice } from '../engine/choice.ts'
import type { StopReason } from '../experiments/context.ts'
import type { Failure, RejectedEngine } from '../experiments/run.ts'

/** The settings that a child needs; it does not learn the others. */
export type ChildConfig = Pick<
  Config,
  'home' | 'databaseUrl' | 's3' | 'secret' | 'publicUrl' | 'datasetFolders' | 'engine' | 'engineThreads' | 'tracing'
> & {
  /** Engines that the worker, choosing by itself, had to pass over. */
  passedOver?: readonly RejectedEngine[]
  /** How long a run waits for an object store that fails before its attempt does. */
  objectsPatienceSeconds: number
}

/** What the worker tells the child: one task first, later perhaps to stop at the next step boundary. */
export type ToChild =
  | {
      type: 'perform'
      runId: string
      attempt: number
      definition: unknown
      config: ChildConfig
      /** Where the attempt stands in a trace. */
      traceparent?: string | undefined
    }
  | { type: 'stop'; reason: StopReason }

/** What the process that tries engines is asked; `skip` names candidates that need no trial. */
export interface ToEngineChild {
  engine: Config['engine']
  threads: number
  skip: readonly string[]
}

/** What it tells on its way: which engine it tries next, and which does not serve. */
export type Progress = { type: 'trying'; engine: string } | { type: 'rejected'; rejected: RejectedEngine }

/** The last thing the child tells before it ends; one that ends without a word is lost. */
export type FromChild =
  | { type: 'engine'; choice: EngineChoice }
  | { type: 'succeeded' }
  | { type: 'stopped'; reason: StopReason }
  /** `again`: what was missing may be there later. */
  | { type: 'failed'; failure: Failure; again: boolean }
  | { type: 'superseded' }
