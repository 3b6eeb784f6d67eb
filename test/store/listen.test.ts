import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { newId } from '../../src/store/id.ts'
import { channels, listen, readNotice } from '../../src/store/listen.ts'
import { eventually } from '../eventually.ts'
import { testDatabase } from '../postgres.ts'

describe('listening', () => {
  let database: Awaited<ReturnType<typeof testDatabase>>
  let client: pg.Client
  beforeAll(async () => {
    database = await testDatabase()
    client = new pg.Client(database.url)
    await client.connect()
  })
  afterAll(async () => {
    await client.end()
    await database.drop()
  })

  it('hears its channels on one connection, and goes on after that connection was cut', async () => {
    const heard: string[] = []
    let reconnects = 0
    const listener = await listen(database.url, Object.values(channels), {
      onMessage: (channel, payload) => heard.push(`${channel} ${payload}`),
      onReconnect: () => reconnects++,
    })
    const connections = () =>
      client
        .query(
          "SELECT pid FROM pg_stat_activity WHERE application_name = 'gestalt-listen' AND datname = current_database()",
        )
        .then(({ rows }) => rows.map(({ pid }) => pid))
    await client.query("SELECT pg_notify('gestalt_runs', 'one'), pg_notify('gestalt_other', 'not ours')")
    await eventually(() => expect(heard).toEqual(['gestalt_runs one']))
    for (const round of [1, 2]) {
      const [pid] = await connections()
      await client.query('SELECT pg_terminate_backend($1)', [pid])
      await eventually(() => expect(reconnects).toBe(round))
    }
    expect(await connections()).toHaveLength(1)
    await client.query("SELECT pg_notify('gestalt_control', 'two')")
    await eventually(() => expect(heard.at(-1)).toBe('gestalt_control two'))
    await listener.close()
    await eventually(async () => expect(await connections()).toEqual([]))
    expect(reconnects).toBe(2)
  })

  it('says at the start when there is no server', async () => {
    const handlers = { onMessage: () => {}, onReconnect: () => {} }
    await expect(listen('postgresql://nobody@127.0.0.1:1/none', ['a'], handlers)).rejects.toMatchObject({
      code: 'unavailable',
    })
  })
})

describe('a notice', () => {
  it('is read where it names a run, and is none otherwise', () => {
    const runId = newId()
    expect(readNotice(JSON.stringify({ runId, seq: 3 }))).toEqual({ runId, action: undefined })
    expect(readNotice(JSON.stringify({ runId, action: 'cancel' }))).toEqual({ runId, action: 'cancel' })
    for (const payload of ['', '{', 'null', '7', '"text"', '{"runId":3}', '{"runId":"nonsense"}'])
      expect(readNotice(payload)).toBeUndefined()
  })
})
