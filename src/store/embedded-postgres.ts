import { existsSync, readFileSync, rmSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { lockHome } from './home-lock.ts'
import { choosePlace } from './postgres-place.ts'
import { guard, initialise, startServer, stopServer } from './postgres-server.ts'

/** A running server of our own. */
export interface EmbeddedPostgres {
  /** The database `gestalt` on 127.0.0.1, password included. */
  url: string
  /** Folder of the database files. */
  directory: string
  /** Something the person at the terminal should know, in one sentence. */
  notice?: string
  /** Resolves when the server has ended, wanted or not. */
  exited: Promise<void>
  /** Ends it after the running statements, within seconds, and gives the folder free. */
  stop(): Promise<void>
}

/**
 * Starts PostgreSQL below `home` and waits until it takes connections. One process may use a home at a time (Conflict).
 * A server that an earlier process left running all the same is stopped first.
 */
export async function startPostgres(options: {
  home: string
  log?: (line: string) => void
}): Promise<EmbeddedPostgres> {
  const home = resolve(options.home)
  const release = lockHome(home)
  try {
    const place = choosePlace(home)
    const passwordFile = join(place.folder, 'password')
    const logFile = join(place.folder, 'postgres.log')
    if (existsSync(logFile) && readFileSync(logFile).length > 2 ** 20) rmSync(logFile)
    if (!existsSync(join(place.folder, 'data'))) options.log?.('making a new database')
    await initialise(place, passwordFile, logFile)
    const { child, exited, url } = await startServer(place, readFileSync(passwordFile, 'utf8').trim(), logFile)
    exited.then(guard(child.pid!))
    const stop = async () => {
      if (child.pid !== undefined && child.exitCode === null && child.signalCode === null) await stopServer(child.pid)
      await exited
      release()
    }
    return { url, directory: place.folder, notice: place.notice, exited, stop }
  } catch (error) {
    release()
    throw error
  }
}
