import type { Config } from '../config.ts'
import type { EngineChoice, EngineSettings, Proven } from '../engine/choice.ts'
import type { Fault } from '../errors.ts'
import type { StopReason } from '../experiments/context.ts'
import type { Failure, RejectedEngine } from '../experiments/run.ts'
import type { GpuUsage } from './gpu-watch.ts'

/** The settings that a child needs; it does not learn the others. */
export type ChildConfig = Pick<
  Config,
  | 'home'
  | 'databaseUrl'
  | 's3'
  | 'secret'
  | 'publicUrl'
  | 'datasetFolders'
  | 'engine'
  | 'gpu'
  | 'enginePlaces'
  | 'engineThreads'
  | 'tracing'
> & {
  /** Engines that the worker, choosing by itself, had to pass over. */
  passedOver?: readonly RejectedEngine[]
  /** How long a run waits for an object store that fails before its attempt does. */
  objectsPatienceSeconds: number
}

/** What the worker tells the child: one task first, then how its GPU is, and perhaps to stop at the next step boundary. */
export type ToChild =
  | {
      type: 'perform'
      runId: string
      attempt: number
      definition: unknown
      config: ChildConfig
      /** Whether it may be computed on nothing but a GPU. */
      gpu: boolean
      /** What the worker has tested; absent after a loss, when its GPU is to prove itself again. */
      proven?: Proven | undefined
      /** Where the attempt stands in a trace. */
      traceparent?: string | undefined
    }
  | { type: 'stop'; reason: StopReason }
  /** How the GPU is that it computes on. */
  | { type: 'gpu'; usage: GpuUsage }

/** What the process that tries engines is asked; `skip` names candidates that need no trial. */
export interface ToEngineChild extends EngineSettings {
  engine: Config['engine']
  skip: readonly string[]
}

/** What the process that exports is asked: features or weights of a checkpoint, as a file. */
export interface ToExportChild {
  as: 'onnx' | 'safetensors'
  definition: unknown
  /** What the learner was built for. */
  world: { imageShape: readonly [number, number, number]; size: number; classes: number }
  checkpoint: { key: string; size: number; fileSha256: string }
  /** The activations that the file makes of images; the learner's embedding where none are named. */
  taps: readonly string[]
  /** The preset whose names the weights get; their own where absent. */
  names: string | undefined
  /** What the file says of itself. */
  facts: Record<string, string>
  /** Where to write it. */
  file: string
  config: Pick<Config, 'home' | 's3' | 'secret' | 'publicUrl'>
}

/** What it tells on its way: which engine it tries next, which does not serve, and that a GPU computes for it. */
export type Progress =
  | { type: 'trying'; engine: string }
  | { type: 'rejected'; rejected: RejectedEngine }
  | { type: 'on-gpu' }

/** The last thing the child tells before it ends; one that ends without a word is lost. */
export type FromChild =
  | { type: 'engine'; choice: EngineChoice }
  | { type: 'succeeded' }
  | { type: 'exported'; size: number }
  /** What was asked cannot be: each place, and what would be right. */
  | { type: 'refused'; faults: readonly Fault[] }
  | { type: 'stopped'; reason: StopReason }
  /**
   * `again`: what was missing may be there later. `gpuLost`: the GPU failed that it computed on. `gpuFull`: it had no
   * room left for what an emptier one may have.
   */
  | { type: 'failed'; failure: Failure; again: boolean; gpuLost?: true; gpuFull?: true }
  | { type: 'superseded' }
  /** A GPU was asked for, or is what this worker has, and what computes here now is none. */
  | { type: 'lacks-gpu'; reason: string }
