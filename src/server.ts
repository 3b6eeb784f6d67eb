import type { FastifyInstance } from 'fastify'
import { createApp } from './api/app.ts'
import type { Parts } from './api/parts.ts'
import { listenForScrapes, openTelemetry, type Telemetry } from './api/telemetry.ts'
import { type Config, childEnvironment, softwareVersion } from './config.ts'
import { Conflict, Misconfigured } from './errors.ts'
import { openQueue } from './jobs/queue.ts'
import { startReconciler } from './jobs/reconcile.ts'
import { datasetBytes } from './store/dataset-bytes.ts'
import { openImageSets } from './store/image-sets.ts'
import { openLedger } from './store/ledger.ts'
import { openNamedDatabase } from './store/open-database.ts'
import { openCheckedObjects } from './store/open-objects.ts'
import { openTracing, untraced } from './tracing.ts'

/** An API process at work. */
export interface RunningServer {
  url: string
  /** Finishes the requests at work, closes sockets and connections. */
  stop(): Promise<void>
}

/** Together with the one that listens at most 20: what an API process may take of the database. */
const connections = { database: 12, queue: 5 }
/** A statement of a request that takes longer is broken off, so that it does not keep a connection for ever. */
const statementSeconds = 30
/** For a Postgres and an object store that are starting beside us. */
const patienceSeconds = 5
/** For requests that are at work when the process stops. */
const graceSeconds = 10

type Closing = () => Promise<unknown>

/** Opens one part after the other; `closings` knows how to close what is open, whatever happens. */
async function openParts(config: Config, closings: Closing[]): Promise<Parts> {
  const pool = { max: connections.database, name: 'gestalt-api', statementSeconds }
  const database = await openNamedDatabase(config, pool, patienceSeconds)
  closings.push(() => database.close())
  const objects = await openCheckedObjects(config, patienceSeconds)
  const queue = await openQueue({
    redisUrl: config.redisUrl,
    databaseUrl: database.url,
    connections: connections.queue,
  })
  closings.push(() => queue.close())
  const bytes = datasetBytes(objects, config.datasetFolders)
  const sets = openImageSets(database, objects, { totalBytes: config.uploadLimit })
  const environment = childEnvironment(config.engineThreads)
  const ledger = openLedger(database)
  return { config, database, ledger, objects, queue, bytes, sets, version: softwareVersion(), environment }
}

/** What `open` returns; says what to do where the port cannot be opened. `setting` names the port. */
async function listen<T>(host: string, port: number, setting: string, open: () => Promise<T>): Promise<T> {
  try {
    return await open()
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EADDRINUSE')
      throw new Conflict(
        `port ${port} at ${host} is in use`,
        `stop what uses it, or set ${setting} to another (0: any that is free)`,
        { cause: error },
      )
    if (code === 'EACCES' || code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND')
      throw new Misconfigured(
        `port ${port} at '${host}' cannot be opened (${code})`,
        `correct GESTALT_HOST and ${setting}; ports below 1024 are for root`,
        { cause: error },
      )
    throw error
  }
}

/** Opens the port of the API, and that of the metrics where it has one; returns the API's address on this machine. */
async function openPorts(app: FastifyInstance, telemetry: Telemetry, config: Config, closings: Closing[]) {
  const { host, port, metricsPort } = config
  if (metricsPort !== undefined) {
    const place = { host, port: metricsPort }
    const open = () => listenForScrapes(telemetry, place)
    const scrapes = await listen(host, metricsPort, 'GESTALT_METRICS_PORT', open)
    closings.push(() => scrapes.close())
    app.log.info(`metrics at port ${scrapes.port}`)
  }
  const listenTextResolver = (address: string) => `serving at ${address}`
  return listen(host, port, 'GESTALT_PORT', () => app.listen({ host, port, listenTextResolver }))
}

/** Requests at work may finish; connections are closed as they fall idle, and after the grace in any case. */
async function closeApp(app: FastifyInstance): Promise<void> {
  const sweep = setInterval(() => app.server.closeIdleConnections(), 50)
  const end = setTimeout(() => app.server.closeAllConnections(), graceSeconds * 1000)
  try {
    await app.close()
  } finally {
    clearInterval(sweep)
    clearTimeout(end)
  }
}

/**
 * Serves the API in this process. Throws where it cannot: Unavailable (Postgres or the object store is away),
 * Misconfigured (the database is not migrated, the object store refuses us), Conflict (the port is in use); what had
 * been opened is closed again.
 */
export async function startServer(asked: Config): Promise<RunningServer> {
  // Links name the port, which is only known once it is open where any would do.
  const config = { ...asked }
  const closings: Closing[] = []
  const close = async () => {
    const failed: unknown[] = []
    for (const part of closings.splice(0).reverse()) await part().catch((error: unknown) => failed.push(error))
    if (failed.length > 0) throw failed[0]
  }
  try {
    const tracing = config.tracing ? await openTracing('gestalt-api', softwareVersion()) : untraced
    closings.push(() => tracing.close())
    const parts = await openParts(config, closings)
    const telemetry = openTelemetry(parts)
    const app = await createApp(parts, telemetry, tracing)
    closings.push(() => closeApp(app))
    const { ledger, queue, database, objects, sets } = parts
    const archive = config.keepPointsDays === undefined ? undefined : { objects, days: config.keepPointsDays }
    const reconciler = startReconciler({ ledger, queue, database, archive, sets, log: app.log })
    closings.push(() => reconciler.close())
    const url = await openPorts(app, telemetry, config, closings)
    if (config.port === 0) config.publicUrl = config.publicUrl.replace(/:0$/, `:${new URL(url).port}`)
    process.send?.({ type: 'ready', url })
    let stopping: Promise<void> | undefined
    return { url, stop: () => (stopping ??= close()) }
  } catch (error) {
    await close().catch(() => {}) // why it did not start says more
    throw error
  }
}
