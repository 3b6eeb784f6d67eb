import type { FastifyInstance } from 'fastify'
import type { Span, Tracing } from '../tracing.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** Its place in a trace; absent where nothing is traced. */
    span?: Span
  }
}

/** Asked every few seconds, and nobody follows them. */
const unremarkable = new Set(['/livez', '/readyz', '/metrics'])

/** A span for each request that was let in, as a part of the trace that its sender names. */
export function traceRequests(app: FastifyInstance, tracing: Tracing): void {
  app.decorateRequest('span')
  if (!tracing.enabled) return
  app.addHook('onRequest', async (request) => {
    const { method, headers, routeOptions } = request
    const route = routeOptions.url
    if (route === undefined || unremarkable.has(route)) return
    const attributes = { 'http.request.method': method, 'http.route': route }
    request.span = tracing.begin(`${method} ${route}`, headers.traceparent, { kind: 'server', attributes })
  })
  app.addHook('onResponse', async ({ span }, { statusCode }) => {
    span?.set({ 'http.response.status_code': statusCode })
    span?.end(statusCode >= 500 ? statusCode : undefined)
  })
}
