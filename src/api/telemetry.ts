import { createServer } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import { collectDefaultMetrics, Histogram, Registry } from 'prom-client'
import { takeCensus } from '../store/census.ts'
import { type LabState, registerLab } from './lab-metrics.ts'
import type { Parts } from './parts.ts'

/** What this process says to Prometheus. */
export interface Telemetry {
  contentType: string
  text(): Promise<string>
  /** Measures a request; `route` is its pattern, never an address with an id in it. */
  measure(request: { method: string; route: string; status: number; seconds: number }): void
}

/** Any number of scrapes within it ask Postgres and the queue once. Milliseconds. */
const freshness = 1000
/** A part that has not answered by then is left out of the answer. Milliseconds. */
const patience = 3000

/** Their names end in _total though they are gauges, which promtool refuses; the same is told by _active_resources. */
const misnamed = ['nodejs_active_handles_total', 'nodejs_active_requests_total', 'nodejs_active_resources_total']

async function inTime<T>(work: Promise<T>): Promise<T | undefined> {
  return Promise.race([work.catch(() => undefined), sleep(patience, undefined, { ref: false })])
}

/** Asks once for all metrics of a scrape, and again when the answer has become old. */
function openLab({ database, queue, version }: Pick<Parts, 'database' | 'queue' | 'version'>): () => Promise<LabState> {
  let state: Promise<LabState> | undefined
  let readAt = 0
  return () => {
    if (state && performance.now() - readAt < freshness) return state
    readAt = performance.now()
    state = Promise.all([inTime(takeCensus(database.pool)), inTime(queue.counts())]).then(([census, counts]) => ({
      ...{ backend: queue.backend, version },
      ...(census ? { census } : {}),
      ...(counts ? { queue: counts } : {}),
    }))
    return state
  }
}

export function openTelemetry(parts: Pick<Parts, 'database' | 'queue' | 'version'>): Telemetry {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  for (const name of misnamed) registry.removeSingleMetric(name)
  const requests = new Histogram({
    name: 'gestalt_http_request_duration_seconds',
    help: 'Requests to this process, by method, route and status.',
    labelNames: ['method', 'route', 'status_code'],
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
    registers: [registry],
  })
  registerLab(registry, openLab(parts))
  return {
    contentType: registry.contentType,
    text: () => registry.metrics(),
    measure: ({ method, route, status, seconds }) =>
      requests.observe({ method, route, status_code: String(status) }, seconds),
  }
}

/** GET /metrics, behind the token like everything else, and the measuring of requests. */
export function serveTelemetry(app: FastifyInstance, telemetry: Telemetry): void {
  app.addHook('onResponse', async (request, reply) => {
    const route = request.routeOptions.url ?? 'none'
    const seconds = reply.elapsedTime / 1000
    telemetry.measure({ method: request.method, route, status: reply.statusCode, seconds })
  })
  const schema = { tags: ['health'], summary: 'Metrics of the lab and of this process, for Prometheus' }
  app.get('/metrics', { schema }, async (_request, reply) =>
    reply.type(telemetry.contentType).send(await telemetry.text()),
  )
}

/**
 * The metrics alone on a port of their own, for a Prometheus that has no token; who can reach the port can read them.
 * Returns the port that was opened.
 */
export async function listenForScrapes(
  telemetry: Telemetry,
  place: { host: string; port: number },
): Promise<{ port: number; close(): Promise<void> }> {
  const server = createServer(async (request, response) => {
    if (request.method !== 'GET' || request.url !== '/metrics') return void response.writeHead(404).end()
    try {
      const text = await telemetry.text()
      response.writeHead(200, { 'content-type': telemetry.contentType, 'x-content-type-options': 'nosniff' }).end(text)
    } catch {
      response.writeHead(500).end()
    }
  })
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(place, resolve))
  const { port } = server.address() as { port: number }
  return {
    port,
    async close() {
      server.closeAllConnections()
      await new Promise<void>((resolve) => server.close(() => resolve()))
    },
  }
}
