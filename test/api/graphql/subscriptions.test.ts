import { setTimeout as sleep } from 'node:timers/promises'
import { type Client, createClient } from 'graphql-ws'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { WebSocket } from 'ws'
import { newId } from '../../../src/store/id.ts'
import { channels } from '../../../src/store/listen.ts'
import { appendPoints } from '../../../src/store/metrics.ts'
import { eventually } from '../../eventually.ts'
import { type Gate, openGate } from '../gate.ts'
import { acceptRun, openWorld, type World } from '../world.ts'

/** Two API processes' worth of apps on one database, the second behind a gate. */
let world: World
let other: World
let gate: Gate
const clients: Client[] = []

beforeAll(async () => {
  world = await openWorld()
  gate = await openGate(world.parts.config.databaseUrl!)
  other = await openWorld({ databaseUrl: gate.url })
  await Promise.all([world.listen(), other.listen()])
})
afterEach(async () => {
  for (const client of clients.splice(0)) await client.dispose()
})
afterAll(async () => {
  await other.close()
  await gate.close()
  await world.close()
})

interface Followed {
  // biome-ignore lint/suspicious/noExplicitAny: what arrives follows from the query's text
  values: any[]
  errors: unknown[]
  /** 'complete', or what ended it otherwise. */
  ended: Promise<unknown>
  unsubscribe(): void
}

function follow(from: World, query: string, variables?: Record<string, unknown>): Followed {
  const { port } = from.app.server.address() as { port: number }
  const url = `ws://127.0.0.1:${port}/graphql`
  const client = createClient({ url, webSocketImpl: WebSocket, retryAttempts: 0 })
  clients.push(client)
  const followed: Followed = { values: [], errors: [], ended: Promise.resolve(), unsubscribe: () => {} }
  followed.ended = new Promise((resolve) => {
    followed.unsubscribe = client.subscribe(
      { query, variables },
      {
        next: ({ data, errors }) => {
          followed.values.push(data)
          if (errors) followed.errors.push(errors)
        },
        error: (error) => resolve(error),
        complete: () => resolve('complete'),
      },
    )
  })
  return followed
}

const runUpdated = 'subscription ($id: ID!) { runUpdated(id: $id) { state version attempts { number } } }'
const metricsAppended = `subscription ($id: ID!, $names: [String!]) {
  metricsAppended(runId: $id, names: $names) { name sampled points { step value text } }
}`

async function begin(runId: string): Promise<number> {
  return (await world.parts.ledger.begin(runId, newId()))!.attempt
}
function tell(runId: string): Promise<unknown> {
  const payload = JSON.stringify({ runId, seq: 1 })
  return world.parts.database.pool.query('SELECT pg_notify($1, $2)', [channels.runs, payload])
}

describe('runUpdated', () => {
  it('tells the state at once, then each change through any process, and ends with the run', async () => {
    const runId = await acceptRun(world.parts)
    const here = follow(world, runUpdated, { id: runId })
    const there = follow(other, runUpdated, { id: runId })
    for (const { values } of [here, there])
      await eventually(() => expect(values).toMatchObject([{ runUpdated: { state: 'queued', attempts: [] } }]))
    const attempt = await begin(runId)
    for (const { values } of [here, there])
      await eventually(() =>
        expect(values.at(-1).runUpdated).toMatchObject({ state: 'running', attempts: [{ number: 1 }] }),
      )
    await world.parts.ledger.end({ runId, attempt }, { state: 'succeeded' })
    for (const { values, ended } of [here, there]) {
      expect(await ended).toBe('complete')
      expect(values.at(-1).runUpdated.state).toBe('succeeded')
    }
  })

  it('tells one that has ended and completes', async () => {
    const runId = await acceptRun(world.parts)
    await world.parts.ledger.requestCancel(runId)
    const { values, ended } = follow(world, runUpdated, { id: runId })
    expect(await ended).toBe('complete')
    expect(values).toMatchObject([{ runUpdated: { state: 'cancelled' } }])
  })

  it('joins what comes quickly, four times a second at most', async () => {
    const runId = await acceptRun(world.parts)
    const { values } = follow(world, runUpdated, { id: runId })
    await eventually(() => expect(values).toHaveLength(1))
    const start = Date.now()
    for (let i = 0; i < 100; i++) await tell(runId)
    await begin(runId)
    await eventually(() => expect(values.at(-1).runUpdated.state).toBe('running'))
    const seconds = (Date.now() - start) / 1000
    expect(values.length).toBeLessThanOrEqual(Math.ceil(seconds / 0.25) + 2)
  })

  it('names a run that is not there, and leaves the socket to the others', async () => {
    const runId = await acceptRun(world.parts)
    const { values, errors, ended } = follow(world, runUpdated, { id: newId() })
    expect(await ended).toBe('complete')
    expect(values[0]?.runUpdated ?? null).toBeNull()
    expect(errors[0]).toMatchObject([{ extensions: { code: 'not-found', cure: expect.any(String) } }])
    const still = follow(world, runUpdated, { id: runId })
    await eventually(() => expect(still.values).toHaveLength(1))
  })

  it('reads again when Postgres comes back, and misses nothing for good', async () => {
    const runId = await acceptRun(world.parts)
    const { values, ended } = follow(other, runUpdated, { id: runId })
    await eventually(() => expect(values).toHaveLength(1))
    await gate.shut()
    const attempt = await begin(runId)
    await world.parts.ledger.end({ runId, attempt }, { state: 'succeeded' })
    await sleep(50)
    expect(values).toHaveLength(1)
    await gate.open()
    expect(await ended).toBe('complete')
    expect(values.at(-1).runUpdated.state).toBe('succeeded')
  })
})

describe('metricsAppended', () => {
  const time = new Date()
  const loss = (step: number, value: number) => ({ name: 'loss', step, value, time })
  const rate = (step: number, value: number) => ({ name: 'learningRate', step, value, time })

  it('tells the curves so far, then only what was added, each point once', async () => {
    const runId = await acceptRun(world.parts)
    const attempt = await begin(runId)
    const append = async (...points: ReturnType<typeof loss>[]) => {
      await appendPoints(world.parts.database.pool, { runId, attempt }, points)
      await tell(runId)
    }
    await append(loss(0, 3), loss(1, 2))
    const { values, ended } = follow(other, metricsAppended, { id: runId, names: ['loss', 'learningRate'] })
    const points = () =>
      values.flatMap(({ metricsAppended: curves }) =>
        curves.flatMap((curve: { name: string; points: { step: number; text: string }[] }) =>
          curve.points.map(({ step, text }) => `${curve.name} ${step} ${text}`),
        ),
      )
    await eventually(() => expect(points()).toEqual(['loss 0 3', 'loss 1 2']))
    await append(loss(2, Number.NaN))
    await eventually(() => expect(points()).toHaveLength(3))
    // The same step of another curve, in a batch of its own, and a point that was sent before.
    await append(rate(2, 0.1), loss(1, 2), { name: 'other', step: 3, value: 1, time })
    await eventually(() => expect(points()).toHaveLength(4))
    await append(loss(3, Number.POSITIVE_INFINITY))
    await world.parts.ledger.end({ runId, attempt }, { state: 'succeeded' })
    expect(await ended).toBe('complete')
    expect(points()).toEqual(['loss 0 3', 'loss 1 2', 'loss 2 NaN', 'learningRate 2 0.1', 'loss 3 Infinity'])
  })

  it('says at once that there is nothing yet', async () => {
    const runId = await acceptRun(world.parts)
    const { values } = follow(world, metricsAppended, { id: runId })
    await eventually(() => expect(values).toEqual([{ metricsAppended: [] }]))
  })
})

describe('a websocket', () => {
  it('runs queries and mutations as HTTP does', async () => {
    const runId = await acceptRun(world.parts, 'by socket')
    const query =
      '{ runs(filter: { name: "by socket" }) { totalCount nodes { attempts { number } metrics { name } } } }'
    const asked = follow(world, query)
    expect(await asked.ended).toBe('complete')
    expect(asked.values).toEqual([{ runs: { totalCount: 1, nodes: [{ attempts: [], metrics: [] }] } }])
    const cancelled = follow(world, 'mutation ($id: ID!) { cancelRun(id: $id) { state } }', { id: runId })
    expect(await cancelled.ended).toBe('complete')
    expect(cancelled.values).toEqual([{ cancelRun: { state: 'cancelled' } }])
  })

  it.each([
    ['what does not parse', 'subscription { runUpdated(', 'invalid-query'],
    ['fields that are not there', 'subscription { runUpdated(id: "x") { colour } }', 'invalid-query'],
    ['missing arguments', 'subscription { runUpdated { id } }', 'invalid-query'],
    ['what is too much', '{ runs(first: 100) { nodes { log(last: 10000) { text } } } }', 'too-much'],
    [
      'several operations without a name',
      'query A { queue { waiting } } query B { queue { waiting } }',
      'invalid-query',
    ],
  ])('refuses %s', async (_title, query, code) => {
    const error = await follow(world, query).ended
    expect(error).toMatchObject([{ extensions: { code, cure: expect.any(String) } }])
  })

  it('masks defects', async () => {
    const runId = await acceptRun(world.parts)
    const { pool } = world.parts.database
    await pool.query('ALTER TABLE findings RENAME TO elsewhere')
    try {
      const query = 'subscription ($id: ID!) { runUpdated(id: $id) { findings { evaluation } } }'
      const { errors } = follow(world, query, { id: runId })
      await eventually(() => expect(errors[0]).toMatchObject([{ extensions: { code: 'internal' } }]))
      expect(JSON.stringify(errors)).not.toMatch(/findings"?,? does not exist|relation/)
    } finally {
      await pool.query('ALTER TABLE elsewhere RENAME TO findings')
    }
  })

  it('carries 50 operations at once, and frees them when it closes', async () => {
    const runId = await acceptRun(world.parts)
    const { port } = world.app.server.address() as { port: number }
    const client = createClient({ url: `ws://127.0.0.1:${port}/graphql`, webSocketImpl: WebSocket, retryAttempts: 0 })
    clients.push(client)
    const values: unknown[] = []
    const refused: unknown[] = []
    for (let i = 0; i < 60; i++)
      client.subscribe(
        { query: runUpdated, variables: { id: runId } },
        { next: (value) => values.push(value), error: (error) => refused.push(error), complete: () => {} },
      )
    await eventually(() => expect([values.length, refused.length]).toEqual([50, 10]))
    await client.dispose()
    await world.parts.ledger.requestCancel(runId)
    await sleep(50)
    expect(values).toHaveLength(50)
  })

  it('closes with 1001 when the server stops', async () => {
    const short = await openWorld({ databaseUrl: world.parts.config.databaseUrl })
    const address = await short.listen()
    const socket = new WebSocket(`${address.replace('http', 'ws')}/graphql`, 'graphql-transport-ws')
    await new Promise((resolve) => socket.once('open', resolve))
    const closed = new Promise((resolve) => socket.once('close', resolve))
    await short.close()
    expect(await closed).toBe(1001)
  })
})
