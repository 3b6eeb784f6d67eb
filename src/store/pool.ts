import pg from 'pg'
import { GestaltError, NoRoom, Unavailable } from '../errors.ts'

export interface PoolOptions {
  url: string
  /** Connections at most. */
  max: number
  /** Shown by Postgres as application_name, so that each process' connections can be counted. */
  name: string
  /** After which Postgres breaks a statement off; no such end where it is absent. */
  statementSeconds?: number
}

/** After which Postgres ends the transaction of a process that fell asleep in it, lest its locks hold up others. */
const sleepSeconds = 10

/** Codes of Node, of Postgres and of Prisma that say the server is away, not that the statement is wrong. */
const away = new Set([
  ...['ECONNREFUSED', 'ECONNRESET', 'ENOTFOUND', 'ETIMEDOUT', 'EPIPE', 'EHOSTUNREACH', 'ENETUNREACH', 'EAI_AGAIN'],
  ...['P1001', 'P1002', 'P1008', 'P1017', 'P2024'],
  ...['25P03', '57P01', '57P02', '57P03', '53300', '08000', '08001', '08003', '08004', '08006'],
])

/** The code of what went wrong below: Prisma keeps that of Postgres in the cause of its adapter's error. */
function codeOf(error: unknown): string | undefined {
  const { code, meta } = (error ?? {}) as {
    code?: string
    meta?: { driverAdapterError?: { cause?: { originalCode?: string } } }
  }
  return meta?.driverAdapterError?.cause?.originalCode ?? code
}

/** Whether waiting may help: the connection broke, or the server is starting, stopping or full of connections. */
export function isPostgresAway(error: unknown): boolean {
  if (error instanceof Unavailable) return isPostgresAway(error.cause)
  const code = codeOf(error)
  if (code !== undefined && away.has(code)) return true
  const { message = '' } = (error ?? {}) as { message?: string }
  return /Connection terminated|timeout exceeded when trying to connect|Client has encountered/.test(message)
}

/** What happened. Prisma puts the place in our code above it, which is no business of a caller. */
function lastLine(error: unknown): string | undefined {
  const { message = '' } = (error ?? {}) as { message?: string }
  return message.trim().split('\n').at(-1)
}

/** The error of a statement as one that a reader can act on; others are returned as they are. */
export function translateDatabaseError(error: unknown): unknown {
  if (error instanceof GestaltError) return error
  const code = codeOf(error)
  const message = lastLine(error)
  if (code === '53100')
    return new NoRoom(`the database has no room: ${message}`, 'free disk space where its files are', { cause: error })
  if (code === '57014')
    return new Unavailable(
      'the database took too long over a statement',
      'ask for less, or again when it is less busy',
      {
        cause: error,
      },
    )
  if (isPostgresAway(error))
    return new Unavailable(
      `the database does not answer${message ? `: ${message}` : ''}`,
      'see that PostgreSQL runs and that DATABASE_URL names it, then try again',
      { cause: error },
    )
  return error
}

/** A pool that outlives the loss of its connections. */
export function openPool({ url, max, name, statementSeconds }: PoolOptions): pg.Pool {
  const pool = new pg.Pool({
    connectionString: url,
    max,
    application_name: name,
    connectionTimeoutMillis: 10_000,
    idleTimeoutMillis: 30_000,
    keepAlive: true,
    idle_in_transaction_session_timeout: sleepSeconds * 1000,
    ...(statementSeconds === undefined ? {} : { statement_timeout: statementSeconds * 1000 }),
  })
  pool.on('error', () => {}) // an idle connection broke; the next statement opens another or says why it cannot
  pool.on('connect', (client) => client.on('error', () => {}))
  return pool
}

/** Runs `work` in one transaction; the error it throws rolls everything back. */
export async function transaction<T>(pool: pg.Pool, work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
  const client = await pool.connect()
  let broken = false
  try {
    await client.query('BEGIN')
    const result = await work(client)
    await client.query('COMMIT')
    return result
  } catch (error) {
    await client.query('ROLLBACK').catch(() => {
      broken = true
    })
    throw error
  } finally {
    client.release(broken)
  }
}
