import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { childEnvironment, readConfig } from '../../src/config.ts'
import { parseDefinition } from '../../src/experiments/definition.ts'
import type { Needs } from '../../src/experiments/placement.ts'
import { openQueue, type Queue } from '../../src/jobs/queue.ts'
import { Supervisor, type SupervisorOptions } from '../../src/jobs/supervisor.ts'
import { type Database, openDatabase } from '../../src/store/database.ts'
import { newId } from '../../src/store/id.ts'
import { type Ledger, openLedger, type Run } from '../../src/store/ledger.ts'
import { testDatabase } from '../postgres.ts'

type Settings = Record<string, string>
type Machine = Omit<Parameters<Ledger['workerStarted']>[0], 'id'>

const small: Machine = { host: 'here', pid: 1, version: '0', engine: 'cpu', cores: 1, memoryBytes: 1, concurrency: 1 }

interface Start extends Partial<SupervisorOptions> {
  /** Of a worker that has signed on. */
  workerId: string
  settings?: Settings
}

/** A database, a queue and a folder of their own, and what supervisors do with them. */
export interface Supervision {
  readonly home: string
  readonly database: Database
  readonly ledger: Ledger
  readonly queue: Queue
  /** What the supervisors said. */
  readonly log: string[]
  config(settings?: Settings): ReturnType<typeof readConfig>
  /** A worker of this machine, as far as others know; its id. */
  signOn(machine?: Partial<Machine>): Promise<string>
  /** Its children compute on one thread. */
  start(options: Start): Supervisor
  submit(definition: unknown, needs?: (definition: ReturnType<typeof parseDefinition>) => Needs): Promise<string>
  read(runId: string): Promise<Run>
  attempts(runId: string): ReturnType<Ledger['attempts']> extends Promise<Map<string, infer A>> ? Promise<A> : never
  /** The lines of a run's own log. */
  said(runId: string): Promise<string[]>
  close(): Promise<void>
}

export async function openSupervision(): Promise<Supervision> {
  const home = mkdtempSync(join(tmpdir(), 'gestalt-supervision-'))
  const place = await testDatabase()
  const database = await openDatabase({ url: place.url, max: 4, name: 'gestalt-test' })
  const ledger = openLedger(database)
  const queue = await openQueue({ databaseUrl: place.url })
  const log: string[] = []
  const say = (text: string) => void log.push(text)
  const config = (settings: Settings = {}) =>
    readConfig({ DATABASE_URL: place.url, GESTALT_HOME: home, GESTALT_ENGINE_THREADS: '1', ...settings })
  return {
    ...{ home, database, ledger, queue, log, config },
    async signOn(machine = {}) {
      const id = newId()
      await ledger.workerStarted({ id, ...small, ...machine })
      return id
    },
    start({ settings, environment = {}, ...options }) {
      const surroundings = { environment: { ...childEnvironment(1), ...environment }, config: config(settings) }
      return new Supervisor({ ledger, queue, log: { info: say, warn: say, error: say }, ...surroundings, ...options })
    },
    async submit(given, needs) {
      const definition = parseDefinition(given)
      const told = { name: 'x', tags: [], notes: '', priority: 0, definition, plan: {} }
      const accepted = await ledger.accept(needs ? { ...told, needs: needs(definition) } : told)
      if (accepted.mismatch) throw new Error('no key was given')
      return accepted.runIds[0]!
    },
    read: async (runId) => (await ledger.runs([runId])).get(runId)!,
    attempts: async (runId) => (await ledger.attempts([runId])).get(runId)!,
    async said(runId) {
      const { rows } = await database.pool.query<{ text: string }>('SELECT text FROM run_log WHERE run_id = $1', [
        runId,
      ])
      return rows.map(({ text }) => text)
    },
    async close() {
      await queue.close()
      await database.close()
      await place.drop()
      rmSync(home, { recursive: true, force: true })
    },
  }
}
