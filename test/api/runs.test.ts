import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { newId } from '../../src/store/id.ts'
import { appendPoints } from '../../src/store/metrics.ts'
import { acceptRun, openWorld, type World } from './world.ts'

let world: World
let runId: string
beforeAll(async () => {
  world = await openWorld()
  runId = await acceptRun(world.parts, 'measured')
  const { attempt } = (await world.parts.ledger.begin(runId, newId()))!
  const time = new Date('2026-01-31T12:00:00Z')
  const loss = Array.from({ length: 3000 }, (_, step) => ({ name: 'loss', step, value: 1 / (step + 1), time }))
  loss[1500]!.value = Number.NaN
  const rate = [
    { name: 'learningRate', step: 0, value: 0.1, time },
    { name: 'learningRate', step: 1, value: Number.POSITIVE_INFINITY, time },
    { name: 'learningRate', step: 2, value: Number.NEGATIVE_INFINITY, time },
  ]
  await appendPoints(world.parts.database.pool, { runId, attempt }, [...loss, ...rate])
  await world.parts.database.pool.query(
    `INSERT INTO run_log (run_id, attempt, number, time, level, text)
     SELECT $1, 1, i, now(), 'info', 'line ' || i FROM generate_series(1, 30) AS i`,
    [runId],
  )
})
afterAll(() => world.close())

describe('GET /v1/runs', () => {
  it('shows a run with what was kept of it', async () => {
    const run = (await world.send(`/v1/runs/${runId}`)).json()
    expect(run).toMatchObject({ id: runId, state: 'running', attempt: 1, cancelRequested: false, failure: null })
    expect(run.attempts).toMatchObject([{ number: 1, outcome: null }])
    for (const list of ['checkpoints', 'artifacts', 'findings', 'embeddings']) expect(run[list]).toEqual([])
    expect(run.waiting).toBeNull()
  })

  it('says why a run waits', async () => {
    const { ledger } = world.parts
    const waiting = await acceptRun(world.parts, 'waiting')
    const read = async () => (await world.send(`/v1/runs/${waiting}`)).json().waiting
    expect(await read()).toBe("no worker is there: start one with 'gestalt worker'")
    const machine = { host: 'lab1', pid: 1, version: '0', engine: 'cpu', cores: 1, memoryBytes: 1, concurrency: 1 }
    const worker = newId()
    await ledger.workerStarted({ id: worker, ...machine })
    expect(await read()).toBe('it is about to be taken')
    await ledger.workerStopped(worker)
    expect(await read()).toContain('no worker is there')
    await ledger.requestCancel(waiting)
    expect(await read()).toBeNull()
  })

  it('says why a worker gave a run back, in its attempt, its log and what it waits for', async () => {
    const { ledger } = world.parts
    const given = await acceptRun(world.parts, 'given back')
    const machine = { host: 'lab1', pid: 1, version: '0', engine: 'cpu', cores: 1, memoryBytes: 1, concurrency: 1 }
    const worker = newId()
    await ledger.workerStarted({ id: worker, ...machine })
    const { attempt } = (await ledger.begin(given, worker))!
    const reason = 'it found no room on the GPU beside 2 other runs; it is taken again once it is alone there'
    await ledger.end({ runId: given, attempt }, { state: 'queued', outcome: 'lost', reason })
    const run = (await world.send(`/v1/runs/${given}`)).json()
    expect(run).toMatchObject({ state: 'queued', waiting: reason, attempts: [{ outcome: 'lost', reason }] })
    const query = 'query ($id: ID!) { run(id: $id) { waiting attempts { reason } log { level text } } }'
    const { data } = await world.query(query, { id: given })
    expect(data.run).toEqual({ waiting: reason, attempts: [{ reason }], log: [{ level: 'warn', text: reason }] })
    await ledger.workerStopped(worker)
    expect((await world.send(`/v1/runs/${given}`)).json().waiting).toContain('no worker is there')
    await ledger.requestCancel(given)
  })

  it('finds runs by state, and refuses an id that is none', async () => {
    const { items } = (await world.send('/v1/runs?state=running&state=failed')).json()
    expect(items).toMatchObject([{ id: runId }])
    expect((await world.send('/v1/runs?state=queued')).json().items).toEqual([])
    expect((await world.send('/v1/runs?experimentId=nonsense')).statusCode).toBe(400)
  })

  it.each(['', '/metrics', '/log'])('knows no other run at /v1/runs/:id%s', async (rest) => {
    const response = await world.send(`/v1/runs/${newId()}${rest}`)
    expect(response.statusCode).toBe(404)
    expect(response.json()).toMatchObject({ code: 'not-found', cure: 'GET /v1/runs lists those there are' })
  })
})

describe('GET /v1/runs/:id/metrics', () => {
  it('bounds the points, says that it left some out, and keeps those that are not numbers', async () => {
    const { curves } = (await world.send(`/v1/runs/${runId}/metrics?names=loss&maxPoints=100`)).json()
    expect(curves).toHaveLength(1)
    const [{ name, sampled, points }] = curves
    expect({ name, sampled }).toEqual({ name: 'loss', sampled: true })
    expect(points.length).toBeLessThanOrEqual(100)
    expect(points[0]).toMatchObject({ step: 0, value: 1, text: '1' })
    expect(points.at(-1).step).toBe(2999)
    expect(points.find((point: { step: number }) => point.step === 1500)).toMatchObject({ value: null, text: 'NaN' })
  })

  it('gives every point of a short stretch, in JSON and CSV, infinities in words', async () => {
    const path = `/v1/runs/${runId}/metrics?names=learningRate,loss&from=0&to=2`
    const { curves } = (await world.send(path)).json()
    const rate = curves.find((curve: { name: string }) => curve.name === 'learningRate')
    expect(rate.sampled).toBe(false)
    expect(rate.points.map(({ value, text }: { value: number; text: string }) => [value, text])).toEqual([
      [0.1, '0.1'],
      [null, 'Infinity'],
      [null, '-Infinity'],
    ])
    const csv = await world.send(path, undefined, { headers: { accept: 'text/csv' } })
    expect(csv.headers['content-type']).toBe('text/csv; charset=utf-8')
    const lines = csv.body.trimEnd().split('\r\n')
    expect(lines[0]).toBe('name,step,value,time')
    expect(lines).toContain('learningRate,2,-Infinity,2026-01-31T12:00:00.000Z')
    expect(lines).toHaveLength(7)
  })

  it('refuses what it cannot be, with the faults named', async () => {
    const path = `/v1/runs/${runId}/metrics`
    expect((await world.send(path, undefined, { headers: { accept: 'image/png' } })).statusCode).toBe(406)
    expect((await world.send(`${path}?maxPoints=100000`)).json().errors[0].pointer).toBe('/maxPoints')
    for (const from of ['x', '-1', '99999999999999999999'])
      expect((await world.send(`${path}?from=${from}`)).json().errors[0].pointer).toBe('/from')
  })

  it('finds no curve of a name that nothing can have', async () => {
    expect((await world.send(`/v1/runs/${runId}/metrics?names=%00`)).json()).toEqual({ runId, curves: [] })
  })
})

describe('GET /v1/runs/:id/log', () => {
  it('gives the newest lines, oldest first, as JSON or text', async () => {
    const { lines } = (await world.send(`/v1/runs/${runId}/log?last=2`)).json()
    expect(lines.map(({ text }: { text: string }) => text)).toEqual(['line 29', 'line 30'])
    const text = await world.send(`/v1/runs/${runId}/log?last=2`, undefined, { headers: { accept: 'text/plain' } })
    expect(text.body).toMatch(/^\S+ info {2}line 29\n\S+ info {2}line 30\n$/)
  })
})

describe('POST /v1/runs/:id/cancel', () => {
  it('ends a waiting run at once, asks a running one, and refuses one that has ended', async () => {
    const waiting = await acceptRun(world.parts)
    const cancelled = await world.send(`/v1/runs/${waiting}/cancel`, {})
    expect(cancelled.statusCode).toBe(202)
    expect(cancelled.json()).toMatchObject({ id: waiting, state: 'cancelled' })
    const again = await world.send(`/v1/runs/${waiting}/cancel`, undefined, { method: 'POST' })
    expect(again.statusCode).toBe(409)
    expect(again.json()).toMatchObject({ code: 'conflict', detail: expect.stringContaining('cancelled') })
    const asked = await world.send(`/v1/runs/${runId}/cancel`, {})
    expect(asked.json()).toMatchObject({ state: 'running', cancelRequested: true })
    expect((await world.send(`/v1/runs/${newId()}/cancel`, {})).statusCode).toBe(404)
  })
})
