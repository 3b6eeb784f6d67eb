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
import { needsOf } from '../../src/experiments/placement.ts'
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

/** A process of the service as the command line starts it. */
export interface ServiceProcess {
  process: ChildProcess
  log: string[]
  /** Sends a signal and returns how the process ended. */
  end(signal: NodeJS.Signals): Promise<number | NodeJS.Signals>
}

export interface WorkerProcess extends ServiceProcess {
  id: string
  /** The process that performs a run's newest attempt. */
  childOf(runId: string): number
}

export interface ApiProcess extends ServiceProcess {
  url: string
}

export interface Cluster {
  database: Database
  ledger: Ledger
  queue: Queue
  objects: ObjectStore
  startWorker(environment?: Record<string, string>): Promise<WorkerProcess>
  startApi(environment?: Record<string, string>): Promise<ApiProcess>
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

interface Ready {
  type: string
  id: string
  url: string
}

async function startProcess(kind: 'worker' | 'api', environment: Record<string, string>) {
  const child = fork(entry, [kind], {
    env: { PATH: process.env.PATH, HOME: process.env.HOME, ...environment },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  })
  const log: string[] = []
  for (const stream of [child.stdout!, child.stderr!])
    createInterface({ input: stream }).on('line', (line) => log.push(line))
  const ended = once(child, 'exit').then(([code, signal]) => (code ?? signal) as number | NodeJS.Signals)
  const message = once(child, 'message').then(([message]) => message as Ready)
  const ready = await Promise.race([message, ended])
  if (typeof ready !== 'object' || ready.type !== 'ready')
    throw new Error(`the ${kind} did not start: ${JSON.stringify(ready)}\n${log.join('\n')}`)
  const end = (signal: NodeJS.Signals) => {
    child.kill(signal)
    return ended
  }
  return { ready, process: child, log, end }
}

async function startWorker(environment: Record<string, string>): Promise<WorkerProcess> {
  const { ready, log, ...started } = await startProcess('worker', environment)
  const childOf = (runId: string) => {
    const pids = log.map((line) => line.match(`run ${runId}: attempt \\d+ started in process (\\d+)`)?.[1])
    return Number(pids.findLast((pid) => pid !== undefined))
  }
  return { ...started, log, id: ready.id, childOf }
}

/** A safetensors file without its metadata, as one hash. */
function hashTensors(file: Buffer): string {
  const length = Number(file.readBigUInt64LE(0))
  const { __metadata__, ...header } = JSON.parse(file.toString('utf8', 8, 8 + length)) as Record<string, unknown>
  const hash = createHash('sha256').update(JSON.stringify(header))
  return hash.update(file.subarray(8 + length)).digest('hex')
}

/** A service on a database, with a home of its own, by other settings where given, and processes that come and go. */
export async function openCluster(databaseUrl: string, more: Record<string, string> = {}): Promise<Cluster> {
  const home = mkdtempSync(join(tmpdir(), 'gestalt-chaos-'))
  const settings = { DATABASE_URL: databaseUrl, GESTALT_HOME: home, GESTALT_LOG_LEVEL: 'info', ...more }
  const redisUrl = more.REDIS_URL
  const database = await openDatabase({ url: databaseUrl, max: 2, name: 'gestalt-test' })
  const ledger = openLedger(database)
  const queue = await openQueue({ databaseUrl, redisUrl, connections: 2 })
  const objects = openObjects(readConfig(settings))
  const started: ServiceProcess[] = []

  const cluster: Cluster = {
    database,
    ledger,
    queue,
    objects,
    async startWorker(environment = {}) {
      const worker = await startWorker({ ...settings, ...environment })
      started.push(worker)
      return worker
    },
    async startApi(environment = {}) {
      const { ready, ...api } = await startProcess('api', { ...settings, GESTALT_PORT: '0', ...environment })
      started.push(api)
      return { ...api, url: ready.url }
    },
    async submit(parts = {}, { enqueue = true } = {}) {
      const definition = parseDefinition({ ...tiny, ...parts })
      const { name, tags, notes, priority } = definition
      const needs = needsOf(definition, 2 ** 29)
      const accepted = await ledger.accept({ name, tags, notes, priority, definition, plan: {}, needs })
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
      const curves = (await readCurves(database.pool, [runId], { maxPoints: 10_000 }, objects)).get(runId) ?? []
      const metrics = curves
        .filter((curve) => !['imagesPerSecond', 'waitShare', 'gpuUtilisation', 'gpuMemoryBytes'].includes(curve.name))
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
      for (const { process, end } of started) {
        process.kill('SIGCONT')
        if (process.exitCode === null && process.signalCode === null) await end('SIGKILL')
      }
      await queue.close()
      await database.close()
      rmSync(home, { recursive: true, force: true })
    },
  }
  return cluster
}
