import { buffer } from 'node:stream/consumers'
import type { ByteSource } from '../data/dataset.ts'
import { NotFound } from '../errors.ts'
import type { Checkpoint } from '../models/checkpoint.ts'
import type { Findings } from '../models/evaluation.ts'
import type { EmbeddingMeta, RunContext } from './context.ts'
import type { Origins } from './from.ts'
import type { Progress } from './run.ts'

/** All that a run told its context, in order. */
export interface Recorded {
  log: { level: 'info' | 'warn' | 'error'; text: string }[]
  metrics: { step: number; values: Record<string, number> }[]
  progress: Progress[]
  /** Those kept: the newest two and the final one. */
  checkpoints: { checkpoint: Checkpoint; final: boolean }[]
  artifacts: Map<string, { type: string; bytes: Uint8Array }>
  /** `rows` is [meta.rows, meta.dimension], row-major. */
  embeddings: Map<string, { meta: EmbeddingMeta; rows: Float32Array }>
  findings: { evaluation: string; findings: Findings }[]
  flushes: number
}

export interface MemoryContext extends RunContext {
  recorded: Recorded
}

export interface MemoryContextOptions {
  /** Never where absent. */
  stop?: AbortSignal
  /** Where an earlier run of the same definition left off. */
  checkpoints?: Recorded['checkpoints']
  /** What there is to start from; nothing where absent. */
  origins?: Origins
}

function emptyRecord(checkpoints: Recorded['checkpoints']): Recorded {
  return {
    log: [],
    metrics: [],
    progress: [],
    checkpoints: [...checkpoints],
    artifacts: new Map(),
    embeddings: new Map(),
    findings: [],
    flushes: 0,
  }
}

async function collect(meta: EmbeddingMeta, rows: AsyncIterable<Float32Array>): Promise<Float32Array> {
  const all = new Float32Array(meta.rows * meta.dimension)
  let at = 0
  for await (const block of rows) {
    all.set(block, at)
    at += block.length
  }
  if (at !== all.length) throw new RangeError(`${at} numbers were given for ${meta.rows} rows of ${meta.dimension}`)
  return all
}

const none = () => new NotFound('there is nothing in memory to start from', 'give createMemoryContext `origins`')

const noOrigins: Origins = {
  find: async () => {
    throw none()
  },
  // biome-ignore lint/correctness/useYield: there is nothing to read
  async *read() {
    throw none()
  },
}

/** The in-memory twin of a run's window to the service: everything lands in `recorded`. For tests and notebooks. */
export function createMemoryContext(bytes: ByteSource, options: MemoryContextOptions = {}): MemoryContext {
  const recorded = emptyRecord(options.checkpoints ?? [])
  const write = (level: 'info' | 'warn' | 'error') => (text: string) => {
    recorded.log.push({ level, text })
  }
  return {
    recorded,
    phase: (_name, work) => work(),
    bytes,
    stop: options.stop ?? new AbortController().signal,
    log: { info: write('info'), warn: write('warn'), error: write('error') },
    metrics: { report: (step, values) => void recorded.metrics.push({ step, values: { ...values } }) },
    progress: (progress) => void recorded.progress.push({ ...progress }),
    checkpoints: {
      latest: async () => {
        const last = recorded.checkpoints.at(-1)
        return last && structuredClone(last.checkpoint)
      },
      save: async (checkpoint, { final = false } = {}) => {
        recorded.checkpoints.push({ checkpoint: structuredClone(checkpoint), final })
        const newest = recorded.checkpoints.length - 2
        recorded.checkpoints = recorded.checkpoints.filter((kept, i) => kept.final || i >= newest)
      },
    },
    origins: options.origins ?? noOrigins,
    artifacts: {
      put: async (name, type, content) => {
        recorded.artifacts.set(name, { type, bytes: content instanceof Uint8Array ? content : await buffer(content) })
      },
    },
    embeddings: {
      put: async (name, meta, rows) => {
        recorded.embeddings.set(name, { meta, rows: await collect(meta, rows) })
      },
    },
    findings: {
      report: async (index, evaluation, findings) => {
        recorded.findings[index] = { evaluation, findings }
      },
    },
    flush: async () => {
      recorded.flushes++
    },
  }
}

/** Files in memory, by path; none where absent. */
export function memoryBytes(files: Record<string, Uint8Array> = {}): ByteSource {
  const find = (path: string) => (Object.hasOwn(files, path) ? files[path] : undefined)
  return {
    stat: async (path) => {
      const file = find(path)
      return file && { size: file.length }
    },
    read: async (path, range) => {
      const file = find(path)
      if (!file) throw new NotFound(`there is no file '${path}' in memory`, 'give it to memoryBytes')
      return range ? file.subarray(range.start, range.end) : file
    },
  }
}
