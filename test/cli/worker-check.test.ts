import { hostname } from 'node:os'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { checkWorker } from '../../src/cli/worker-check.ts'
import { readConfig } from '../../src/config.ts'
import { type Database, openDatabase } from '../../src/store/database.ts'
import { newId } from '../../src/store/id.ts'
import { openLedger } from '../../src/store/ledger.ts'
import { testDatabase } from '../postgres.ts'

describe('the health check of a worker', () => {
  let place: Awaited<ReturnType<typeof testDatabase>>
  let database: Database

  beforeAll(async () => {
    place = await testDatabase()
    database = await openDatabase({ url: place.url, max: 1, name: 'gestalt-test' })
  })
  afterAll(async () => {
    await database.close()
    await place.drop()
  })

  async function check(url = place.url) {
    let words = ''
    const output = {
      json: false,
      say() {},
      result<T>(value: T, write: (value: T) => string) {
        words = write(value)
      },
    }
    return { code: await checkWorker(readConfig({ DATABASE_URL: url }), output), words }
  }

  it('holds while the worker of this host is heard of, and as long as it is not lost', async () => {
    const ledger = openLedger(database)
    const id = newId()
    expect(await check()).toEqual({ code: 1, words: 'the worker of this host is not registered' })
    const machine = { pid: 1, version: '0', engine: 'cpu', cores: 1, memoryBytes: 1, concurrency: 1 }
    await ledger.workerStarted({ id, host: hostname(), ...machine })
    await ledger.workerStarted({ id: newId(), host: 'elsewhere', ...machine })
    expect(await check()).toEqual({ code: 0, words: 'the worker of this host is online' })
    const silent = (seconds: number) =>
      database.pool.query('UPDATE workers SET heartbeat_at = now() - make_interval(secs => $2) WHERE id = $1', [
        id,
        seconds,
      ])
    await silent(7)
    expect(await check()).toEqual({ code: 0, words: 'the worker of this host is unknown' })
    await silent(60)
    expect(await check()).toEqual({ code: 1, words: 'the worker of this host is lost' })
  })

  it('holds where the database is away, since ending the worker would only lose work', async () => {
    const { code, words } = await check('postgresql://nobody@127.0.0.1:1/none')
    expect([code, words]).toEqual([0, expect.stringMatching(/^nothing is known: the database does not answer/)])
  })
})
