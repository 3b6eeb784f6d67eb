import { readFileSync } from 'node:fs'
import { availableParallelism, hostname, totalmem } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { type Config, childEnvironment, installation } from './config.ts'
import { Misconfigured } from './errors.ts'
import type { Logger } from './experiments/context.ts'
import { probeEngine } from './jobs/child-process.ts'
import { openQueue } from './jobs/queue.ts'
import { startReconciler } from './jobs/reconcile.ts'
import { repeat } from './jobs/repeat.ts'
import { type Supervisor, startSupervisor } from './jobs/supervisor.ts'
import { awaitDatabase, type Database } from './store/database.ts'
import { newId } from './store/id.ts'
import { type Ledger, openLedger } from './store/ledger.ts'
import { channels, listen } from './store/listen.ts'
import { pendingMigrations } from './store/migrate.ts'
import { openObjects } from './store/open-objects.ts'

/** A worker process at work. */
export interface RunningWorker {
  id: string
  /** Takes no more runs, lets the children checkpoint at their next step, releases their runs. */
  stop(): Promise<void>
}

const heartbeatSeconds = 2
/** Together at most 10, with the one that listens. */
const connections = { database: 4, queue: 4 }

function readVersion(): string {
  return (JSON.parse(readFileSync(join(installation, 'package.json'), 'utf8')) as { version: string }).version
}

async function openStore(config: Config): Promise<Database> {
  if (!config.databaseUrl)
    throw new Misconfigured('DATABASE_URL is not set', "name the database, or use 'gestalt up', which brings its own")
  const database = await awaitDatabase(
    { url: config.databaseUrl, max: connections.database, name: 'gestalt-worker' },
    30,
  )
  try {
    const pending = await pendingMigrations(config.databaseUrl)
    if (pending.length > 0)
      throw new Misconfigured(`the database lacks the migrations ${pending.join(', ')}`, "run 'gestalt migrate'")
    await openObjects(config).check()
  } catch (error) {
    await database.close()
    throw error
  }
  return database
}

/** Lets a cancel reach the child within a second: by notification, and by reading the runs after a reconnect. */
function listenForCancels(url: string, supervisor: Supervisor, ledger: Ledger) {
  const handlers = {
    onMessage(_: string, payload: string) {
      const { runId, action } = JSON.parse(payload) as { runId: string; action: string }
      if (action === 'cancel') supervisor.stop(runId, 'cancelled')
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

/** Starts a worker in this process: it takes runs from the queue and performs each in a child process. */
export async function startWorker(config: Config): Promise<RunningWorker> {
  const log: Logger & pino.Logger = pino({ level: config.logLevel, base: { part: 'worker', pid: process.pid } })
  const environment = childEnvironment()
  const database = await openStore(config)
  const databaseUrl = database.url
  const { redisUrl, concurrency } = config
  const queue = await openQueue({ redisUrl, databaseUrl, connections: connections.queue, log })
  const ledger = openLedger(database)
  const id = newId()
  const self = {
    ...{ id, host: hostname(), pid: process.pid, version: readVersion(), engine: config.engine as string, concurrency },
    ...{ cores: availableParallelism(), memoryBytes: totalmem() },
  }
  await ledger.workerStarted(self)

  const supervisor = startSupervisor({ workerId: id, ledger, queue, config, environment, log })
  const listener = await listenForCancels(databaseUrl, supervisor, ledger)
  const heartbeat = repeat(
    heartbeatSeconds,
    async () => {
      const runIds = supervisor.running().map(({ runId }) => runId)
      if (!(await ledger.heartbeat(id, runIds))) await ledger.workerStarted(self)
      await followRuns(supervisor, ledger)
    },
    (error) => log.warn(`heartbeat: ${(error as Error).message}`),
  )
  const reconciler = startReconciler({ ledger, queue, database, log })
  const consumer = await queue.work(supervisor.handle, { concurrency })
  log.info(`worker ${id} takes up to ${concurrency} runs at once`)
  process.send?.({ type: 'ready', id })

  const probing = probeEngine(config.engine, environment, log).then(async (engine) => {
    if (!engine) return
    self.engine = engine.name
    await ledger.workerStarted(self)
  })
  probing.catch((error) => log.warn(`the engine could not be probed: ${(error as Error).message}`))

  let stopping: Promise<void> | undefined
  async function close(): Promise<void> {
    log.info(`worker ${id} stops`)
    await Promise.all([consumer.close(), supervisor.shutdown()])
    await Promise.all([heartbeat.close(), reconciler.close(), listener.close(), probing.catch(() => {})])
    await ledger.workerStopped(id).catch((error) => log.warn(`not signed off: ${(error as Error).message}`))
    await queue.close()
    await database.close()
  }
  return { id, stop: () => (stopping ??= close()) }
}
