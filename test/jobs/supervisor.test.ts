import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { EngineChoice } from '../../src/engine/choice.ts'
import { offerOf } from '../../src/experiments/placement.ts'
import { mostLosses } from '../../src/jobs/failures.ts'
import type { Queue } from '../../src/jobs/queue.ts'
import { newId } from '../../src/store/id.ts'
import type { Ledger } from '../../src/store/ledger.ts'
import { noTensorFlow, withoutTensorFlow } from '../fixtures/no-tensorflow.ts'
import { tiny } from '../fixtures/tiny.ts'
import { openSupervision, type Supervision } from './supervision.ts'

// Several processes at work; on a busy machine each takes its time.
vi.setConfig({ testTimeout: 180_000, hookTimeout: 120_000 })

describe('the supervisor', () => {
  let place: Supervision
  let ledger: Ledger
  let queue: Queue
  let workerId: string

  beforeEach(async () => {
    place = await openSupervision()
    ledger = place.ledger
    queue = place.queue
    workerId = await place.signOn()
  })
  afterEach(() => place.close())

  const start = (
    environment: Record<string, string> = {},
    settings: Record<string, string> = {},
    choice?: EngineChoice,
  ) => place.start({ workerId, environment, settings, ...(choice ? { choice } : {}), objectsPatienceSeconds: 2 })

  const submit = (parts: Record<string, unknown> = {}) => place.submit({ ...tiny, ...parts })
  const read = (runId: string) => place.read(runId)

  /** As many lost attempts as it takes for the next loss to be the last. */
  async function loseAllButOne(runId: string): Promise<void> {
    for (let lost = (await ledger.losses(runId)) + 1; lost < mostLosses; lost++) {
      const { attempt } = (await ledger.begin(runId, workerId))!
      await ledger.end({ runId, attempt }, { state: 'queued', outcome: 'lost' })
    }
  }

  it('performs a run to its end', async () => {
    const runId = await submit({ training: { epochs: 1, batchSize: 32 } })
    await start().handle({ runId })
    expect(await read(runId)).toMatchObject({ state: 'succeeded', attempt: 1, failure: null })
    const attempts = await place.attempts(runId)
    expect(attempts).toMatchObject([{ number: 1, workerId, outcome: 'succeeded', engine: { threads: 1 } }])
  })

  it('lets a run compute on what the worker found, and its log say what and why nothing faster', async () => {
    const rejected = [{ engine: 'onnx', reason: 'no such library', cure: 'install it' }]
    const engine = { name: 'wasm', version: '4.22.0', threads: 1, device: 'test' } as const
    const choice = { candidate: 'wasm', engine, selfTestMilliseconds: 1, rejected }
    const runId = await submit({ training: { epochs: 1, batchSize: 32 } })
    await start({}, {}, choice).handle({ runId })
    expect(await place.attempts(runId)).toMatchObject([{ engine: { name: 'wasm', version: '4.22.0' } }])
    expect(await place.said(runId)).toEqual(
      expect.arrayContaining([
        expect.stringMatching(/^computes on wasm 4\.22\.0, 1 thread, /),
        expect.stringMatching(/^no faster engine works on this machine: WebAssembly/),
        'the engine onnx does not serve: no such library: install it',
      ]),
    )
  })

  it('fails a run whose engine does not work, with reason and cure', async () => {
    const runId = await submit()
    await loseAllButOne(runId)
    await start(withoutTensorFlow, { GESTALT_ENGINE: 'tensorflow' }).handle({ runId })
    expect((await read(runId)).failure).toMatchObject({
      ...{ code: 'unavailable', message: expect.stringMatching(noTensorFlow) },
      cure: expect.stringContaining('GESTALT_ENGINE=auto'),
    })
  })

  it('drops the job of a run that is finished, unknown or performed elsewhere', async () => {
    const runId = await submit()
    await ledger.begin(runId, newId())
    const supervisor = start()
    await supervisor.handle({ runId })
    expect(await read(runId)).toMatchObject({ state: 'running', attempt: 1 })
    const cancelled = await submit()
    await ledger.requestCancel(cancelled)
    await supervisor.handle({ runId: cancelled })
    await supervisor.handle({ runId: newId() })
    expect(await read(cancelled)).toMatchObject({ state: 'cancelled', attempt: 0 })
  })

  it('fails a run at once when its loss is not a number, with the cure and without a stack trace', async () => {
    const optimizer = { name: 'sgd', learningRate: 1000, weightDecay: 1 }
    const runId = await submit({ training: { epochs: 20, batchSize: 32, optimizer } })
    await start().handle({ runId })
    const { state, failure, attempt } = await read(runId)
    expect({ state, attempt }).toEqual({ state: 'failed', attempt: 1 })
    expect(failure).toMatchObject({ code: 'diverged', cure: expect.stringContaining('learning rate') })
    expect(JSON.stringify(failure)).not.toContain('.ts:')
  })

  it('fails a run at once when it can no longer be read', async () => {
    const runId = await submit()
    await place.database.pool.query(`UPDATE runs SET definition = definition || '{"method": {"name": "npdi"}}'`)
    await start().handle({ runId })
    expect((await read(runId)).failure).toMatchObject({ code: 'invalid-definition' })
  })

  it('tries a run whose child is lost again, and gives up after some times with the last words', async () => {
    const runId = await submit()
    const supervisor = start({ NODE_OPTIONS: '--require /nowhere/to-be-found.cjs' })
    for (let loss = 1; loss < mostLosses; loss++) {
      await supervisor.handle({ runId })
      expect(await read(runId)).toMatchObject({ state: 'queued', attempt: loss })
      expect(await queue.has({ runId, attempt: loss })).toBe(true)
    }
    await supervisor.handle({ runId })
    const { state, failure } = await read(runId)
    expect(state).toBe('failed')
    expect(failure).toMatchObject({
      code: 'crashed',
      message: expect.stringMatching(/exit code 1, 5 times.*last words/),
    })
  })

  it('gives a store that does not answer time, and gives up with its words', async () => {
    const s3 = { S3_ENDPOINT: 'http://127.0.0.1:1', S3_BUCKET: 'bucket', S3_ACCESS_KEY: 'a', S3_SECRET_KEY: 's' }
    const supervisor = start({}, s3)
    const runId = await submit()
    await supervisor.handle({ runId })
    expect(await read(runId)).toMatchObject({ state: 'queued', attempt: 1 })
    expect(await queue.counts()).toMatchObject({ waiting: 0, delayed: 1 })
    await loseAllButOne(runId)
    await supervisor.handle({ runId })
    expect((await read(runId)).failure).toMatchObject({ code: 'unavailable', cure: expect.stringContaining('S3') })
  })

  it('gives back a run that a newer version accepted and this one cannot read', async () => {
    const offer = offerOf({ memoryBytes: 2 ** 40, cores: 1, gpu: false, engine: 'cpu' })
    const supervisor = place.start({ workerId, offer, version: '1.0.0' })
    const runId = await submit()
    await place.database.pool.query(
      `UPDATE runs SET definition = definition || '{"surprise": true}', needs = '{"software": "2.0.0"}' WHERE id = $1`,
      [runId],
    )
    const called = async () => supervisor.couldTake(await ledger.waiting(0), 1000).map(({ id }) => id)
    expect(await called()).toContain(runId)
    expect(await supervisor.handle({ runId })).toBe('given back')
    expect(await read(runId)).toMatchObject({ state: 'queued', attempt: 0 })
    // Once is enough: it would come here again at once.
    expect(await called()).not.toContain(runId)
  })

  it('gives up a run whose workers vanished too often', async () => {
    const runId = await submit()
    await loseAllButOne(runId)
    const { attempt } = (await ledger.begin(runId, workerId))!
    await ledger.end({ runId, attempt }, { state: 'queued', outcome: 'lost' })
    await start().handle({ runId })
    expect((await read(runId)).failure).toMatchObject({ code: 'crashed', message: expect.stringContaining('vanished') })
  })

  it('fails a run at once whose child ran out of memory', async () => {
    const runId = await submit()
    await start({ NODE_OPTIONS: '--max-old-space-size=8' }).handle({ runId })
    expect(await read(runId)).toMatchObject({
      ...{ state: 'failed', attempt: 1 },
      failure: {
        ...{ code: 'out-of-memory', message: expect.stringContaining('heap out of memory') },
        cure: expect.stringMatching(/batchSize.*GESTALT_CONCURRENCY/),
      },
    })
  })
})
