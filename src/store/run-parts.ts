import type { EngineRecord } from '../experiments/run.ts'
import type { Database } from './database.ts'
import { isId } from './id.ts'
import {
  type Artifact,
  type Attempt,
  byRun,
  type CheckpointRow,
  decodeNumbers,
  type EmbeddingSet,
  type Finding,
  type LogLine,
  type Sample,
} from './rows.ts'

type Ids = readonly string[]
type ByRun<T> = Promise<Map<string, T[]>>

/** What belongs to runs, read for any number of them in one statement each. */
export interface RunParts {
  attempts(runIds: Ids): ByRun<Attempt & { runId: string }>
  /** The newest first. */
  checkpoints(runIds: Ids): ByRun<CheckpointRow>
  checkpoint(id: string): Promise<CheckpointRow | undefined>
  /** By their own ids. */
  checkpointsNamed(ids: Ids): Promise<Map<string, CheckpointRow>>
  artifacts(runIds: Ids): ByRun<Artifact>
  artifact(id: string): Promise<Artifact | undefined>
  embeddings(runIds: Ids): ByRun<EmbeddingSet>
  findings(runIds: Ids): ByRun<Finding>
  /** The last lines of each run, the oldest of them first. */
  log(runIds: Ids, last: number): ByRun<LogLine>
  samples(runIds: Ids, last: number): ByRun<Sample>
}

/** The last rows of each run by an index, however many there are. */
function lastRows(columns: string, table: string, order: readonly string[]): string {
  const newest = order.map((column) => `${column} DESC`).join(', ')
  const oldest = order.map((column) => `part.${column}`).join(', ')
  return `SELECT part.* FROM unnest($1::uuid[]) AS run (id) CROSS JOIN LATERAL (
      SELECT run_id AS "runId", ${columns} FROM ${table} WHERE run_id = run.id ORDER BY ${newest} LIMIT $2
    ) AS part ORDER BY part."runId", ${oldest}`
}

const logLines = lastRows('attempt, number, time, level, text', 'run_log', ['attempt', 'number'])
const sampleRows = lastRows(
  'attempt, time, cpu, rss::float8, system_load AS "systemLoad", system_memory::float8 AS "systemMemory"',
  'run_samples',
  ['time'],
)

export function readRunParts({ prisma, pool }: Database): RunParts {
  const of = (runIds: Ids) => ({ runId: { in: runIds.filter(isId) } })
  const sized = <T extends { size: bigint }>(row: T) => ({ ...row, size: Number(row.size) })
  return {
    async attempts(runIds) {
      const rows = await prisma.attempt.findMany({ where: of(runIds), orderBy: { number: 'asc' } })
      return byRun(
        runIds,
        rows.map((row) => ({ ...row, engine: row.engine as EngineRecord | null })),
      )
    },
    async checkpoints(runIds) {
      const rows = await prisma.storedCheckpoint.findMany({
        where: of(runIds),
        orderBy: [{ attempt: 'desc' }, { step: 'desc' }],
      })
      return byRun(runIds, rows.map(sized))
    },
    async checkpoint(id) {
      if (!isId(id)) return undefined
      const row = await prisma.storedCheckpoint.findUnique({ where: { id } })
      return row ? sized(row) : undefined
    },
    async checkpointsNamed(ids) {
      const rows = await prisma.storedCheckpoint.findMany({ where: { id: { in: ids.filter(isId) } } })
      return new Map(rows.map((row) => [row.id, sized(row)]))
    },
    async artifacts(runIds) {
      return byRun(runIds, (await prisma.artifact.findMany({ where: of(runIds), orderBy: { name: 'asc' } })).map(sized))
    },
    async artifact(id) {
      if (!isId(id)) return undefined
      const row = await prisma.artifact.findUnique({ where: { id } })
      return row ? sized(row) : undefined
    },
    async embeddings(runIds) {
      const rows = await prisma.embeddingSet.findMany({ where: of(runIds), orderBy: { name: 'asc' } })
      return byRun(
        runIds,
        rows.map((row) => ({ ...row, files: row.files as Record<string, string> })),
      )
    },
    async findings(runIds) {
      const rows = await prisma.finding.findMany({ where: of(runIds), orderBy: { index: 'asc' } })
      return byRun(
        runIds,
        rows.map((row) => ({
          ...row,
          scores: decodeNumbers(row.scores as Record<string, number | string>),
          tables: row.tables as unknown as Finding['tables'],
          pictures: row.pictures as unknown as Finding['pictures'],
        })),
      )
    },
    async log(runIds, last) {
      return byRun(runIds, (await pool.query<LogLine>(logLines, [runIds.filter(isId), last])).rows)
    },
    async samples(runIds, last) {
      return byRun(runIds, (await pool.query<Sample>(sampleRows, [runIds.filter(isId), last])).rows)
    },
  }
}
