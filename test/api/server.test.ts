import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createClient } from 'graphql-ws'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { WebSocket } from 'ws'
import type { Config } from '../../src/config.ts'
import { readConfig } from '../../src/config.ts'
import { Conflict, Misconfigured, Unavailable } from '../../src/errors.ts'
import { type RunningServer, startServer } from '../../src/server.ts'
import { eventually } from '../eventually.ts'
import { testDatabase } from '../postgres.ts'
import { definition, testConfig } from './world.ts'

let home: string
let database: Awaited<ReturnType<typeof testDatabase>>
let config: Config
beforeAll(async () => {
  home = mkdtempSync(join(tmpdir(), 'gestalt-server-'))
  database = await testDatabase()
  config = testConfig(home, { databaseUrl: database.url })
})
afterAll(async () => {
  await database.drop()
  rmSync(home, { recursive: true, force: true })
})

/** Connections to this test's database by name, ours left out. */
async function connections(): Promise<Record<string, number>> {
  const client = new pg.Client({ connectionString: database.url, application_name: 'count' })
  await client.connect()
  try {
    const { rows } = await client.query<{ name: string; count: number }>(
      `SELECT application_name AS name, count(*)::int AS count FROM pg_stat_activity
       WHERE datname = current_database() AND application_name <> 'count' GROUP BY 1`,
    )
    return Object.fromEntries(rows.map(({ name, count }) => [name, count]))
  } finally {
    await client.end()
  }
}
const sum = (counts: Record<string, number>) => Object.values(counts).reduce((all, count) => all + count, 0)

describe('an API process', () => {
  it('uses at most 20 connections under load, serves sockets, and gives all back when it stops', async () => {
    const server = await startServer(config)
    const client = createClient({
      url: `${server.url.replace('http', 'ws')}/graphql`,
      webSocketImpl: WebSocket,
      retryAttempts: 0,
    })
    try {
      const headers = { 'content-type': 'application/json' }
      const body = JSON.stringify(definition())
      const posted = await fetch(`${server.url}/v1/experiments`, { method: 'POST', headers, body })
      const { runIds } = (await posted.json()) as { runIds: string[] }
      const states: unknown[] = []
      for (let i = 0; i < 30; i++)
        client.subscribe(
          { query: 'subscription ($id: ID!) { runUpdated(id: $id) { state } }', variables: { id: runIds[0] } },
          { next: (value) => states.push(value), error: () => {}, complete: () => {} },
        )
      const statuses = new Set<number>()
      let most = 0
      for (let round = 0; round < 5; round++) {
        const asked = Array.from({ length: 60 }, async (_, i) => {
          const path = i % 3 ? `/v1/runs?name=${i}` : `/v1/runs/${runIds[0]}`
          const response =
            i % 10
              ? await fetch(server.url + path)
              : await fetch(`${server.url}/v1/experiments`, { method: 'POST', headers, body })
          statuses.add(response.status)
          await response.arrayBuffer()
        })
        most = Math.max(most, sum(await connections()))
        await Promise.all(asked)
        most = Math.max(most, sum(await connections()))
      }
      await eventually(() => expect(states).toHaveLength(30))
      expect([...statuses].sort()).toEqual([200, 202])
      expect(most).toBeGreaterThan(3)
      expect(most).toBeLessThanOrEqual(20)
      const counts = await connections()
      expect(counts['gestalt-listen']).toBe(1)
    } finally {
      await server.stop()
      await client.dispose()
    }
    await eventually(async () => expect(await connections()).toEqual({}))
    await expect(fetch(server.url)).rejects.toThrow()
  })

  it('finishes the requests at work before it stops, and stops once', async () => {
    const server: RunningServer = await startServer(config)
    const asked = Array.from({ length: 10 }, () => fetch(`${server.url}/v1/runs`))
    await Promise.all(asked.slice(0, 1))
    await Promise.all([server.stop(), server.stop()])
    for (const response of await Promise.allSettled(asked))
      if (response.status === 'fulfilled') expect(response.value.status).toBe(200)
  })

  it('names the port that is in use and gives back what it had opened', async () => {
    const taken = createServer()
    await new Promise<void>((done) => taken.listen(0, '127.0.0.1', done))
    const { port } = taken.address() as { port: number }
    const start = startServer({ ...config, port })
    await expect(start).rejects.toBeInstanceOf(Conflict)
    await expect(start).rejects.toMatchObject({
      message: expect.stringContaining(String(port)),
      cure: expect.stringContaining('GESTALT_PORT'),
    })
    const scraped = startServer({ ...config, metricsPort: port })
    await expect(scraped).rejects.toMatchObject({ cure: expect.stringContaining('GESTALT_METRICS_PORT') })
    await new Promise((done) => taken.close(done))
    await eventually(async () => expect(await connections()).toEqual({}))
    // Now the port is free.
    const server = await startServer({ ...config, token: 'a-token-of-some-length', metricsPort: port })
    expect((await fetch(`http://127.0.0.1:${port}/metrics`)).status).toBe(200)
    expect((await fetch(`${server.url}/metrics`)).status).toBe(401)
    await server.stop()
    await expect(fetch(`http://127.0.0.1:${port}/metrics`)).rejects.toThrow()
  })

  it('says that the database is away, not migrated, not named or not the right one', async () => {
    const away = startServer({ ...config, databaseUrl: 'postgresql://nobody@127.0.0.1:1/none' })
    await expect(away).rejects.toBeInstanceOf(Unavailable)
    await expect(away).rejects.toMatchObject({ cure: expect.stringContaining('DATABASE_URL') })
    const empty = await testDatabase({ empty: true })
    try {
      const bare = startServer({ ...config, databaseUrl: empty.url })
      await expect(bare).rejects.toBeInstanceOf(Misconfigured)
      await expect(bare).rejects.toMatchObject({
        message: expect.stringContaining('0001'),
        cure: "run 'gestalt migrate'",
      })
    } finally {
      await empty.drop()
    }
    await expect(startServer({ ...config, databaseUrl: undefined })).rejects.toThrow('DATABASE_URL is not set')
    const none = config.databaseUrl!.replace(/[^/]+$/, 'no_such_database')
    await expect(startServer({ ...config, databaseUrl: none })).rejects.toMatchObject({
      cure: expect.stringContaining('DATABASE_URL'),
    })
  })

  it('refuses an address that others can reach without a token', () => {
    const environment = { GESTALT_HOME: home, GESTALT_HOST: '0.0.0.0' }
    expect(() => readConfig(environment)).toThrow(/GESTALT_TOKEN/)
    expect(readConfig({ ...environment, GESTALT_TOKEN: 'sixteen-or-more-letters' }).host).toBe('0.0.0.0')
  })
})
