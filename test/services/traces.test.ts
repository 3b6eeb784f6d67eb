import { type ChildProcess, fork } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { openTracing, untraced } from '../../src/tracing.ts'
import { type Cluster, openCluster, type WorkerProcess } from '../chaos/cluster.ts'
import { eventually } from '../eventually.ts'
import { tiny } from '../fixtures/tiny.ts'
import { testDatabase } from '../postgres.ts'
import { type CollectedSpan, startCollector } from './collector.ts'

// Several processes at work; on a busy machine each takes its time.
vi.setConfig({ testTimeout: 180_000, hookTimeout: 120_000 })

const entry = fileURLToPath(new URL('../../bin/gestalt.js', import.meta.url))

describe('a trace', () => {
  const home = mkdtempSync(join(tmpdir(), 'gestalt-traces-'))
  let collector: Awaited<ReturnType<typeof startCollector>>
  let place: Awaited<ReturnType<typeof testDatabase>>
  let cluster: Cluster
  let api: ChildProcess
  let url: string
  let worker: WorkerProcess

  beforeAll(async () => {
    collector = await startCollector()
    place = await testDatabase()
    cluster = await openCluster(place.url)
    // Milliseconds between two batches.
    const traced = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, OTEL_BSP_SCHEDULE_DELAY: '100' }
    const settings = { DATABASE_URL: place.url, GESTALT_HOME: home, GESTALT_PORT: '0', GESTALT_LOG_LEVEL: 'silent' }
    const env = { PATH: process.env.PATH, HOME: process.env.HOME, ...settings, ...traced }
    api = fork(entry, ['api'], { env, stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
    const [message] = (await once(api, 'message')) as [{ type: string; url: string }]
    url = message.url
    worker = await cluster.startWorker({ GESTALT_ENGINE_THREADS: '1', ...traced })
  })
  afterAll(async () => {
    const ended = once(api, 'exit')
    api.kill('SIGTERM')
    await ended
    await cluster.close()
    await collector.close()
    await place.drop()
    rmSync(home, { recursive: true, force: true })
  })

  const post = async (path: string, body: unknown, headers: Record<string, string> = {}) => {
    const all = { 'content-type': 'application/json', ...headers }
    const answer = await fetch(`${url}${path}`, { method: 'POST', headers: all, body: JSON.stringify(body) })
    return (await answer.json()) as never
  }
  const told = (span: CollectedSpan) => `${span.service}: ${span.name}`

  it('goes from the request over the queue to the phases of a run, and a retry stays in it', async () => {
    const [traceId, spanId] = [randomBytes(16).toString('hex'), randomBytes(8).toString('hex')]
    const { runIds } = (await post('/v1/experiments', tiny, { traceparent: `00-${traceId}-${spanId}-01` })) as {
      runIds: string[]
    }
    const runId = runIds[0]!
    await cluster.reaches(runId, 7)
    process.kill(worker.childOf(runId), 'SIGKILL')
    await cluster.becomes(runId, 'succeeded')
    const mine = () => collector.spans.filter((span) => span.traceId === traceId)
    await eventually(() => expect(mine().filter(({ name }) => name === 'attempt')).toHaveLength(2))
    await eventually(() => expect(mine().map(told)).toContain('gestalt-run: perform run'))
    const spans = mine()
    const only = (name: string) => {
      const found = spans.filter((span) => told(span) === name)
      expect(found, name).toHaveLength(1)
      return found[0]!
    }
    const request = only('gestalt-api: POST /v1/experiments')
    expect(request).toMatchObject({ parentSpanId: spanId, kind: 2, failed: false })
    expect(request.attributes).toMatchObject({ 'http.route': '/v1/experiments', 'http.response.status_code': 202 })
    const enqueue = only('gestalt-api: enqueue runs')
    expect(enqueue).toMatchObject({ parentSpanId: request.spanId, kind: 4 })
    const attempts = spans.filter((span) => told(span) === 'gestalt-worker: attempt')
    const outcomes = attempts.map(({ attributes }) => [attributes['gestalt.attempt'], attributes['gestalt.outcome']])
    expect(outcomes).toEqual([
      [1, 'lost'],
      [2, 'succeeded'],
    ])
    for (const attempt of attempts) {
      expect(attempt).toMatchObject({ parentSpanId: enqueue.spanId, kind: 5 })
      expect(attempt.attributes['gestalt.run.id']).toBe(runId)
    }
    // The child of the first attempt was killed before it could send more than what had ended.
    const performed = only('gestalt-run: perform run')
    expect(performed.parentSpanId).toBe(attempts[1]!.spanId)
    const parts = spans.filter(({ parentSpanId }) => parentSpanId === performed.spanId)
    expect(parts.sort((a, b) => (a.start < b.start ? -1 : 1)).map(told)).toEqual([
      'gestalt-run: open dataset',
      'gestalt-run: train',
      'gestalt-run: evaluate nearest-neighbours',
      'gestalt-run: export embeddings',
    ])
    const train = parts[1]!
    const within = spans.filter(({ parentSpanId }) => parentSpanId === train.spanId)
    expect(new Set(within.map(({ name }) => name))).toEqual(new Set(['read checkpoint', 'checkpoint']))
  })

  it('begins with the request where its sender has none, through GraphQL as well', async () => {
    const query = 'mutation ($definition: JSON!) { submitExperiment(definition: $definition) { runs { id } } }'
    const definition = { ...tiny, training: { epochs: 1, batchSize: 32 } }
    const { data } = (await post('/graphql', { query, variables: { definition } }, { traceparent: '00-nonsense' })) as {
      data: { submitExperiment: { runs: { id: string }[] } }
    }
    const runId = data.submitExperiment.runs[0]!.id
    await cluster.becomes(runId, 'succeeded')
    const find = (name: string, test: (span: CollectedSpan) => boolean) =>
      eventually(() => {
        const found = collector.spans.find((span) => span.name === name && test(span))
        if (!found) throw new Error(`no span ${name}`)
        return found
      })
    const attempt = await find('attempt', ({ attributes }) => attributes['gestalt.run.id'] === runId)
    const enqueue = await find('enqueue runs', ({ spanId }) => spanId === attempt.parentSpanId)
    const request = await find('POST /graphql', ({ spanId }) => spanId === enqueue.parentSpanId)
    expect(request).toMatchObject({ parentSpanId: '', traceId: attempt.traceId })
  })

  it('does not show who asks whether the service lives', async () => {
    for (const path of ['/livez', '/readyz', '/metrics', '/v1/methods']) await fetch(`${url}${path}`)
    await eventually(() => expect(collector.spans.map(({ name }) => name)).toContain('GET /v1/methods'))
    expect(collector.spans.filter(({ name }) => /livez|readyz|metrics$/.test(name))).toEqual([])
  })
})

describe('tracing in one process', () => {
  afterEach(() => vi.unstubAllEnvs())

  it('marks what failed, and says so to the one that waits', async () => {
    const collector = await startCollector()
    vi.stubEnv('OTEL_EXPORTER_OTLP_ENDPOINT', collector.url)
    const tracing = await openTracing('gestalt-run', '0.0.0')
    const root = tracing.begin('root', undefined)
    expect(root.traceparent).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/)
    root.begin('part').end(new Error('it broke'))
    root.end()
    await tracing.close()
    const [part, whole] = collector.spans
    expect(part).toMatchObject({ name: 'part', failed: true, parentSpanId: whole!.spanId })
    expect(whole).toMatchObject({ name: 'root', failed: false, parentSpanId: '' })
    await collector.close()
  })

  it.each(['', '00-0', `00-${'0'.repeat(32)}-${'1'.repeat(16)}-01`, `00-${'A'.repeat(32)}-${'1'.repeat(16)}-01`, 7])(
    'begins a trace of its own for %j',
    async (traceparent) => {
      vi.stubEnv('OTEL_EXPORTER_OTLP_ENDPOINT', 'http://127.0.0.1:1')
      const tracing = await openTracing('gestalt-run', '0.0.0')
      expect(tracing.begin('root', traceparent).traceparent).not.toContain('0'.repeat(16))
      await tracing.close()
    },
  )

  it('is not held up by a collector that is away', async () => {
    vi.stubEnv('OTEL_EXPORTER_OTLP_ENDPOINT', 'http://127.0.0.1:1')
    const tracing = await openTracing('gestalt-run', '0.0.0')
    tracing.begin('root', undefined).end()
    await tracing.close()
  })

  it('hands nothing on where nothing is traced', () => {
    const span = untraced.begin('root', `00-${'1'.repeat(32)}-${'1'.repeat(16)}-01`)
    expect(span.begin('part').traceparent).toBeUndefined()
  })
})
