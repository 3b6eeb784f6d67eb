import { PrismaPg } from '@prisma/adapter-pg'
import type pg from 'pg'
import { Misconfigured, Unavailable } from '../errors.ts'
import { PrismaClient } from './generated/client.ts'
import { openPool, type PoolOptions, translateDatabaseError } from './pool.ts'

export { isPostgresAway } from './pool.ts'

/** One pool of connections, for plain SQL and for Prisma alike. */
export interface Database {
  pool: pg.Pool
  prisma: PrismaClient
  url: string
  close(): Promise<void>
}

const oldest = 130_000

/** Seconds that two clocks may be apart: the longest of our patience that is counted by both is shorter. */
const mostApart = 30

/** Times of one machine are compared with those of another: heartbeats, links, what a person reads. */
function checkClock(server: Date, asked: number, answered: number): void {
  const apart = Math.round((asked + answered) / 2 - server.getTime()) / 1000
  // It answered at some moment in between.
  if (Math.abs(apart) - (answered - asked) / 2000 <= mostApart) return
  throw new Misconfigured(
    `the clock of this machine is ${Math.abs(Math.round(apart))} s ${apart > 0 ? 'ahead of' : 'behind'} the database's`,
    'let both follow a time server (chrony, systemd-timesyncd), then start again',
  )
}

/** Refuses a server that is too old, or of another time; throws Unavailable where none answers. */
async function check(pool: pg.Pool): Promise<void> {
  try {
    const client = await pool.connect()
    const asked = Date.now()
    const { rows } = await client
      .query<{ version: string; time: Date }>("SELECT current_setting('server_version_num') AS version, now() AS time")
      .finally(() => client.release())
    checkClock(rows[0]!.time, asked, Date.now())
    if (Number(rows[0]?.version) < oldest)
      throw new Misconfigured(`the PostgreSQL server has version ${rows[0]?.version}`, 'use PostgreSQL 13 or later')
  } catch (error) {
    if (error instanceof Misconfigured) throw error
    const { code, message } = error as { code?: string; message?: string }
    // 28*: wrong password or account, 3D000: no such database
    if (code?.startsWith('28') || code === '3D000')
      throw new Misconfigured(`the database refuses us: ${message}`, 'correct DATABASE_URL', { cause: error })
    throw translateDatabaseError(error)
  }
}

/** Opens the database and sees that it answers: Unavailable, or Misconfigured where waiting would not help. */
export async function openDatabase(options: PoolOptions): Promise<Database> {
  const pool = openPool(options)
  try {
    await check(pool)
  } catch (error) {
    await pool.end().catch(() => {})
    throw error
  }
  const prisma = new PrismaClient({
    adapter: new PrismaPg(pool, { onPoolError: () => {}, onConnectionError: () => {} }),
  })
  return {
    pool,
    prisma,
    url: options.url,
    async close() {
      await prisma.$disconnect()
      await pool.end()
    },
  }
}

/** As openDatabase, but waits for a server that is still starting; throws Unavailable after `seconds`. */
export async function awaitDatabase(options: PoolOptions, seconds: number): Promise<Database> {
  const until = Date.now() + seconds * 1000
  for (;;) {
    try {
      return await openDatabase(options)
    } catch (error) {
      if (!(error instanceof Unavailable) || Date.now() > until) throw error
      await new Promise((done) => setTimeout(done, 250))
    }
  }
}
