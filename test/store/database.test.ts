import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { isPostgresAway, openDatabase } from '../../src/store/database.ts'
import { isId, newId } from '../../src/store/id.ts'
import { openLedger } from '../../src/store/ledger.ts'
import { eventually } from '../eventually.ts'
import { testDatabase } from '../postgres.ts'

describe('a database', () => {
  let scratch: Awaited<ReturnType<typeof testDatabase>>
  beforeAll(async () => {
    scratch = await testDatabase()
  })
  afterAll(() => scratch.drop())

  it('is read with Prisma and with SQL over one pool of so many connections', async () => {
    const database = await openDatabase({ url: scratch.url, max: 3, name: 'database-test' })
    const work = Array.from({ length: 20 }, (_, place) =>
      place % 2 ? database.prisma.run.count() : database.pool.query('SELECT pg_sleep(0.01)'),
    )
    await Promise.all(work)
    const { rows } = await database.pool.query(
      "SELECT count(*)::int AS n FROM pg_stat_activity WHERE application_name = 'database-test'",
    )
    expect(rows[0].n).toBe(3)
    await database.close()
  })

  it('goes on after all of its connections were cut', async () => {
    const database = await openDatabase({ url: scratch.url, max: 3, name: 'cut-test' })
    const ledger = openLedger(database)
    await Promise.all([1, 2, 3].map(() => database.pool.query('SELECT pg_sleep(0.01)')))
    const other = await openDatabase({ url: scratch.url, max: 1, name: 'cutter' })
    await other.pool.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'cut-test'")
    await eventually(async () => expect(await ledger.countRuns().catch(() => undefined)).toBe(0))
    await Promise.all([database.close(), other.close()])
  })

  it('that is away is unavailable, before and after it was there', async () => {
    const away = openDatabase({ url: 'postgresql://nobody@127.0.0.1:1/none', max: 1, name: 'away' })
    await expect(away).rejects.toMatchObject({ code: 'unavailable', cure: expect.stringContaining('DATABASE_URL') })
    const gone = await testDatabase()
    const database = await openDatabase({ url: gone.url, max: 1, name: 'gone' })
    const ledger = openLedger(database)
    await ledger.countRuns()
    await gone.drop()
    const error = await ledger.countRuns().catch((reason: unknown) => reason)
    expect(error).toBeInstanceOf(Error)
    await database.close()
  })

  it('that refuses us is a fault of the settings', async () => {
    const url = new URL(scratch.url)
    url.password = 'wrong'
    await expect(openDatabase({ url: url.href, max: 1, name: 'wrong' })).rejects.toMatchObject({
      code: 'misconfigured',
      message: expect.not.stringContaining('wrong@'),
    })
    url.href = scratch.url
    url.pathname = '/none'
    await expect(openDatabase({ url: url.href, max: 1, name: 'wrong' })).rejects.toMatchObject({
      code: 'misconfigured',
      cure: 'correct DATABASE_URL',
    })
  })

  it.each([
    [90, 'ahead of'],
    [-90, 'behind'],
  ])('is refused by a machine whose clock is %i s off', async (seconds, words) => {
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + seconds * 1000 })
    try {
      await expect(openDatabase({ url: scratch.url, max: 1, name: 'test' })).rejects.toMatchObject({
        code: 'misconfigured',
        message: `the clock of this machine is 90 s ${words} the database's`,
      })
    } finally {
      vi.useRealTimers()
    }
  })

  it('breaks off a statement that takes too long, read with Prisma and with SQL, and serves the next', async () => {
    const database = await openDatabase({ url: scratch.url, max: 2, name: 'slow-test', statementSeconds: 0.2 })
    const ledger = openLedger(database)
    const holder = await database.pool.connect()
    await holder.query('BEGIN; LOCK TABLE runs, run_log')
    const slow = { code: 'unavailable', message: 'the database took too long over a statement' }
    await expect(ledger.listRuns({ first: 1 })).rejects.toMatchObject(slow)
    await expect(ledger.log([newId()], 1)).rejects.toMatchObject(slow)
    await holder.query('ROLLBACK')
    holder.release()
    expect(await ledger.countRuns()).toBe(0)
    await database.close()
  })

  it('lets nobody hold locks who fell asleep in a transaction', async () => {
    const database = await openDatabase({ url: scratch.url, max: 2, name: 'sleep-test' })
    const sleeper = await database.pool.connect()
    const { rows } = await sleeper.query('SHOW idle_in_transaction_session_timeout')
    expect(rows).toEqual([{ idle_in_transaction_session_timeout: '10s' }])
    await sleeper.query("SET idle_in_transaction_session_timeout = '100ms'; BEGIN; LOCK TABLE runs")
    expect(await openLedger(database).countRuns()).toBe(0)
    await expect(sleeper.query('SELECT 1')).rejects.toSatisfy(isPostgresAway)
    sleeper.release(true)
    await database.close()
  })

  it('knows what says that it is away', () => {
    for (const code of ['ECONNREFUSED', '25P03', '57P01', 'P1001']) expect(isPostgresAway({ code })).toBe(true)
    expect(isPostgresAway(new Error('Connection terminated unexpectedly'))).toBe(true)
    const ofPrisma = { code: 'P2039', meta: { driverAdapterError: { cause: { originalCode: '57P01' } } } }
    expect(isPostgresAway(ofPrisma)).toBe(true)
    for (const error of [{ code: '23505' }, new Error('other'), undefined, null])
      expect(isPostgresAway(error)).toBe(false)
  })
})

describe('ids', () => {
  it('are UUIDs of version 7 that sort by their making', () => {
    const ids = Array.from({ length: 10_000 }, newId)
    expect(new Set(ids).size).toBe(ids.length)
    expect([...ids].sort()).toEqual(ids)
    for (const id of ids.slice(0, 100)) {
      expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
      expect(isId(id)).toBe(true)
    }
    expect(Math.abs(Number.parseInt(ids[0]!.replace('-', '').slice(0, 12), 16) - Date.now())).toBeLessThan(5000)
    for (const text of ['', 'x', `${newId()}0`, newId().replace('-', '_')]) expect(isId(text)).toBe(false)
  })
})
