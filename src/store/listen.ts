import pg from 'pg'
import { isId } from './id.ts'
import { translateDatabaseError } from './pool.ts'

/** `runs`: {"runId","seq"} when a run has news. `control`: {"runId","action":"cancel"} to whoever performs it. */
export const channels = { runs: 'gestalt_runs', control: 'gestalt_control' } as const

/** Told to whoever listens when the transaction commits, and not at all when it does not. */
export async function notifyRun(client: pg.ClientBase, run: { id: string; version: number }): Promise<void> {
  const payload = JSON.stringify({ runId: run.id, seq: run.version })
  await client.query('SELECT pg_notify($1, $2)', [channels.runs, payload])
}

/** What a notification says; undefined where it is none of ours: whoever may connect to the database may notify. */
export function readNotice(payload: string): { runId: string; action?: unknown } | undefined {
  try {
    const { runId, action } = JSON.parse(payload) as { runId?: unknown; action?: unknown }
    return typeof runId === 'string' && isId(runId) ? { runId, action } : undefined
  } catch {
    return undefined
  }
}

export interface ListenHandlers {
  onMessage(channel: string, payload: string): void
  /** After the connection was lost and is there again: what was told meanwhile is gone, so read again. */
  onReconnect(): void
}

/**
 * Listens on one connection, and opens it again for as long as it takes when it is lost. The first connection must
 * succeed (Unavailable).
 */
export async function listen(
  url: string,
  names: readonly string[],
  handlers: ListenHandlers,
  name = 'gestalt-listen',
): Promise<{ close(): Promise<void> }> {
  let closed = false
  let client: pg.Client | undefined
  let timer: NodeJS.Timeout | undefined

  async function connect(): Promise<void> {
    const fresh = new pg.Client({
      connectionString: url,
      application_name: name,
      keepAlive: true,
      connectionTimeoutMillis: 10_000,
    })
    let live = false
    fresh.on('error', () => {}) // 'end' follows
    fresh.on('notification', ({ channel, payload }) => handlers.onMessage(channel, payload ?? ''))
    fresh.on('end', () => {
      if (live && !closed) reconnect(100)
    })
    try {
      await fresh.connect()
      for (const channel of names) await fresh.query(`LISTEN ${pg.escapeIdentifier(channel)}`)
    } catch (error) {
      await fresh.end().catch(() => {})
      throw error
    }
    if (closed) return void fresh.end().catch(() => {})
    live = true
    client = fresh
  }

  function reconnect(wait: number): void {
    client = undefined
    timer = setTimeout(() => {
      connect().then(
        () => closed || handlers.onReconnect(),
        () => closed || reconnect(Math.min(wait * 2, 2000)),
      )
    }, wait)
  }

  try {
    await connect()
  } catch (error) {
    throw translateDatabaseError(error)
  }
  return {
    async close() {
      closed = true
      clearTimeout(timer)
      await client?.end().catch(() => {})
    },
  }
}
