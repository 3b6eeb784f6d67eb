// The one door to OpenTelemetry. Nothing of it is loaded unless traces are asked for.
import type { Attributes, Context, SpanContext, Tracer } from '@opentelemetry/api'

/** What a span is beside its name. */
export interface SpanOptions {
  /** Its side of a hop between processes; `internal` where absent. */
  kind?: 'server' | 'producer' | 'consumer'
  attributes?: Attributes
}

/** A stretch of work in a trace. */
export interface Span {
  /** What another process goes on with (W3C trace context); undefined where nothing is traced. */
  readonly traceparent: string | undefined
  /** Begins a part of it. */
  begin(name: string, options?: SpanOptions): Span
  set(attributes: Attributes): void
  /** With what it failed by, where it failed. */
  end(error?: unknown): void
}

/** Takes the spans of one process. */
export interface Tracing {
  readonly enabled: boolean
  /** Begins what another process led to; a trace of its own where `traceparent` is none. */
  begin(name: string, traceparent: unknown, options?: SpanOptions): Span
  /** Sends what has ended, for a few seconds at most. */
  close(): Promise<void>
}

const noSpan: Span = { traceparent: undefined, begin: () => noSpan, set: () => {}, end: () => {} }

/** Traces nothing. */
export const untraced: Tracing = { enabled: false, begin: () => noSpan, close: async () => {} }

const form = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/

/** Undefined for what is no traceparent, or one of zeros, which the standard calls invalid. */
function parse(traceparent: unknown): SpanContext | undefined {
  const [, traceId, spanId, flags] = form.exec(typeof traceparent === 'string' ? traceparent : '') ?? []
  if (!traceId || !spanId || /^0+$/.test(traceId) || /^0+$/.test(spanId)) return undefined
  return { traceId, spanId, traceFlags: Number.parseInt(flags!, 16) & 1, isRemote: true }
}

/** How long a process that ends waits for a collector. Milliseconds. */
const patience = 3000

type Api = typeof import('@opentelemetry/api')

function beginner({ trace, ROOT_CONTEXT, SpanKind, SpanStatusCode }: Api, tracer: Tracer) {
  const kinds = { server: SpanKind.SERVER, producer: SpanKind.PRODUCER, consumer: SpanKind.CONSUMER }
  function begin(name: string, within: Context, { kind, attributes }: SpanOptions = {}): Span {
    const span = tracer.startSpan(name, { kind: kind ? kinds[kind] : SpanKind.INTERNAL, attributes }, within)
    const { traceId, spanId, traceFlags } = span.spanContext()
    return {
      traceparent: `00-${traceId}-${spanId}-0${traceFlags & 1}`,
      begin: (part, options) => begin(part, trace.setSpan(ROOT_CONTEXT, span), options),
      set: (more) => void span.setAttributes(more),
      end(error) {
        if (error !== undefined) {
          const message = error instanceof Error ? error.message : String(error)
          span.setStatus({ code: SpanStatusCode.ERROR, message })
        }
        span.end()
      },
    }
  }
  return (name: string, traceparent: unknown, options?: SpanOptions) => {
    const parent = parse(traceparent)
    return begin(name, parent ? trace.setSpanContext(ROOT_CONTEXT, parent) : ROOT_CONTEXT, options)
  }
}

/**
 * Sends the spans of this process to the collector that the environment names, by OpenTelemetry's own variables
 * (OTEL_EXPORTER_OTLP_ENDPOINT and the others). A collector that is away disturbs nothing but the end of the process,
 * which then takes a few seconds longer.
 */
export async function openTracing(
  service: 'gestalt-api' | 'gestalt-worker' | 'gestalt-run',
  version: string,
): Promise<Tracing> {
  const [api, sdk, { OTLPTraceExporter }, { resourceFromAttributes }] = await Promise.all([
    import('@opentelemetry/api'),
    import('@opentelemetry/sdk-trace-base'),
    import('@opentelemetry/exporter-trace-otlp-http'),
    import('@opentelemetry/resources'),
  ])
  const resource = resourceFromAttributes({
    'service.name': service,
    'service.version': version,
    'process.pid': process.pid,
  })
  const spanProcessors = [new sdk.BatchSpanProcessor(new OTLPTraceExporter())]
  const provider = new sdk.BasicTracerProvider({ resource, spanProcessors })
  return {
    enabled: true,
    begin: beginner(api, provider.getTracer('gestalt', version)),
    async close() {
      let timer: NodeJS.Timeout | undefined
      const late = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, patience)
      })
      await Promise.race([provider.shutdown().catch(() => {}), late])
      clearTimeout(timer)
    },
  }
}

/** Does `work` as a part of a span; the part ends with it. */
export async function during<T>(span: Span, name: string, work: (part: Span) => Promise<T>, options?: SpanOptions) {
  const part = span.begin(name, options)
  try {
    const result = await work(part)
    part.end()
    return result
  } catch (error) {
    part.end(error)
    throw error
  }
}
