import { type ChildProcess, fork } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { readConfig } from '../../src/config.ts'
import { parseDefinition } from '../../src/experiments/definition.ts'
import { isFinished, type RunState } from '../../src/experiments/run.ts'
import { openQueue, type Queue } from '../../src/jobs/queue.ts'
import { type Database, openDatabase } from '../../src/store/database.ts'
import { type Ledger, openLedger, type Run } from '../../src/store/ledger.ts'
import { readCurves } from '../../src/store/metrics.ts'
import { type ObjectStore, readAll } from '../../src/store/objects.ts'
import { openObjects } from '../../src/store/open-objects.ts'
import { eventually } from '../eventually.ts'
import { tiny } from '../fixtures/tiny.ts'

const entry = fileURLToPath(new URL('../../bin/gestalt.js', import.meta.url))

/** A worker process as the command line starts it. */
export interface WorkerProcess {
  id: string
  process: ChildProcess
  log: string[]
  /** The process that performs a run's newest attempt. */
  childOf(runId: string): number
  /** Sends a signal and returns how the process ended. */
  end(signal: NodeJS.Signals): Promise<number | NodeJS.Signals>
}

export interface Cluster {
  database: Database
  ledger: Ledger
  queue: Queue
  objects: ObjectStore
  startWorker(environment?: Record<string, string>): Promise<WorkerProcess>
  /** A run of `tiny`, with other parts where given; waiting in the queue unless told otherwise. */
  submit(parts?: Record<string, unknown>, options?: { enqueue?: boolean }): Promise<string>
  run(runId: string): Promise<Run>
  /** Returns when a checkpoint of at least this step is stored. */
  reaches(runId: string, step: number): Promise<void>
  /** Returns when the run is said to have taken this many steps. */
  reachesProgress(runId: string, step: number): Promise<void>
  /** Returns when this attempt or a later one has begun. */
  reachesAttempt(runId: string, attempt: number): Promise<void>
  /** Returns when the run is in this state; throws when it has ended in another. */
  becomes(runId: string, state: RunState): Promise<Run>
  /** All that a run has found out, in a form to compare. */
  evidence(runId: string): Promise<unknown>
  close(): Promise<void>
}

async function startProcess(environment: Record<string, string>): Promise<WorkerProcess> {
  const child = fork(entry, ['worker'], {
    env: { PATH: process.env.PATH, HOME: process.env.HOME, ...environment },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  })
  const log: string[] = []
  for (const stream of [child.stdout!, child.stderr!])
    createInterface({ input: stream }).on('line', (line) => log.push(line))
  const ended = once(child, 'exit').then(([code, signal]) => (code ?? signal) as number | NodeJS.Signals)
  const ready = once(child, 'message').then(([message]) => message as { type: string; id: string; message?: string })
  const first = await Promise.race([ready, ended])
  if (typeof first !== 'object' || first.type !== 'ready')
    throw new Error(`the worker did not start: ${JSON.stringify(first)}\n${log.join('\n')}`)
  return {
    id: first.id,
    process: child,
    log,
    childOf(runId) {
      const pids = log.map((line) => line.match(`run ${runId}: attempt \\d+ started in process (\\d+)`)?.[1])
      return Number(pids.findLast((pid) => pid !== undefined))
    },
    end(signal) {
      child.kill(signal)
      return ended
    },
  }
}

/** A safetensors file without its metadata, as one hash. */
function hashTensors(file: Buffer): string {
  const length = Number(file.readBigUInt64LE(0))
  const { __metadata__, ...header } = JSON.parse(file.toString('utf8', 8, 8 + length)) as Record<string, unknown>
  const hash = createHash('sha256').update(JSON.stringify(header))
  return hash.update(file.subarray(8 + length)).digest('hex')
}

/** A service on a database, with a home of its own and workers that come and go. */
export async function openCluster(databaseUrl: string, redisUrl?: string): Promise<Cluster> {
  const home = mkdtempSync(join(tmpdir(), 'gestalt-chaos-'))
  const settings = {
    DATABASE_URL: databaseUrl,
    GESTALT_HOME: home,
    GESTALT_LOG_LEVEL: 'info',
    REDIS_URL: redisUrl ?? '',
  }
  const database = await openDatabase({ url: databaseUrl, max: 2, name: 'gestalt-test' })
  const ledger = openLedger(database)
  const queue = await openQueue({ databaseUrl, redisUrl, connections: 2 })
  const objects = openObjects(readConfig(settings))
  const workers: WorkerProcess[] = []

  const cluster: Cluster = {
    database,
    ledger,
    queue,
    objects,
    async startWorker(environment = {}) {
      const worker = await startProcess({ ...settings, ...environment })
      workers.push(worker)
      return worker
    },
    async submit(parts = {}, { enqueue = true } = {}) {
      const definition = parseDefinition({ ...tiny, ...parts })
      const { name, tags, notes, priority } = definition
      const accepted = await ledger.accept({ name, tags, notes, priority, definition, plan: {} })
      if (accepted.mismatch) throw new Error('no key was given')
      const runId = accepted.runIds[0]!
      if (enqueue) await queue.enqueue({ runId, attempt: 0, priority })
      return runId
    },
    async run(runId) {
      return (await ledger.runs([runId])).get(runId)!
    },
    async reaches(runId, step) {
      await eventually(async () => {
        const reached = (await ledger.checkpoints([runId])).get(runId)?.[0]?.step ?? 0
        if (reached < step) throw new Error(`run ${runId} has reached step ${reached} of ${step}`)
      }, 90_000)
    },
    async reachesProgress(runId, step) {
      await eventually(async () => {
        const { progress } = await cluster.run(runId)
        if (!progress || progress.step < step) throw new Error(`run ${runId} has taken ${progress?.step ?? 0} steps`)
      }, 90_000)
    },
    async reachesAttempt(runId, attempt) {
      await eventually(async () => {
        const run = await cluster.run(runId)
        if (run.attempt < attempt) throw new Error(`run ${runId} is ${run.state} in attempt ${run.attempt}`)
      }, 90_000)
    },
    async becomes(runId, state) {
      return eventually(async () => {
        const run = await cluster.run(runId)
        if (run.state === state) return run
        const said = `run ${runId} is ${run.state}: ${JSON.stringify(run.failure)}`
        throw Object.assign(new Error(said), { final: isFinished(run.state) })
      }, 120_000)
    },
    async evidence(runId) {
      const curves = (await readCurves(database.pool, [runId], { maxPoints: 10_000 })).get(runId) ?? []
      const metrics = curves
        .filter((curve) => !['imagesPerSecond', 'waitShare'].includes(curve.name))
        .map((curve) => ({ name: curve.name, points: curve.points.map(({ step, value }) => [step, value]) }))
      const final = (await ledger.checkpoints([runId])).get(runId)!.find((checkpoint) => checkpoint.final)!
      const weights = hashTensors(await readAll(await objects.get(final.key)))
      const findings = (await ledger.findings([runId]))
        .get(runId)!
        .map(({ evaluation, scores }) => [evaluation, scores])
      const artifacts = (await ledger.artifacts([runId])).get(runId)!.map(({ name, sha256 }) => [name, sha256])
      return { metrics, step: final.step, weights, findings, artifacts }
    },
    async close() {
      for (const worker of workers) {
        worker.process.kill('SIGCONT')
        if (worker.process.exitCode === null && worker.process.signalCode === null) await worker.end('SIGKILL')
      }
      await queue.close()
      await database.close()
      rmSync(home, { recursive: true, force: true })
    },
  }
  return cluster
}
