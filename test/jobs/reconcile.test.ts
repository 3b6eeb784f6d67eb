import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { openQueue, type Queue } from '../../src/jobs/queue.ts'
import { startReconciler } from '../../src/jobs/reconcile.ts'
import { type Database, openDatabase } from '../../src/store/database.ts'
import { openDirectory } from '../../src/store/directory.ts'
import { newId } from '../../src/store/id.ts'
import { type Ledger, openLedger } from '../../src/store/ledger.ts'
import { appendPoints } from '../../src/store/metrics.ts'
import { eventually } from '../eventually.ts'
import { testDatabase } from '../postgres.ts'
import { silent } from '../silent.ts'

describe('the reconciler', () => {
  const open: { close(): Promise<void> }[] = []
  let home: Awaited<ReturnType<typeof testDatabase>>
  let database: Database
  let ledger: Ledger
  let queue: Queue

  beforeEach(async () => {
    home = await testDatabase()
    database = await openDatabase({ url: home.url, max: 4, name: 'gestalt-test' })
    ledger = openLedger(database)
    queue = await openQueue({ databaseUrl: home.url })
  })
  afterEach(async () => {
    for (const each of open.splice(0)) await each.close()
    await queue.close()
    await database.close()
    await home.drop()
  })

  const start = (staleSeconds = 1) =>
    open.push(startReconciler({ ledger, queue, database, log: silent, seconds: 0.1, staleSeconds }))

  async function acceptRun(): Promise<string> {
    const accepted = await ledger.accept({ name: 'x', tags: [], notes: '', priority: 3, definition: {}, plan: {} })
    if (accepted.mismatch) throw new Error('no key was given')
    return accepted.runIds[0]!
  }
  async function startWorker(): Promise<string> {
    const id = newId()
    const machine = { host: 'here', pid: 1, version: '0', engine: 'cpu', cores: 1, memoryBytes: 1, concurrency: 1 }
    await ledger.workerStarted({ id, ...machine })
    return id
  }
  const stateOf = async (runId: string) => (await ledger.runs([runId])).get(runId)?.state

  it('enqueues a waiting run that the queue does not hold', async () => {
    const runId = await acceptRun()
    start()
    await eventually(async () => expect(await queue.has({ runId, attempt: 0 })).toBe(true))
    expect(await queue.counts()).toMatchObject({ waiting: 1 })
  })

  it('takes back a run whose worker has stopped without a word, for the next attempt', async () => {
    const runId = await acceptRun()
    await ledger.begin(runId, await startWorker())
    start()
    await eventually(async () => expect(await queue.has({ runId, attempt: 1 })).toBe(true))
    expect(await stateOf(runId)).toBe('queued')
    expect((await ledger.attempts([runId])).get(runId)).toMatchObject([{ number: 1, outcome: 'lost' }])
  })

  it('leaves a run alone whose worker sends heartbeats', async () => {
    const [runId, lost, worker] = [await acceptRun(), await acceptRun(), await startWorker()]
    await ledger.begin(runId, worker)
    await ledger.begin(lost, worker)
    const beat = setInterval(() => void ledger.heartbeat(worker, [runId]), 100)
    start()
    // The worker does not name the other one, so somebody has looked by the time that one comes back.
    await eventually(async () => expect(await stateOf(lost)).toBe('queued'))
    clearInterval(beat)
    expect(await stateOf(runId)).toBe('running')
  })

  it('cancels a run that was to be cancelled and that nobody works on', async () => {
    const runId = await acceptRun()
    await ledger.begin(runId, await startWorker())
    await ledger.requestCancel(runId)
    start()
    await eventually(async () => expect(await stateOf(runId)).toBe('cancelled'))
    expect(await queue.counts()).toMatchObject({ waiting: 0, delayed: 0 })
  })

  it('does each thing once, however many processes look', async () => {
    const runId = await acceptRun()
    await ledger.begin(runId, await startWorker())
    for (let i = 0; i < 4; i++) start()
    await eventually(async () => expect(await stateOf(runId)).toBe('queued'))
    const events = await ledger.events({ runId, first: 100 })
    expect(events.map((event) => event.kind)).toEqual(['run-queued', 'run-started', 'run-queued'])
    expect(await queue.counts()).toMatchObject({ waiting: 1 })
  })

  it('moves the points of finished runs to the object store, where that is asked for', async () => {
    const root = mkdtempSync(join(tmpdir(), 'gestalt-test-'))
    const objects = openDirectory({ root, secret: 's', publicUrl: 'http://localhost' })
    const runId = await acceptRun()
    const { attempt } = (await ledger.begin(runId, await startWorker()))!
    await appendPoints(database.pool, { runId, attempt }, [{ name: 'loss', step: 1, value: 2, time: new Date() }])
    await ledger.end({ runId, attempt }, { state: 'succeeded' })
    const archive = { objects, days: 0 }
    open.push(startReconciler({ ledger, queue, database, archive, log: silent, seconds: 0.1, tidySeconds: 0.1 }))
    await eventually(async () => {
      const { rows } = await database.pool.query('SELECT key, points::int FROM archives WHERE run_id = $1', [runId])
      expect(rows).toMatchObject([{ points: 1 }])
      expect(await objects.stat(rows[0].key)).toBeDefined()
    })
    rmSync(root, { recursive: true })
  })
})
