import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { json } from 'node:stream/consumers'

export interface CollectedSpan {
  service: string
  name: string
  traceId: string
  spanId: string
  parentSpanId: string
  /** As OTLP numbers them: 1 internal, 2 server, 4 producer, 5 consumer. */
  kind: number
  failed: boolean
  attributes: Record<string, unknown>
  /** Nanoseconds since 1970. */
  start: bigint
}

interface Attribute {
  key: string
  value: Record<string, unknown>
}

interface Export {
  resourceSpans: {
    resource: { attributes: Attribute[] }
    scopeSpans: {
      spans: (Pick<CollectedSpan, 'name' | 'traceId' | 'spanId' | 'kind'> & {
        parentSpanId?: string
        attributes: Attribute[]
        status: { code?: number }
        startTimeUnixNano: string
      })[]
    }[]
  }[]
}

const read = (attributes: readonly Attribute[]) =>
  Object.fromEntries(attributes.map(({ key, value }) => [key, Object.values(value)[0]]))

function spansOf({ resourceSpans }: Export): CollectedSpan[] {
  return resourceSpans.flatMap(({ resource, scopeSpans }) =>
    scopeSpans.flatMap(({ spans }) =>
      spans.map(({ name, traceId, spanId, kind, parentSpanId, attributes, status, startTimeUnixNano }) => ({
        ...{ name, traceId, spanId, kind, parentSpanId: parentSpanId ?? '' },
        service: String(read(resource.attributes)['service.name']),
        failed: status.code === 2,
        attributes: read(attributes),
        start: BigInt(startTimeUnixNano),
      })),
    ),
  )
}

/** A server that takes traces by OTLP over HTTP, as JSON. */
export async function startCollector() {
  const spans: CollectedSpan[] = []
  const server = createServer(async (request, response) => {
    if (request.method !== 'POST' || request.url !== '/v1/traces') return void response.writeHead(404).end()
    spans.push(...spansOf((await json(request)) as Export))
    response.writeHead(200, { 'content-type': 'application/json' }).end('{}')
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    spans,
    async close() {
      server.closeAllConnections()
      await new Promise((done) => server.close(done))
    },
  }
}
