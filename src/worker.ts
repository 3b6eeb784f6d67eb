import { availableParallelism, hostname, totalmem } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { pino } from 'pino'
import { type Config, childEnvironment, softwareVersion } from './config.ts'
import type { Logger } from './experiments/context.ts'
import { probeEngine } from './jobs/child-process.ts'
import { openQueue } from './jobs/queue.ts'
import { startReconciler } from './jobs/reconcile.ts'
import { repeat } from './jobs/repeat.ts'
import { Supervisor } from './jobs/supervisor.ts'
import { newId } from './store/id.ts'
import { type Ledger, openLedger } from './store/ledger.ts'
import { channels, listen, readNotice } from './store/listen.ts'
import { openNamedDatabase } from './store/open-database.ts'
import { openObjects } from './store/open-objects.ts'

/** A worker process at work. */
export interface RunningWorker {
  id: string
  /** Takes no more runs, lets the children checkpoint at their next step, releases their runs. */
  stop(): Promise<void>
}

const heartbeatSeconds = 2
/** Later than the rush of a cold start. */
const probeAfterSeconds = 4
/** Together at most 10, with the one that listens. */
const connections = { database: 4, queue: 4 }
/** For a Postgres that is starting beside us. */
const patienceSeconds = 10

type Closing = () => Promise<unknown>

/** Opens one part after the other; `closings` knows how to close what is open, whatever happens. */
async function openParts(config: Config, log: Logger, closings: Closing[]) {
  const pool = { max: connections.database, name: 'gestalt-worker' }
  const database = await openNamedDatabase(config, pool, patienceSeconds)
  closings.push(() => database.close())
  await openObjects(config).check()
  const queue = await openQueue({
    redisUrl: config.redisUrl,
    databaseUrl: database.url,
    connections: connections.queue,
    log,
  })
  closings.push(() => queue.close())
  return { database, ledger: openLedger(database), queue }
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

/** Signs on and sends heartbeats, with the name of the engine as soon as a child has found it. */
async function keepRegistered(id: string, config: Config, supervisor: Supervisor, ledger: Ledger, log: Logger) {
  const self = {
    ...{ id, host: hostname(), pid: process.pid, version: softwareVersion() },
    ...{ engine: config.engine as string, concurrency: config.concurrency },
    ...{ cores: availableParallelism(), memoryBytes: totalmem() },
  }
  await ledger.workerStarted(self)
  const heartbeat = repeat(
    heartbeatSeconds,
    async () => {
      const runIds = supervisor.running().map(({ runId }) => runId)
      if (!(await ledger.heartbeat(id, runIds))) await ledger.workerStarted(self)
      await followRuns(supervisor, ledger)
    },
    (error) => log.warn(`heartbeat: ${(error as Error).message}`),
  )
  const closing = new AbortController()
  const probing = sleep(probeAfterSeconds * 1000, undefined, { signal: closing.signal })
    .then(() => probeEngine(config.engine, childEnvironment(), log, closing.signal))
    .then(async (engine) => {
      if (!engine) return
      self.engine = engine.name
      await ledger.workerStarted(self)
    })
    .catch((error: Error) => closing.signal.aborted || log.warn(`the engine is not known: ${error.message}`))
  return {
    async close() {
      closing.abort()
      await Promise.all([heartbeat.close(), probing])
      await ledger.workerStopped(id).catch((error: Error) => log.warn(`not signed off: ${error.message}`))
    },
  }
}

/**
 * Starts a worker in this process: it takes runs from the queue and performs each in a child process. Throws where it
 * cannot: Unavailable (Postgres, Redis or the object store is away), Misconfigured (the database is not migrated).
 */
export async function startWorker(config: Config): Promise<RunningWorker> {
  const log: Logger = pino({ level: config.logLevel, base: { part: 'worker', pid: process.pid } })
  const closings: Closing[] = []
  const close = async () => {
    for (const part of closings.splice(0).reverse())
      await part().catch((error: Error) => log.warn(`while closing: ${error.message}`))
  }
  try {
    const { database, ledger, queue } = await openParts(config, log, closings)
    const id = newId()
    const supervisor = new Supervisor({ workerId: id, ledger, queue, config, environment: childEnvironment(), log })
    const listener = await listenForCancels(database.url, supervisor, ledger)
    closings.push(() => listener.close())
    const registered = await keepRegistered(id, config, supervisor, ledger, log)
    closings.push(() => registered.close())
    const reconciler = startReconciler({ ledger, queue, database, log })
    closings.push(() => reconciler.close())
    const consumer = await queue.work((job) => supervisor.handle(job), { concurrency: config.concurrency })
    closings.push(() => Promise.all([consumer.close(), supervisor.shutdown()]))
    log.info(`worker ${id} takes up to ${config.concurrency} runs at once`)
    process.send?.({ type: 'ready', id })
    let stopping: Promise<void> | undefined
    return { id, stop: () => (stopping ??= close()) }
  } catch (error) {
    await close()
    throw error
  }
}
