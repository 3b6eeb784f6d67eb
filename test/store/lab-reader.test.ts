import { randomBytes } from 'node:crypto'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest'
import { grantReader } from '../../src/store/lab-reader.ts'
import { migrate } from '../../src/store/migrate.ts'
import { testDatabase } from '../postgres.ts'

const random = () => randomBytes(6).toString('hex')

/** Rows of some statements in one connection, of the last one. */
async function ask<Row = Record<string, unknown>>(url: string, ...statements: string[]): Promise<Row[]> {
  const client = new pg.Client(url)
  await client.connect()
  try {
    let rows: Row[] = []
    for (const statement of statements) rows = (await client.query(statement)).rows as Row[]
    return rows
  } finally {
    await client.end()
  }
}

/** The same server and database for another account. */
function as(url: string, role: string, password: string): string {
  const other = new URL(url)
  other.username = role
  other.password = password
  return other.href
}

describe('the role of the dashboards', () => {
  const role = `reader_${random()}`
  const password = random()
  let database: Awaited<ReturnType<typeof testDatabase>>
  let reader: string

  beforeAll(async () => {
    database = await testDatabase()
    await grantReader(database.url, role)
    reader = as(database.url, role, password)
  })
  afterAll(async () => {
    await ask(database.url, `DROP OWNED BY ${role}`, `DROP ROLE ${role}`)
    await database.drop()
  })

  it('is made without a way to log in, and may be granted again', async () => {
    const [found] = await ask(database.url, `SELECT rolcanlogin, rolsuper FROM pg_roles WHERE rolname = '${role}'`)
    expect(found).toEqual({ rolcanlogin: false, rolsuper: false })
    await grantReader(database.url, role)
    await ask(database.url, `ALTER ROLE ${role} LOGIN PASSWORD '${password}'`)
  })

  it('reads every view, and has its statements broken off', async () => {
    const views = await ask<{ name: string }>(
      database.url,
      "SELECT table_name AS name FROM information_schema.views WHERE table_schema = 'grafana' ORDER BY 1",
    )
    expect(views.map(({ name }) => name)).toEqual([
      ...['attempts_v1', 'checkpoints_v1', 'events_v1', 'experiments_v1', 'queue_v1', 'run_curves_v1', 'run_log_v1'],
      ...['run_metrics_v1', 'run_samples_v1', 'run_scores_v1', 'run_series_v1', 'runs_v1', 'workers_v1'],
    ])
    for (const { name } of views) expect(await ask(reader, `SELECT * FROM grafana.${name}`)).toEqual([])
    expect(await ask(reader, 'SHOW statement_timeout')).toEqual([{ statement_timeout: '15s' }])
  })

  it('reads no table of any schema, and writes nothing', async () => {
    const tables = await ask<{ name: string }>(
      database.url,
      `SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables
       WHERE schemaname NOT IN ('pg_catalog', 'information_schema')`,
    )
    expect(tables.length).toBeGreaterThan(15)
    for (const { name } of tables)
      await expect(ask(reader, `SELECT * FROM ${name}`), name).rejects.toThrow(/permission denied/)
    for (const statement of ['DELETE FROM grafana.experiments_v1', 'CREATE TABLE public.mine ()'])
      await expect(ask(reader, statement)).rejects.toThrow(/permission denied|read-only/)
    await expect(
      ask(reader, 'SET default_transaction_read_only = off', 'DELETE FROM grafana.experiments_v1'),
    ).rejects.toThrow(/permission denied/)
  })

  it('reads the views that a later version brings', async () => {
    await ask(database.url, 'CREATE VIEW grafana.later_v1 AS SELECT name FROM experiments')
    expect(await ask(reader, 'SELECT * FROM grafana.later_v1')).toEqual([])
  })

  it('is refused where it would read everything, or has no name for a role', async () => {
    const owner = new URL(database.url).username
    await expect(grantReader(database.url, owner)).rejects.toMatchObject({ code: 'misconfigured' })
    for (const name of ['x; DROP TABLE runs', 'pg_monitor', 'Grafana', ''])
      await expect(grantReader(database.url, name)).rejects.toThrow(/is no name for a role/)
  })
})

describe('an account that may not make roles', () => {
  const owner = `owner_${random()}`
  const role = `reader_${random()}`
  const password = random()
  const name = `test_${random()}`
  const server = inject('postgresUrl')

  beforeAll(async () => {
    await ask(server, `CREATE ROLE ${owner} LOGIN PASSWORD '${password}'`, `CREATE DATABASE ${name} OWNER ${owner}`)
  })
  afterAll(async () => {
    await ask(server, `DROP DATABASE ${name} WITH (FORCE)`, `DROP ROLE IF EXISTS ${role}`, `DROP ROLE ${owner}`)
  })

  it('migrates, is told what an administrator should run, and grants what it owns after that', async () => {
    const url = new URL(as(server, owner, password))
    url.pathname = `/${name}`
    await migrate(url.href)
    const refused = await grantReader(url.href, role).catch((error: unknown) => error)
    expect(refused).toMatchObject({ code: 'misconfigured', message: expect.stringContaining('may not make the role') })
    const [, statements] = /run: (.*) -- then run this again/.exec((refused as { cure: string }).cure)!
    await ask(server, statements!)
    await grantReader(url.href, role)
    await ask(server, `ALTER ROLE ${role} LOGIN PASSWORD '${password}'`)
    const reader = as(url.href, role, password)
    expect(await ask(reader, 'SELECT * FROM grafana.runs_v1')).toEqual([])
    expect(await ask(reader, 'SHOW statement_timeout')).toEqual([{ statement_timeout: '15s' }])
    await expect(ask(reader, 'SELECT * FROM runs')).rejects.toThrow(/permission denied/)
  })

  it('is told what a role lacks that an administrator made otherwise', async () => {
    await ask(server, `ALTER ROLE ${role} RESET statement_timeout`)
    const url = new URL(as(server, owner, password))
    url.pathname = `/${name}`
    const cure = `ALTER ROLE ${role} SET statement_timeout = '15s'`
    await expect(grantReader(url.href, role)).rejects.toMatchObject({ cure: expect.stringContaining(cure) })
  })
})
