import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { migrate, pendingMigrations } from '../../src/store/migrate.ts'
import { testDatabase } from '../postgres.ts'

describe('migrations', () => {
  let database: Awaited<ReturnType<typeof testDatabase>>
  let folder: string
  beforeAll(async () => {
    database = await testDatabase({ empty: true })
    folder = await mkdtemp(join(tmpdir(), 'gestalt-migrations-'))
    await cp(new URL('../../prisma/migrations', import.meta.url), folder, { recursive: true })
  })
  afterAll(async () => {
    await database.drop()
    await rm(folder, { recursive: true })
  })

  it('are all pending in an empty database, which asking does not change', async () => {
    expect(await pendingMigrations(database.url)).toContain('0001_initial')
    expect(await pendingMigrations(database.url)).toContain('0001_initial')
  })

  it('are applied once by three runners at the same time', async () => {
    const applied = await Promise.all([1, 2, 3].map(() => migrate(database.url)))
    expect(applied.filter((names) => names.length > 0)).toHaveLength(1)
    expect(applied.flat()).toContain('0001_initial')
    expect(await migrate(database.url)).toEqual([])
    expect(await pendingMigrations(database.url)).toEqual([])
  })

  it('leave nothing behind when one of them fails', async () => {
    await cp(join(folder, '0001_initial'), join(folder, '9998_broken'), { recursive: true })
    await writeFile(join(folder, '9998_broken', 'migration.sql'), 'CREATE TABLE half (); SELECT 1 / 0;')
    await expect(migrate(database.url, folder)).rejects.toThrow(/division by zero/)
    const client = new pg.Client(database.url)
    await client.connect()
    const { rows } = await client.query("SELECT to_regclass('half') AS half")
    await client.end()
    expect(rows[0].half).toBeNull()
    await rm(join(folder, '9998_broken'), { recursive: true })
  })

  it('are refused when a file was changed after it was applied', async () => {
    await writeFile(join(folder, '0001_initial', 'migration.sql'), '-- changed')
    await expect(migrate(database.url, folder)).rejects.toMatchObject({
      code: 'conflict',
      message: expect.stringContaining('0001_initial was changed'),
    })
  })

  it('are refused when the database knows more of them than we do', async () => {
    await rm(join(folder, '0001_initial'), { recursive: true })
    await expect(migrate(database.url, folder)).rejects.toMatchObject({
      code: 'conflict',
      message: expect.stringContaining('does not know'),
    })
  })

  it('say how to go on when there is no server', async () => {
    await expect(migrate('postgresql://nobody@127.0.0.1:1/none')).rejects.toMatchObject({
      code: 'unavailable',
      cure: expect.stringContaining('DATABASE_URL'),
    })
  })
})
