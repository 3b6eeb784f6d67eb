import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Database, openDatabase } from '../../src/store/database.ts'
import { newId } from '../../src/store/id.ts'
import { type Ledger, openLedger, type Submission } from '../../src/store/ledger.ts'
import { channels, listen } from '../../src/store/listen.ts'
import { eventually } from '../eventually.ts'
import { testDatabase } from '../postgres.ts'

const submission: Submission = {
  name: 'first',
  tags: ['demo'],
  notes: '',
  priority: 0,
  definition: { method: { name: 'npid' }, dataset: { name: 'shapes' } },
  plan: { runs: 1 },
}
const failure = { code: 'diverged', message: 'the loss is NaN', cure: 'lower the learning rate' }
const worker = newId()
const strange = newId()

let scratch: Awaited<ReturnType<typeof testDatabase>>
let database: Database
let ledger: Ledger

beforeAll(async () => {
  scratch = await testDatabase()
  database = await openDatabase({ url: scratch.url, max: 8, name: 'ledger-test' })
  ledger = openLedger(database)
})
afterAll(async () => {
  await database.close()
  await scratch.drop()
})

async function queued(change: Partial<Submission> = {}): Promise<string> {
  const accepted = await ledger.accept({ ...submission, ...change })
  if (accepted.mismatch) throw new Error('mismatch')
  return accepted.runIds[0]!
}

async function running(): Promise<{ runId: string; attempt: number }> {
  const runId = await queued()
  const { attempt } = (await ledger.begin(runId, worker))!
  return { runId, attempt }
}

const stateOf = async (id: string) => (await ledger.runs([id])).get(id)!.state

describe('an accepted experiment', () => {
  it('is kept with its run and its events', async () => {
    const accepted = await ledger.accept(submission)
    if (accepted.mismatch) throw new Error('mismatch')
    const { experimentId, runIds, replayed } = accepted
    expect(replayed).toBe(false)
    expect((await ledger.experiments([experimentId])).get(experimentId)).toMatchObject({
      ...submission,
      method: 'npid',
      dataset: 'shapes',
    })
    const run = (await ledger.runsOfExperiments([experimentId])).get(experimentId)![0]!
    expect(run).toMatchObject({ id: runIds[0], state: 'queued', attempt: 0, version: 0, failure: null })
    const kinds = (await ledger.events({ runId: runIds[0], first: 10 })).map(({ kind }) => kind)
    expect(kinds).toEqual(['run-queued'])
  })

  it('is accepted once for one idempotency key, also by requests at the same moment', async () => {
    const key = newId()
    const all = await Promise.all([1, 2, 3, 4].map(() => ledger.accept(submission, { key, fingerprint: 'a' })))
    const ids = all.map((one) => (one.mismatch ? 'mismatch' : `${one.experimentId} ${one.runIds}`))
    expect(new Set(ids).size).toBe(1)
    expect(all.filter((one) => !one.mismatch && !one.replayed)).toHaveLength(1)
    expect(await ledger.accept(submission, { key, fingerprint: 'b' })).toEqual({ mismatch: true })
    await database.pool.query("UPDATE idempotency_keys SET created_at = now() - interval '25 hours'")
    expect(await ledger.accept(submission, { key, fingerprint: 'b' })).toMatchObject({ replayed: false })
  })

  it('leaves nothing behind when its transaction fails', async () => {
    const before = await ledger.countExperiments()
    const runs = [
      { name: 'good', definition: {} },
      { name: null as unknown as string, definition: {} },
    ]
    await expect(ledger.accept({ ...submission, runs })).rejects.toThrow(/null value/)
    expect(await ledger.countExperiments()).toBe(before)
  })
})

describe('a run', () => {
  it('goes from queued to running to its end, with an event each', async () => {
    const { runId, attempt } = await running()
    expect(attempt).toBe(1)
    expect(await ledger.end({ runId, attempt }, { state: 'succeeded' })).toBe(true)
    const run = (await ledger.runs([runId])).get(runId)!
    expect(run).toMatchObject({ state: 'succeeded', version: 2 })
    expect(run.finishedAt!.getTime()).toBeGreaterThanOrEqual(run.startedAt!.getTime())
    const events = await ledger.events({ runId, first: 10 })
    expect(events.map(({ kind }) => kind)).toEqual(['run-queued', 'run-started', 'run-succeeded'])
    expect(await ledger.events({ runId, after: events[1]!.id, first: 10 })).toHaveLength(1)
    expect((await ledger.attempts([runId])).get(runId)).toMatchObject([
      { number: 1, workerId: worker, outcome: 'succeeded' },
    ])
    expect(await ledger.begin(runId, worker)).toBeUndefined()
  })

  it('that is begun by two workers at once belongs to the first of them', async () => {
    const runId = await queued()
    const begun = await Promise.all([ledger.begin(runId, worker), ledger.begin(runId, newId())])
    expect(begun.filter((one) => one !== undefined)).toMatchObject([{ attempt: 1 }])
    expect((await ledger.attempts([runId])).get(runId)).toMatchObject([{ number: 1, outcome: null }])
  })

  it('that is begun again by its worker belongs to the later attempt only', async () => {
    const runId = await queued()
    const begun = await Promise.all([ledger.begin(runId, worker), ledger.begin(runId, worker)])
    expect(begun.map((one) => one!.attempt).sort()).toEqual([1, 2])
    expect(await ledger.end({ runId, attempt: 1 }, { state: 'succeeded' })).toBe(false)
    expect(await ledger.end({ runId, attempt: 2 }, { state: 'failed', failure })).toBe(true)
    expect((await ledger.runs([runId])).get(runId)).toMatchObject({ state: 'failed', failure })
    expect((await ledger.attempts([runId])).get(runId)!.map(({ outcome }) => outcome)).toEqual(['lost', 'failed'])
  })

  it('keeps its number of attempts when it is queued again', async () => {
    const { runId, attempt } = await running()
    expect(await ledger.end({ runId, attempt }, { state: 'queued', outcome: 'released' })).toBe(true)
    expect(await ledger.end({ runId, attempt }, { state: 'succeeded' })).toBe(false)
    expect((await ledger.begin(runId, worker))!.attempt).toBe(2)
  })

  it('that is paused is begun by nobody and can be cancelled', async () => {
    const { runId, attempt } = await running()
    await ledger.end({ runId, attempt }, { state: 'paused' })
    expect(await ledger.begin(runId, worker)).toBeUndefined()
    expect((await ledger.abandoned(0)).some(({ id }) => id === runId)).toBe(false)
    expect(await ledger.requestCancel(runId)).toMatchObject({ state: 'cancelled' })
  })

  it('that waits is cancelled at once', async () => {
    const runId = await queued()
    expect(await ledger.requestCancel(runId)).toMatchObject({ state: 'cancelled' })
    await expect(ledger.requestCancel(runId)).rejects.toMatchObject({
      code: 'conflict',
      message: expect.stringContaining('already been cancelled'),
    })
  })

  it('that runs is asked to stop, and is cancelled at the latest when its attempt ends', async () => {
    const { runId, attempt } = await running()
    const heard: string[] = []
    const listener = await listen(scratch.url, [channels.control], {
      onMessage: (_channel, payload) => heard.push(payload),
      onReconnect: () => {},
    })
    expect(await ledger.requestCancel(runId)).toMatchObject({ state: 'running', cancelRequested: true })
    await eventually(() => expect(heard).toEqual([JSON.stringify({ runId, action: 'cancel' })]))
    await listener.close()
    await ledger.end({ runId, attempt }, { state: 'queued', outcome: 'lost' })
    expect(await stateOf(runId)).toBe('cancelled')
  })

  it('that was asked to stop and is taken up again is cancelled instead', async () => {
    const { runId } = await running()
    await ledger.requestCancel(runId)
    expect(await ledger.begin(runId, worker)).toBeUndefined()
    expect(await stateOf(runId)).toBe('cancelled')
  })

  it('that nobody knows is not found', async () => {
    await expect(ledger.requestCancel(strange)).rejects.toMatchObject({ code: 'not-found' })
    await expect(ledger.requestCancel('nonsense')).rejects.toMatchObject({ code: 'not-found' })
    expect(await ledger.begin(strange, worker)).toBeUndefined()
    expect((await ledger.runs(['nonsense', strange])).size).toBe(0)
    expect(await ledger.artifact('nonsense')).toBeUndefined()
  })
})

describe('the event log', () => {
  it.each(["UPDATE events SET kind = 'x'", 'DELETE FROM events', 'TRUNCATE events'])(
    'refuses %s',
    async (statement) => {
      await queued()
      await expect(database.pool.query(statement)).rejects.toThrow(/append-only/)
    },
  )
})

describe('lists', () => {
  const tag = `t${newId()}`
  const names = ['b 10%', 'a', 'C', 'b 100', 'a']
  let ids: string[]
  beforeAll(async () => {
    ids = []
    for (const [place, name] of names.entries()) ids.push(await queued({ name, tags: [tag], priority: place % 2 }))
    for (const id of ids.slice(1, 3)) {
      const { attempt } = (await ledger.begin(id, worker))!
      await ledger.end({ runId: id, attempt }, { state: 'succeeded' })
    }
  })

  it.each(
    (['createdAt', 'name', 'priority', 'finishedAt'] as const).flatMap((by) =>
      (['asc', 'desc'] as const).map((direction) => ({ by, direction })),
    ),
  )('of runs come page by page without gap or repetition by $by, $direction', async (order) => {
    const whole = await ledger.listRuns({ filter: { tag }, order, first: 10 })
    expect(whole).toMatchObject({ hasNextPage: false })
    const found: string[] = []
    let after: string | undefined
    for (let page = 0; page < 3; page++) {
      const part = await ledger.listRuns({ filter: { tag }, order, first: 2, after })
      expect(part.hasNextPage).toBe(page < 2)
      found.push(...part.rows.map(({ id }) => id))
      after = part.endCursor ?? undefined
    }
    expect(found).toEqual(whole.rows.map(({ id }) => id))
    expect([...found].sort()).toEqual([...ids].sort())
  })

  it('are filtered, and signs in a name mean themselves', async () => {
    const list = async (filter: object) =>
      (await ledger.listRuns({ filter: { tag, ...filter }, first: 10 })).rows.map(({ name }) => name).sort()
    expect(await list({ name: '10%' })).toEqual(['b 10%'])
    expect(await list({ name: 'c' })).toEqual(['C'])
    expect(await list({ state: 'succeeded' })).toEqual(['C', 'a'])
    expect(await list({ state: ['queued'], method: 'npid' })).toEqual(['a', 'b 10%', 'b 100'])
    expect(await list({ dataset: 'other' })).toEqual([])
    expect(await list({ experimentId: 'nonsense' })).toEqual([])
    expect(await ledger.countRuns({ tag })).toBe(5)
    const experiments = await ledger.listExperiments({ filter: { tag, state: 'succeeded' }, first: 1 })
    expect(experiments).toMatchObject({ rows: [{ name: 'C' }], hasNextPage: true })
    expect(await ledger.countExperiments({ tag, createdAfter: new Date(Date.now() + 1e6) })).toBe(0)
  })

  it('refuse a cursor of another order', async () => {
    const { endCursor } = await ledger.listRuns({ filter: { tag }, first: 1 })
    const order = { by: 'name', direction: 'asc' } as const
    for (const after of [endCursor!, 'nonsense'])
      await expect(ledger.listRuns({ order, first: 1, after })).rejects.toMatchObject({ code: 'invalid-definition' })
  })

  const now = new Date().toISOString()
  it.each([
    ['createdAt', 'tomorrow', strange],
    ['createdAt', '2026-13-41T25:61:61.000Z', strange],
    ['createdAt', '0000-01-01T00:00:00.000Z', strange],
    ['createdAt', 5, strange],
    ['createdAt', null, strange],
    ['createdAt', { not: null }, strange],
    ['createdAt', now, 'nonsense'],
    ['createdAt', now, [strange]],
    ['finishedAt', 'never', strange],
    ['name', 'a\0', strange],
    ['name', null, strange],
    ['priority', 2 ** 31, strange],
    ['priority', 0.5, strange],
  ] as const)('refuse a cursor that somebody made: %s, %j, %j', async (by, value, id) => {
    const after = Buffer.from(JSON.stringify([by, 'desc', value, id])).toString('base64url')
    const asked = ledger.listRuns({ order: { by, direction: 'desc' }, first: 1, after })
    await expect(asked).rejects.toMatchObject({ code: 'invalid-definition' })
  })
})

describe('workers', () => {
  const row = { host: 'h', pid: 1, version: '1', engine: 'cpu', cores: 2, memoryBytes: 2 ** 34, concurrency: 1 }
  const isAbandoned = async (id: string) => (await ledger.abandoned(10)).some((run) => run.id === id)

  it('are known while they run', async () => {
    await ledger.workerStarted({ id: worker, ...row })
    expect(await ledger.heartbeat(worker, [])).toBe(true)
    expect(await ledger.heartbeat(newId(), [])).toBe(false)
    expect((await ledger.workers()).find(({ id }) => id === worker)).toMatchObject({ ...row, stoppedAt: null })
  })

  it('say how their GPU is with each heartbeat, and offer it unless it does not serve', async () => {
    const [id, plain] = [newId(), newId()]
    const card = { gpuName: 'NVIDIA T4', gpuSlots: 2, gpuMemoryBytes: 2 ** 34 }
    const offer = { gpu: true, gpuMemory: 2 ** 34, gpuSlots: 2 }
    await ledger.workerStarted({ id, ...row, ...card, offer })
    await ledger.workerStarted({ id: plain, ...row })
    const find = async (wanted: string) => (await ledger.workers()).find((one) => one.id === wanted)
    const unknown = { gpuFreeBytes: null, gpuUsedBytes: null, gpuUtilisation: null, gpuFault: null }
    expect(await find(id)).toMatchObject({ ...card, ...unknown, offer })
    expect(await find(plain)).toMatchObject({ gpuName: null, gpuSlots: 0, gpuMemoryBytes: null, ...unknown })
    const state = { gpuFreeBytes: 2 ** 33 + 0.5, gpuUsedBytes: 2 ** 33, gpuUtilisation: 0.5, gpuFault: 'no driver' }
    await ledger.heartbeat(id, [], state)
    expect(await find(id)).toMatchObject({
      ...{ ...state, gpuFreeBytes: 2 ** 33 + 1 },
      offer: { ...offer, gpu: false, gpuFault: 'no driver' },
    })
    await ledger.heartbeat(id, [])
    expect(await find(id)).toMatchObject({ ...card, ...unknown, offer })
  })

  it('that stop, fall silent or forget a run leave it abandoned', async () => {
    const id = newId()
    await ledger.workerStarted({ id, ...row })
    const runId = await queued()
    await ledger.begin(runId, id)
    await ledger.heartbeat(id, [runId])
    expect(await isAbandoned(runId)).toBe(false)
    const age = (table: string, column: string, where: string) =>
      database.pool.query(`UPDATE ${table} SET ${column} = now() - interval '20 seconds' WHERE ${where}`)
    await age('attempts', 'started_at', `run_id = '${runId}'`)
    expect(await isAbandoned(runId)).toBe(false)
    await ledger.heartbeat(id, [])
    expect(await isAbandoned(runId)).toBe(true)
    await ledger.heartbeat(id, [runId])
    expect(await isAbandoned(runId)).toBe(false)
    await age('workers', 'heartbeat_at', `id = '${id}'`)
    expect(await isAbandoned(runId)).toBe(true)
    await ledger.heartbeat(id, [runId])
    await ledger.workerStopped(id)
    expect(await isAbandoned(runId)).toBe(true)
  })

  it('that lose a run again and again are counted until a newer checkpoint', async () => {
    const { runId } = await running()
    expect(await ledger.losses(runId)).toBe(0)
    await ledger.begin(runId, worker)
    await ledger.begin(runId, worker)
    expect(await ledger.losses(runId)).toBe(2)
    await database.pool.query(
      "INSERT INTO checkpoints (id, run_id, attempt, step, final, key, size, sha256) VALUES ($1, $2, 2, 5, false, 'k', 1, 's')",
      [newId(), runId],
    )
    expect(await ledger.losses(runId)).toBe(0)
    await ledger.begin(runId, worker)
    expect(await ledger.losses(runId)).toBe(1)
  })

  it('see what waits', async () => {
    const runId = await queued()
    expect((await ledger.waiting(0)).some(({ id }) => id === runId)).toBe(true)
    expect((await ledger.waiting(60)).some(({ id }) => id === runId)).toBe(false)
  })
})

describe('leftovers', () => {
  it('go: keys after a day, workers a week after their last word', async () => {
    const row = { host: 'h', pid: 1, version: '1', engine: 'cpu', cores: 2, memoryBytes: 1, concurrency: 1 }
    const [fresh, silent, stopped] = [newId(), newId(), newId()]
    for (const id of [fresh, silent, stopped]) await ledger.workerStarted({ id, ...row })
    await ledger.workerStopped(stopped)
    for (const key of ['new', 'old']) await ledger.accept(submission, { key, fingerprint: 'f' })
    await database.pool.query("UPDATE idempotency_keys SET created_at = now() - interval '25 hours' WHERE key = 'old'")
    await database.pool.query(
      "UPDATE workers SET heartbeat_at = now() - interval '8 days', started_at = now() - interval '9 days' WHERE id = ANY ($1)",
      [[silent, stopped]],
    )
    expect(await ledger.removeLeftovers()).toBe(2)
    const keys = await database.pool.query<{ key: string }>(
      "SELECT key FROM idempotency_keys WHERE key IN ('new', 'old')",
    )
    expect(keys.rows).toEqual([{ key: 'new' }])
    const left = await database.pool.query<{ id: string }>('SELECT id FROM workers WHERE id = ANY ($1)', [
      [fresh, silent, stopped],
    ])
    expect(left.rows.map(({ id }) => id).sort()).toEqual([fresh, stopped].sort())
    expect(await ledger.removeLeftovers()).toBe(0)
  })
})
