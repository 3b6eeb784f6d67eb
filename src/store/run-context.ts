import type pg from 'pg'
import type { ByteSource } from '../data/dataset.ts'
import { Superseded } from '../errors.ts'
import type { Logger, RunContext } from '../experiments/context.ts'
import type { EngineRecord } from '../experiments/run.ts'
import type { Findings } from '../models/evaluation.ts'
import { during, type Span, untraced } from '../tracing.ts'
import { latestCheckpoint, saveCheckpoint } from './checkpoints.ts'
import { putEmbeddings } from './embeddings.ts'
import { fenced, persistently } from './fence.ts'
import { openJournal } from './journal.ts'
import type { ObjectStore } from './objects.ts'
import { openOrigins } from './origins.ts'
import { encodeNumbers, type Fence, type Usage } from './rows.ts'
import { putArtifact, type RunFiles } from './stored-files.ts'

export interface RunContextOptions {
  /** Two connections are enough. */
  database: { pool: pg.Pool }
  objects: ObjectStore
  bytes: ByteSource
  fence: Fence
  stop: AbortSignal
  /** Told what the run's own log is told. */
  log?: Logger
  /** What the run is a part of in a trace; nothing is traced without. */
  span?: Span
  /** Seconds to wait for a database that is away. */
  patience?: number
}

/** The window of a run to the service, with what only its process needs. */
export interface ServiceContext extends RunContext {
  /** What computes this attempt. */
  recordEngine(engine: EngineRecord): Promise<void>
  sample(usage: Usage): void
  /** How the GPU that computes is: metrics of the step at work, one of each a step. */
  gpu(usage: { utilisation?: number; usedBytes?: number }): void
  /** Gives up what has not been flushed. */
  close(): Promise<void>
}

/** The file name of a picture may be shown and saved: nothing but plain signs. */
function pictureName(index: number, evaluation: string, name: string, type: string): string {
  const plain = name.replace(/[^A-Za-z0-9_-]+/g, '-')
  return `findings/${index}-${evaluation}-${plain}.${type === 'image/png' ? 'png' : 'svg'}`
}

async function reportFindings(files: RunFiles, index: number, evaluation: string, findings: Findings): Promise<void> {
  const pictures: { name: string; type: string; artifactId: string }[] = []
  for (const { name, type, bytes } of findings.pictures ?? []) {
    const artifactId = await putArtifact(files, pictureName(index, evaluation, name, type), type, bytes)
    pictures.push({ name, type, artifactId })
  }
  const notFinite = (_key: string, value: unknown) =>
    typeof value === 'number' && !Number.isFinite(value) ? String(value) : value
  const row = [
    files.fence.runId,
    index,
    evaluation,
    JSON.stringify(encodeNumbers(findings.scores)),
    JSON.stringify(findings.tables ?? [], notFinite),
    JSON.stringify(pictures),
  ]
  await files.write((client) =>
    client.query(
      `INSERT INTO findings (run_id, index, evaluation, scores, tables, pictures) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (run_id, index) DO UPDATE SET evaluation = excluded.evaluation, scores = excluded.scores,
           tables = excluded.tables, pictures = excluded.pictures, created_at = now()`,
      row,
    ),
  )
}

/**
 * Opens the window of an attempt to the service. Every write is fenced: once another attempt has begun, or the run has
 * ended, calls throw Superseded and `stop` is aborted with that reason. While the database is away writes wait, in
 * bounds; then calls throw Unavailable.
 */
export async function openRunContext(options: RunContextOptions): Promise<ServiceContext> {
  const { objects, bytes, fence, log: outer } = options
  const { pool } = options.database
  const lost = new AbortController()
  const closing = new AbortController()
  let told = false
  const patience = {
    seconds: options.patience ?? 120,
    signal: closing.signal,
    onWait: (error: unknown) => {
      if (!told) outer?.warn(`the database is away, waiting: ${(error as Error).message}`)
      told = true
    },
  }
  const journal = openJournal(pool, fence, patience, (error) => {
    if (error instanceof Superseded) lost.abort('superseded')
    else outer?.error(error.message)
  })
  const say = (level: 'info' | 'warn' | 'error') => (text: string) => {
    outer?.[level](text)
    journal.line(level, text)
  }
  const log = { info: say('info'), warn: say('warn'), error: say('error') }
  const files: RunFiles = {
    pool,
    objects,
    fence,
    patience,
    log,
    async write(work) {
      const result = await persistently(patience, () => fenced(pool, fence, work))
      journal.owe()
      return result
    },
  }
  /** Whoever learns first that the attempt is over makes the rest stop too. */
  async function own<T>(work: Promise<T>): Promise<T> {
    return work.catch((error: unknown) => {
      if (error instanceof Superseded) lost.abort('superseded')
      throw error
    })
  }
  await files.write(async () => {})
  /** Up to which step this attempt has trained; it goes on from a checkpoint, not from the beginning. */
  let trained = 0
  /** The step of which the GPU was told last. */
  let measured = 0
  /** The phase at work; one follows the other, and a checkpoint is stored beside them. */
  let at = options.span ?? untraced.begin('run', undefined)
  return {
    log,
    bytes,
    stop: AbortSignal.any([options.stop, lost.signal]),
    metrics: {
      report(step, values) {
        const time = new Date()
        journal.points(Object.entries(values).map(([name, value]) => ({ name, step, value, time })))
      },
    },
    progress(progress) {
      const steps = Math.max(0, progress.step - trained)
      trained += steps
      journal.progress(progress, steps)
    },
    checkpoints: {
      async latest() {
        const found = await during(at, 'read checkpoint', () => own(latestCheckpoint(files)))
        trained = found?.step ?? 0
        measured = trained
        return found
      },
      async save(checkpoint, { final = false } = {}) {
        // What led to a checkpoint must not be missing after it: a later attempt does not repeat those steps.
        await during(at, 'checkpoint', async () => {
          await journal.flush()
          await own(saveCheckpoint(files, checkpoint, final))
        })
      },
    },
    origins: openOrigins({ pool, objects }),
    artifacts: { put: async (name, type, content) => void (await own(putArtifact(files, name, type, content))) },
    embeddings: { put: (name, meta, rows) => own(putEmbeddings(files, name, meta, rows)) },
    findings: { report: (index, evaluation, findings) => own(reportFindings(files, index, evaluation, findings)) },
    phase(name, work) {
      const outer = at
      return during(outer, name, (part) => {
        at = part
        return work().finally(() => {
          at = outer
        })
      })
    },
    flush: () => journal.flush(),
    async recordEngine(engine) {
      await files.write((client) =>
        client.query('UPDATE attempts SET engine = $3 WHERE run_id = $1 AND number = $2', [
          fence.runId,
          fence.attempt,
          JSON.stringify(engine),
        ]),
      )
    },
    sample: (usage) => journal.sample(usage),
    gpu({ utilisation, usedBytes }) {
      if (trained === measured) return
      measured = trained
      const values = Object.entries({ gpuUtilisation: utilisation, gpuMemoryBytes: usedBytes })
      const time = new Date()
      journal.extra(
        values.flatMap(([name, value]) => (value === undefined ? [] : [{ name, step: trained, value, time }])),
      )
    },
    async close() {
      closing.abort()
      await journal.close()
    },
  }
}
