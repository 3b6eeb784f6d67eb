import { hostname } from 'node:os'
import type { Config } from '../config.ts'
import { Unavailable } from '../errors.ts'
import { openLedger } from '../store/ledger.ts'
import { openNamedDatabase } from '../store/open-database.ts'
import { exitCodes, type Output } from './output.ts'

const patienceSeconds = 2

/**
 * Whether the newest worker of this host is heard of, for the health check of a container. Returns the exit code: 0 as
 * well where the database is away, since a worker that is ended for that would lose its runs' latest steps for nothing.
 */
export async function checkWorker(config: Config, output: Output): Promise<number> {
  try {
    const database = await openNamedDatabase(config, { max: 1, name: 'gestalt-check' }, patienceSeconds)
    try {
      const own = (await openLedger(database).workers()).find(({ host }) => host === hostname())
      const state = own?.state ?? 'not registered'
      output.result({ id: own?.id ?? null, state }, () => `the worker of this host is ${state}`)
      return state === 'online' || state === 'unknown' ? exitCodes.done : exitCodes.failed
    } finally {
      await database.close()
    }
  } catch (error) {
    if (!(error instanceof Unavailable)) throw error
    output.result({ id: null, state: null }, () => `nothing is known: ${error.message}`)
    return exitCodes.done
  }
}
