import type { Failure, Progress } from '../experiments/run.ts'
import type { Database } from './database.ts'
import type { Run as RunRow } from './generated/client.ts'
import { isId } from './id.ts'
import { removeLeftovers } from './leftovers.ts'
import { begin, end, type Outcome, requestCancel } from './lifecycle.ts'
import * as pages from './pages.ts'
import { translateDatabaseError } from './pool.ts'
import type { Event, Experiment, Fence, Run } from './rows.ts'
import { type RunParts, readRunParts } from './run-parts.ts'
import { type Acceptance, accept, type Submission } from './submission.ts'
import { foldTallies } from './tallies.ts'
import { keepWorkers, type WorkerBook } from './workers.ts'

export type { Outcome } from './lifecycle.ts'
export type { ExperimentFilter, ExperimentQuery, Page, RunFilter, RunQuery } from './pages.ts'
export type {
  Artifact,
  Attempt,
  CheckpointRow,
  EmbeddingSet,
  Event,
  Experiment,
  Fence,
  Finding,
  LogLine,
  Run,
  Sample,
  Usage,
  Worker,
} from './rows.ts'
export type { Acceptance, Submission } from './submission.ts'

/** What is asked, what runs and what came of it. Every move is one transaction with its event and its notification. */
export interface Ledger extends RunParts, WorkerBook {
  accept(submission: Submission, idempotency?: { key: string; fingerprint: string }): Promise<Acceptance>
  begin(runId: string, workerId: string): Promise<{ run: Run; attempt: number } | undefined>
  end(fence: Fence, outcome: Outcome): Promise<boolean>
  /** Throws NotFound, or Conflict where the run has finished. */
  requestCancel(runId: string): Promise<Run>

  experiments(ids: readonly string[]): Promise<Map<string, Experiment>>
  runs(ids: readonly string[]): Promise<Map<string, Run>>
  runsOfExperiments(experimentIds: readonly string[]): Promise<Map<string, Run[]>>
  listExperiments(query: pages.ExperimentQuery): Promise<pages.Page<Experiment>>
  listRuns(query: pages.RunQuery): Promise<pages.Page<Run>>
  countExperiments(filter?: pages.ExperimentFilter): Promise<number>
  countRuns(filter?: pages.RunFilter): Promise<number>
  /** What happened, the oldest first; `after` is the id of the last one read. */
  events(query: { runId?: string; after?: string; first: number }): Promise<Event[]>
  /** Removes expired idempotency keys and workers that are long gone; returns how many rows that were. */
  removeLeftovers(): Promise<number>
  /** Adds what was counted lately to the totals of the lab; nothing that is counted is lost without it. */
  foldTallies(): Promise<void>
}

const toRun = (row: RunRow): Run => ({
  ...row,
  needs: row.needs as unknown as Run['needs'],
  progress: row.progress as unknown as Progress | null,
  failure: row.failure as unknown as Failure | null,
})

type Reading = Pick<
  Ledger,
  | 'experiments'
  | 'runs'
  | 'runsOfExperiments'
  | 'listExperiments'
  | 'listRuns'
  | 'countExperiments'
  | 'countRuns'
  | 'events'
>

function read({ prisma }: Database): Reading {
  const within = (ids: readonly string[]) => ({ in: ids.filter(isId) })
  return {
    async experiments(ids) {
      const rows = await prisma.experiment.findMany({ where: { id: within(ids) } })
      return new Map(rows.map((row) => [row.id, row]))
    },
    async runs(ids) {
      const rows = await prisma.run.findMany({ where: { id: within(ids) } })
      return new Map(rows.map((row) => [row.id, toRun(row)]))
    },
    async runsOfExperiments(ids) {
      const rows = await prisma.run.findMany({
        where: { experimentId: within(ids) },
        orderBy: [{ createdAt: 'asc' }, { id: 'asc' }],
      })
      const lists = new Map<string, Run[]>(ids.map((id) => [id, []]))
      for (const row of rows) lists.get(row.experimentId)?.push(toRun(row))
      return lists
    },
    listExperiments: (query) =>
      pages.readPage<Experiment>(query, pages.experimentWhere(query.filter), (args) =>
        prisma.experiment.findMany(args),
      ),
    listRuns: (query) =>
      pages.readPage<Run>(query, pages.runWhere(query.filter), async (args) =>
        (await prisma.run.findMany(args)).map(toRun),
      ),
    countExperiments: (filter) => prisma.experiment.count({ where: pages.experimentWhere(filter) }),
    countRuns: (filter) => prisma.run.count({ where: pages.runWhere(filter) }),
    async events({ runId, after, first }) {
      const id = after === undefined ? undefined : { gt: BigInt(after) }
      const rows = await prisma.event.findMany({ where: { runId, id }, orderBy: { id: 'asc' }, take: first })
      return rows.map((row) => ({ ...row, id: String(row.id) }))
    },
  }
}

/** The same functions, which say Unavailable or NoRoom where the database fails for a reason outside of the program. */
function translated<T extends object>(functions: T): T {
  const wrapped = Object.entries(functions).map(([name, call]) => [
    name,
    async (...args: unknown[]) => {
      try {
        return await call(...args)
      } catch (error) {
        throw translateDatabaseError(error)
      }
    },
  ])
  return Object.fromEntries(wrapped) as T
}

export function openLedger(database: Database): Ledger {
  const { pool } = database
  return translated<Ledger>({
    accept: (submission, idempotency) => accept(pool, submission, idempotency),
    begin: (runId, workerId) => begin(pool, runId, workerId),
    end: (fence, outcome) => end(pool, fence, outcome),
    requestCancel: (runId) => requestCancel(pool, runId),
    removeLeftovers: () => removeLeftovers(pool),
    foldTallies: () => foldTallies(pool),
    ...read(database),
    ...readRunParts(database),
    ...keepWorkers(database),
  })
}
