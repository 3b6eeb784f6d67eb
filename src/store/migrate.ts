import { createHash, randomUUID } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { Conflict } from '../errors.ts'
import { translateDatabaseError } from './pool.ts'

/** The advisory lock that Prisma's own engine takes, so that both exclude each other. */
const lock = 72707369

const folder = fileURLToPath(new URL('../../prisma/migrations', import.meta.url))

/** Prisma's own table: `prisma migrate status` agrees with what we write. */
const table = `CREATE TABLE IF NOT EXISTS _prisma_migrations (
  id varchar(36) PRIMARY KEY NOT NULL, checksum varchar(64) NOT NULL, finished_at timestamptz,
  migration_name varchar(255) NOT NULL, logs text, rolled_back_at timestamptz,
  started_at timestamptz NOT NULL DEFAULT now(), applied_steps_count integer NOT NULL DEFAULT 0)`

interface Migration {
  name: string
  sql: string
  checksum: string
}

async function known(from: string): Promise<Migration[]> {
  const entries = await readdir(from, { withFileTypes: true })
  const names = entries.flatMap((entry) => (entry.isDirectory() ? [entry.name] : [])).sort()
  return Promise.all(
    names.map(async (name) => {
      const sql = await readFile(join(from, name, 'migration.sql'), 'utf8')
      return { name, sql, checksum: createHash('sha256').update(sql).digest('hex') }
    }),
  )
}

/** Those that the database lacks, in order. Throws Conflict where the two histories do not fit. */
async function missing(client: pg.Client, migrations: readonly Migration[]): Promise<Migration[]> {
  const { rows } = await client.query<{ name: string; checksum: string; finished: boolean }>(
    `SELECT migration_name AS name, checksum, finished_at IS NOT NULL AS finished
     FROM _prisma_migrations WHERE rolled_back_at IS NULL`,
  )
  const applied = new Map(rows.map((row) => [row.name, row]))
  for (const name of applied.keys())
    if (!migrations.some((migration) => migration.name === name))
      throw new Conflict(
        `the database has the migration ${name}, which this version does not know`,
        'it was used by a newer Gestalt: start that version, or choose another database',
      )
  return migrations.filter(({ name, checksum }) => {
    const row = applied.get(name)
    if (row && !row.finished)
      throw new Conflict(`the migration ${name} failed half-way`, 'restore the database from before it')
    if (row && row.checksum !== checksum)
      throw new Conflict(
        `the migration ${name} was changed after it was applied`,
        'restore its file, and put the change into a new migration',
      )
    return !row
  })
}

/** One transaction a migration: it is applied as a whole or not at all. */
async function apply(client: pg.Client, { name, sql, checksum }: Migration): Promise<void> {
  await client.query('BEGIN')
  try {
    await client.query(sql)
    await client.query(
      `INSERT INTO _prisma_migrations (id, checksum, migration_name, finished_at, applied_steps_count)
       VALUES ($1, $2, $3, clock_timestamp(), 1)`,
      [randomUUID(), checksum, name],
    )
    await client.query('COMMIT')
  } catch (error) {
    await client.query('ROLLBACK').catch(() => {})
    throw error
  }
}

/** Does `work` with one connection of its own. */
export async function connected<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url, application_name: 'gestalt-migrate' })
  client.on('error', () => {})
  try {
    await client.connect()
    return await work(client)
  } catch (error) {
    throw translateDatabaseError(error)
  } finally {
    await client.end().catch(() => {})
  }
}

/**
 * Brings the database up to this version and returns the names of the migrations it applied. Any number of processes
 * may do so at once: one applies, the others wait and find nothing to do.
 */
export function migrate(url: string, from = folder): Promise<string[]> {
  return connected(url, async (client) => {
    const migrations = await known(from)
    await client.query('SELECT pg_advisory_lock($1)', [lock]) // given back when the connection ends
    await client.query(table)
    const todo = await missing(client, migrations)
    for (const migration of todo) await apply(client, migration)
    return todo.map(({ name }) => name)
  })
}

/** Names of the migrations that `migrate` would apply; the database is not changed. */
export function pendingMigrations(url: string, from = folder): Promise<string[]> {
  return connected(url, async (client) => {
    const migrations = await known(from)
    const { rows } = await client.query("SELECT to_regclass('_prisma_migrations') IS NOT NULL AS present")
    if (!rows[0]?.present) return migrations.map(({ name }) => name)
    return (await missing(client, migrations)).map(({ name }) => name)
  })
}
