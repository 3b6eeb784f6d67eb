import type { Config } from '../config.ts'
import { Misconfigured } from '../errors.ts'
import { awaitDatabase, type Database } from './database.ts'
import { pendingMigrations } from './migrate.ts'
import type { PoolOptions } from './pool.ts'

/**
 * The database that the settings name, ready for use: Misconfigured where none is named or it is not migrated,
 * Unavailable where it has not answered after `patienceSeconds`.
 */
export async function openNamedDatabase(
  { databaseUrl }: Pick<Config, 'databaseUrl'>,
  options: Omit<PoolOptions, 'url'>,
  patienceSeconds: number,
): Promise<Database> {
  if (!databaseUrl)
    throw new Misconfigured('DATABASE_URL is not set', "name the database, or use 'gestalt up', which brings its own")
  const database = await awaitDatabase({ url: databaseUrl, ...options }, patienceSeconds)
  try {
    const pending = await pendingMigrations(databaseUrl)
    if (pending.length === 0) return database
    throw new Misconfigured(`the database lacks the migrations ${pending.join(', ')}`, "run 'gestalt migrate'")
  } catch (error) {
    await database.close()
    throw error
  }
}
