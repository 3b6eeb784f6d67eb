import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Changes, openChanges } from '../../src/api/changes.ts'
import { Unavailable } from '../../src/errors.ts'
import { newId } from '../../src/store/id.ts'
import { channels } from '../../src/store/listen.ts'
import { testDatabase } from '../postgres.ts'

let database: Awaited<ReturnType<typeof testDatabase>>
let client: pg.Client
let changes: Changes
beforeAll(async () => {
  database = await testDatabase()
  client = new pg.Client(database.url)
  await client.connect()
  changes = await openChanges(database.url)
})
afterAll(async () => {
  await changes.close()
  await client.end()
  await database.drop()
})

const tell = (payload: string) => client.query('SELECT pg_notify($1, $2)', [channels.runs, payload])
const told = (runId: string) => tell(JSON.stringify({ runId, seq: 1 }))

/** A feed that counts its readings. */
function counted(runId: string) {
  const readings = { count: 0 }
  const feed = changes.follow(runId, async () => ({ value: ++readings.count, last: false }))
  return { feed, readings }
}

describe('a feed of changes', () => {
  it('reads only when the value before was taken, however much happens', async () => {
    const runId = newId()
    const { feed, readings } = counted(runId)
    expect(await feed.next()).toEqual({ value: { value: 1 }, done: false })
    for (let i = 0; i < 500; i++) await told(runId)
    await sleep(400)
    expect(readings.count).toBe(1)
    expect(await feed.next()).toEqual({ value: { value: 2 }, done: false })
    await feed.return?.()
  })

  it('wakes for its own run only, and for nothing that is no notice', async () => {
    const runId = newId()
    const { feed, readings } = counted(runId)
    await feed.next()
    const next = feed.next()
    for (const payload of ['', '{', 'null', '{"runId":3}', JSON.stringify({ runId: newId() })]) await tell(payload)
    await sleep(100)
    expect(readings.count).toBe(1)
    await told(runId)
    expect((await next).done).toBe(false)
    await feed.return?.()
  })

  it('ends at once when nobody wants it any more, though it waits', async () => {
    const { feed } = counted(newId())
    await feed.next()
    const next = feed.next()
    await feed.return?.()
    expect(await next).toEqual({ value: undefined, done: true })
    expect((await feed.next()).done).toBe(true)
  })

  it('waits while Postgres is away and brings any other error as its last news', async () => {
    const runId = newId()
    const outcomes = [new Unavailable('away', 'wait'), new Error('a defect')]
    const feed = changes.follow(runId, () => Promise.reject(outcomes.shift()))
    const next = feed.next()
    await sleep(50)
    await told(runId)
    expect(await next).toEqual({ value: { error: new Error('a defect') }, done: false })
    expect((await feed.next()).done).toBe(true)
  })

  it('is refused where there are too many', () => {
    const feeds: { return?(): unknown }[] = []
    try {
      expect(() => {
        for (let i = 0; i < 3000; i++) feeds.push(counted(newId()).feed)
      }).toThrow(Unavailable)
      expect(feeds).toHaveLength(2000)
    } finally {
      for (const feed of feeds) feed.return?.()
    }
    expect(() => counted(newId()).feed.return?.()).not.toThrow()
  })
})
