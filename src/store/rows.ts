import type { Needs, Offer } from '../experiments/placement.ts'
import type { Attempt, Failure, Progress, RejectedEngine, RunState } from '../experiments/run.ts'

/** What was asked, as it is kept. */
export interface Experiment {
  id: string
  name: string
  tags: string[]
  notes: string
  priority: number
  method: string | null
  dataset: string | null
  definition: unknown
  plan: unknown
  createdAt: Date
}

/** A run as it is kept. */
export interface Run {
  id: string
  experimentId: string
  name: string
  state: RunState
  priority: number
  method: string | null
  dataset: string | null
  definition: unknown
  needs: Partial<Needs>
  progress: Progress | null
  failure: Failure | null
  /** The current fencing epoch, 0 before the first attempt. */
  attempt: number
  /** Grows with every change a reader may want to see; the `seq` of notifications. */
  version: number
  cancelRequested: boolean
  createdAt: Date
  queuedAt: Date
  startedAt: Date | null
  finishedAt: Date | null
  /** Where its attempts stand in the trace of the request that asked for it (W3C trace context). */
  traceparent: string | null
}

/** Names the attempt on whose behalf something is written; a later attempt makes it void. */
export interface Fence {
  runId: string
  attempt: number
}

export type { Attempt }

/** A stored checkpoint; `key` is its place in the object store, `size` in bytes. */
export interface CheckpointRow {
  id: string
  runId: string
  attempt: number
  step: number
  final: boolean
  key: string
  size: number
  sha256: string
  createdAt: Date
}

/** A stored file of a run. */
export interface Artifact {
  id: string
  runId: string
  attempt: number
  name: string
  /** Media type. */
  type: string
  key: string
  size: number
  sha256: string
  createdAt: Date
}

/** A set of embeddings; `files` maps a role (safetensors, npy, ids, labels) to the id of an artifact. */
export interface EmbeddingSet {
  id: string
  runId: string
  name: string
  rows: number
  dimension: number
  dtype: string
  split: string
  tap: string
  dataset: string
  files: Record<string, string>
  createdAt: Date
}

/** What one evaluation found; `pictures` name artifacts. */
export interface Finding {
  runId: string
  index: number
  evaluation: string
  scores: Record<string, number>
  tables: { name: string; columns: string[]; rows: (string | number | null)[][] }[]
  pictures: { name: string; type: string; artifactId: string }[]
  createdAt: Date
}

export interface LogLine {
  runId: string
  attempt: number
  number: number
  time: Date
  level: 'info' | 'warn' | 'error'
  text: string
}

/** What the process that performs a run, and its machine, use at a moment. */
export interface Usage {
  time: Date
  /** Processor time of the process per time passed: 1 is one core. */
  cpu: number
  /** Resident memory of the process, bytes. */
  rss: number
  /** One-minute load of the machine per core. */
  systemLoad?: number | null
  /** Memory of the machine that is in use, bytes. */
  systemMemory?: number | null
}

export interface Sample extends Usage {
  runId: string
  attempt: number
}

/** Something that happened; `id` grows and is the cursor of the list. */
export interface Event {
  id: string
  time: Date
  kind: string
  experimentId: string | null
  runId: string | null
  data: unknown
}

/** The GPU of a worker as it is now; null where that is not known. Sizes are bytes. */
export interface GpuState {
  /** What it could give a further run. */
  gpuFreeBytes: number | null
  /** In use on the card, by whomever. */
  gpuUsedBytes: number | null
  /** Share of the time that something computed on it, [0, 1]. */
  gpuUtilisation: number | null
  /** Why it did not serve the last run that asked for one. */
  gpuFault: string | null
}

export interface Worker extends GpuState {
  id: string
  host: string
  pid: number
  version: string
  /** What its runs compute on; null in the rows of workers that did not say. */
  engine: string
  engineVersion: string | null
  threads: number | null
  device: string | null
  rejectedEngines: RejectedEngine[]
  cores: number
  memoryBytes: number
  concurrency: number
  /** What its runs compute on where that is a GPU; null otherwise. */
  gpuName: string | null
  /** Runs at once on it; 0 where there is none. */
  gpuSlots: number
  /** What its runs may take of its memory together; null where nobody knows. */
  gpuMemoryBytes: number | null
  /** Without the GPU where that did not serve. */
  offer: Partial<Offer>
  runIds: string[]
  startedAt: Date
  heartbeatAt: Date
  stoppedAt: Date | null
  /** Unknown: silent, which says nothing of its runs yet. Lost: silent for so long that others take its runs. */
  state: 'online' | 'unknown' | 'lost' | 'stopped'
}

/** The columns of a run under their names here. */
export const runColumns = `id, experiment_id AS "experimentId", name, state, priority, method, dataset, definition,
  needs, progress, failure, attempt, version, cancel_requested AS "cancelRequested", created_at AS "createdAt",
  queued_at AS "queuedAt", started_at AS "startedAt", finished_at AS "finishedAt", traceparent`

const words: Record<string, number> = { NaN: Number.NaN, Infinity: Infinity, '-Infinity': -Infinity }

/** JSON has no word for NaN and the infinities: they are kept as the strings of those names. */
export function encodeNumbers(values: Record<string, number>): Record<string, number | string> {
  return Object.fromEntries(
    Object.entries(values).map(([name, value]) => [name, Number.isFinite(value) ? value : String(value)]),
  )
}

export function decodeNumbers(values: Record<string, number | string>): Record<string, number> {
  return Object.fromEntries(
    Object.entries(values).map(([name, value]) => [
      name,
      typeof value === 'number' ? value : (words[value] ?? Number.NaN),
    ]),
  )
}

/** Rows by their run, every asked run present, in the order in which they came. */
export function byRun<T extends { runId: string }>(runIds: readonly string[], rows: readonly T[]): Map<string, T[]> {
  const lists = new Map<string, T[]>(runIds.map((id) => [id, []]))
  for (const row of rows) lists.get(row.runId)?.push(row)
  return lists
}
