/** The states of a run. `queued` and `running` are under way, the last three are ends. */
export const runStates = ['queued', 'running', 'paused', 'succeeded', 'failed', 'cancelled'] as const
export type RunState = (typeof runStates)[number]

/** The allowed moves; everything else is refused with Conflict. running -> queued: the worker was lost or stopped. */
export const moves: Record<RunState, readonly RunState[]> = {
  queued: ['running', 'cancelled', 'paused', 'failed'],
  running: ['succeeded', 'failed', 'cancelled', 'paused', 'queued'],
  paused: ['queued', 'cancelled'],
  succeeded: [],
  failed: [],
  cancelled: [],
}

export function isFinished(state: RunState): boolean {
  return moves[state].length === 0
}

/** Where a run stands. Rates and times are measured, not planned; `secondsLeft` covers the stage only. */
export interface Progress {
  stage: 'preparing' | 'training' | 'evaluating' | 'exporting'
  /** What the stage works on: an evaluation's name, an embedding set. */
  detail?: string
  /** Epochs finished plus the share of the running one, and epochs in all. */
  epoch: number
  epochs: number
  step: number
  steps: number
  loss: number | null
  imagesPerSecond: number | null
  secondsLeft: number | null
  /** Share of the whole run done, [0, 1]. */
  share: number
}

/** Why a run failed, as its owner reads it. */
export interface Failure {
  code: string
  message: string
  cure: string
}

/** What computed an attempt. */
export interface EngineRecord {
  name: string
  version: string
  threads: number
  device: string
  /** Whether `device` is a GPU. */
  gpu?: boolean
  /** Of the GPU in bytes, where the engine knows it. */
  gpuMemory?: number
  /** Whether it can store activations in half precision. */
  half?: boolean
}

/** An engine that was tried and does not serve on a machine. */
export interface RejectedEngine {
  engine: string
  reason: string
  cure: string
}

/** Seconds and words for a person: when it is not there, null. */
export interface Attempt {
  /** The fencing epoch, from 1. */
  number: number
  workerId: string | null
  engine: EngineRecord | null
  startedAt: Date
  endedAt: Date | null
  outcome: 'succeeded' | 'failed' | 'cancelled' | 'paused' | 'released' | 'lost' | null
  /** The step of the checkpoint it went on from; 0 is a fresh start. */
  resumedFrom: number | null
  /** Why its worker gave the run back, for a person; null where the outcome says it. */
  reason: string | null
}
