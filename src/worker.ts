import { availableParallelism, hostname } from 'node:os'
import { pino } from 'pino'
import { type Config, childEnvironment, softwareVersion } from './config.ts'
import { describeEngine, describeRejection, type EngineChoice } from './engine/choice.ts'
import { gibibytes, Misconfigured, Unavailable } from './errors.ts'
import type { Logger } from './experiments/context.ts'
import { type Offer, offerOf } from './experiments/placement.ts'
import { findGpu, type Gpu } from './jobs/gpu-watch.ts'
import { probeEngine } from './jobs/probe.ts'
import { openQueue, type Queue } from './jobs/queue.ts'
import { startReconciler } from './jobs/reconcile.ts'
import { repeat } from './jobs/repeat.ts'
import { Supervisor } from './jobs/supervisor.ts'
import { newId } from './store/id.ts'
import { type Ledger, openLedger } from './store/ledger.ts'
import { channels, listen, readNotice } from './store/listen.ts'
import { openNamedDatabase } from './store/open-database.ts'
import { openCheckedObjects } from './store/open-objects.ts'
import { openTracing, untraced } from './tracing.ts'

/** A worker process at work. */
export interface RunningWorker {
  id: string
  /** Takes no more runs, lets the children checkpoint at their next step, releases their runs. */
  stop(): Promise<void>
}

const heartbeatSeconds = 2
/** Waiting runs that an idle worker looks through for one that it could take. */
const mostLookedThrough = 200
/** Together at most 10, with the one that listens. */
const connections = { database: 4, queue: 4 }
/** For a Postgres and an object store that are starting beside us. */
const patienceSeconds = 10

type Closing = () => Promise<unknown>

/** Opens one part after the other; `closings` knows how to close what is open, whatever happens. */
async function openParts(config: Config, log: Logger, closings: Closing[]) {
  const pool = { max: connections.database, name: 'gestalt-worker' }
  const database = await openNamedDatabase(config, pool, patienceSeconds)
  closings.push(() => database.close())
  const objects = await openCheckedObjects(config, patienceSeconds)
  const queue = await openQueue({
    redisUrl: config.redisUrl,
    databaseUrl: database.url,
    connections: connections.queue,
    log,
  })
  closings.push(() => queue.close())
  return { database, ledger: openLedger(database), queue, objects }
}

/** What this worker has, once it is known what computes. Without a GPU it performs as many runs as the settings say. */
interface Machine {
  choice: EngineChoice
  gpu: Gpu | undefined
  offer: Offer
  concurrency: number
}

function smaller(a: number | undefined, b: number | undefined): number | undefined {
  return a !== undefined && b !== undefined ? Math.min(a, b) : (a ?? b)
}

async function findMachine(config: Config, log: Logger, signal: AbortSignal): Promise<Machine> {
  const choice = await findEngine(config, log, signal)
  const { engine } = choice
  const environment = childEnvironment(config.engineThreads)
  const gpu = engine.gpu ? await findGpu(engine, { environment, log, signal }) : undefined
  const { gpuSlots } = config
  const gpuMemory = smaller(config.gpuMemory, gpu?.memoryBytes)
  const machine = { memoryBytes: config.workerMemory, cores: availableParallelism(), engine: engine.name }
  const ofGpu = { ...(gpu ? { gpuSlots, gpuMemory } : {}), ...(engine.half ? { half: true } : {}) }
  const offer = offerOf({ ...machine, gpu: gpu !== undefined, ...ofGpu })
  if (gpu) log.info(`its GPU is ${gpu.name}, ${gpuMemory === undefined ? 'of unknown memory' : gibibytes(gpuMemory)}`)
  return { choice, gpu, offer, concurrency: gpu ? gpuSlots : config.concurrency }
}

/** Looks for the engine meanwhile; where one of the two fails, the other does not go on. */
async function openPartsAndMachine(config: Config, log: Logger, closings: Closing[]) {
  const halt = new AbortController()
  const machine = findMachine(config, log, halt.signal)
  const parts = openParts(config, log, closings)
  try {
    return await Promise.all([parts, machine])
  } catch (error) {
    halt.abort()
    await Promise.allSettled([parts, machine])
    throw error
  }
}

/** Lets a cancel reach the child within a second: by notification, and by reading the runs after a reconnect. */
function listenForCancels(url: string, supervisor: Supervisor, ledger: Ledger) {
  const handlers = {
    onMessage(_: string, payload: string) {
      const notice = readNotice(payload)
      if (notice?.action === 'cancel') supervisor.stop(notice.runId, 'cancelled')
    },
    onReconnect: () => void followRuns(supervisor, ledger).catch(() => {}),
  }
  return listen(url, [channels.control], handlers, 'gestalt-worker')
}

/** Stops what was cancelled, or taken over by another attempt, while no notification came. */
async function followRuns(supervisor: Supervisor, ledger: Ledger): Promise<void> {
  const running = supervisor.running().filter(({ attempt }) => attempt > 0)
  if (running.length === 0) return
  const runs = await ledger.runs(running.map(({ runId }) => runId))
  for (const { runId, attempt } of running) {
    const run = runs.get(runId)
    if (run?.cancelRequested) supervisor.stop(runId, 'cancelled')
    if (!run || run.attempt !== attempt || run.state !== 'running') supervisor.stop(runId, 'superseded')
  }
}

/** Calls what others gave back and this worker has room for. Apart from the heartbeats: the queue may be away. */
function callForRuns(concurrency: number, supervisor: Supervisor, ledger: Ledger, queue: Queue) {
  return repeat(
    heartbeatSeconds,
    async () => {
      if (supervisor.running().length >= concurrency) return
      const fitting = supervisor.couldTake(await ledger.waiting(0, mostLookedThrough), concurrency)
      if (fitting.length > 0) await queue.call(fitting.map(({ id, attempt }) => ({ runId: id, attempt })))
    },
    () => {}, // the heartbeat says that Postgres is away, the queue says it of Redis
  )
}

/**
 * What the runs of this worker compute on, found by a child. Throws Misconfigured where the engine that the settings
 * name does not work.
 */
async function findEngine(config: Config, log: Logger, signal: AbortSignal): Promise<EngineChoice> {
  const { engine: wanted, gpu, enginePlaces: places, engineThreads: threads } = config
  const choice = await probeEngine({
    ...{ engine: wanted, gpu, places, threads, environment: childEnvironment(threads), log, signal },
  }).catch((cause: unknown) => {
    if (cause instanceof Unavailable && !signal.aborted) throw new Misconfigured(cause.message, cause.cure, { cause })
    throw cause
  })
  for (const rejected of choice.rejected) log.info(describeRejection(rejected))
  log.info(`runs compute on ${describeEngine(choice.engine)}`)
  return choice
}

/** Signs on and sends heartbeats. */
async function keepRegistered(
  id: string,
  { choice: { engine, rejected }, gpu, offer, concurrency }: Machine,
  { supervisor, ledger, log }: { supervisor: Supervisor; ledger: Ledger; log: Logger },
) {
  const self = {
    ...{ id, host: hostname(), pid: process.pid, version: softwareVersion() },
    ...{ engine: engine.name, engineVersion: engine.version, threads: engine.threads, device: engine.device },
    ...{ rejectedEngines: rejected, concurrency, cores: offer.cores, memoryBytes: offer.memoryBytes, offer },
    ...{ gpuName: gpu?.name ?? null, gpuSlots: offer.gpuSlots ?? 0, gpuMemoryBytes: offer.gpuMemory ?? null },
  }
  await ledger.workerStarted(self)
  const heartbeat = repeat(
    heartbeatSeconds,
    async () => {
      const runIds = supervisor.running().map(({ runId }) => runId)
      if (!(await ledger.heartbeat(id, runIds, supervisor.gpu()))) await ledger.workerStarted(self)
      await followRuns(supervisor, ledger)
    },
    (error) => log.warn(`heartbeat: ${(error as Error).message}`),
  )
  return {
    async close() {
      await heartbeat.close()
      await ledger.workerStopped(id).catch((error: Error) => log.warn(`not signed off: ${error.message}`))
    },
  }
}

/**
 * Starts a worker in this process: it takes runs from the queue and performs each in a child process. Throws where it
 * cannot: Unavailable (Postgres, Redis or the object store is away), Misconfigured (the database is not migrated, the
 * object store refuses us, no engine works).
 */
export async function startWorker(config: Config): Promise<RunningWorker> {
  const log: Logger = pino({ level: config.logLevel, base: { part: 'worker', pid: process.pid } })
  const closings: Closing[] = []
  const close = async () => {
    for (const part of closings.splice(0).reverse())
      await part().catch((error: Error) => log.warn(`while closing: ${error.message}`))
  }
  try {
    const tracing = config.tracing ? await openTracing('gestalt-worker', softwareVersion()) : untraced
    closings.push(() => tracing.close())
    const [{ database, ledger, queue, objects }, machine] = await openPartsAndMachine(config, log, closings)
    const { choice, gpu, offer, concurrency } = machine
    const id = newId()
    const onGpu = gpu !== undefined || choice.engine.name === 'webgpu'
    const environment = childEnvironment(config.engineThreads, { onGpu })
    const placing = { workerId: id, offer, version: softwareVersion() }
    const computing = { choice, environment, lookAtGpu: gpu?.look }
    const supervisor = new Supervisor({ ...placing, ...computing, ledger, queue, config, log, tracing })
    const watch = gpu?.watch((usage) => supervisor.measured(usage))
    closings.push(async () => watch?.close())
    const listener = await listenForCancels(database.url, supervisor, ledger)
    closings.push(() => listener.close())
    const registered = await keepRegistered(id, machine, { supervisor, ledger, log })
    closings.push(() => registered.close())
    const caller = callForRuns(concurrency, supervisor, ledger, queue)
    closings.push(() => caller.close())
    const archive = config.keepPointsDays === undefined ? undefined : { objects, days: config.keepPointsDays }
    const reconciler = startReconciler({ ledger, queue, database, archive, log })
    closings.push(() => reconciler.close())
    const consumer = await queue.work((job) => supervisor.handle(job), { concurrency })
    closings.push(() => Promise.all([consumer.close(), supervisor.shutdown()]))
    log.info(`worker ${id} takes up to ${concurrency} runs at once`)
    process.send?.({ type: 'ready', id })
    let stopping: Promise<void> | undefined
    return { id, stop: () => (stopping ??= close()) }
  } catch (error) {
    await close()
    throw error
  }
}
