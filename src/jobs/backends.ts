import { setTimeout as sleep } from 'node:timers/promises'
import { type Job as BullJob, createPostgresBackend, Queue, runMigrations, Worker, withBackend } from 'bullmq'
import { Redis } from 'ioredis'
import type pg from 'pg'
import { Misconfigured, Unavailable } from '../errors.ts'
import { isPostgresAway, openPool } from '../store/pool.ts'

/** What a job carries. */
export interface Job {
  runId: string
  /** How often a worker gave it back that cannot take it. */
  givenBack?: number
  /** How often more it may be given back without a pause, since somebody who could take it called it. */
  hops?: number
}
export type Delivered = Pick<BullJob<Job>, 'data' | 'updateData' | 'moveToDelayed'>
export type Handler = (job: Delivered, token?: string) => Promise<void>
export type BullQueue = Pick<
  Queue<Job>,
  'add' | 'getJob' | 'getJobCounts' | 'isPaused' | 'waitUntilReady' | 'close' | 'on'
>
export type BullWorker = Pick<Worker<Job>, 'waitUntilReady' | 'close' | 'on'>

/** BullMQ on one of the services that can keep its jobs. */
export interface Backend {
  kind: 'postgres' | 'redis'
  queue: BullQueue
  worker(handler: Handler, concurrency: number): BullWorker
  /** Those of the ids whose job is kept, in a round trip or two; jobs that are done or failed are not. */
  kept(jobIds: readonly string[]): Promise<Set<string>>
  close(): Promise<void>
}

const name = 'gestalt-runs'
const schema = 'bullmq'

/**
 * A consumer that is killed leaves a lock of at most `lockDuration` ms, noticed at the next `stalledInterval`: its job
 * is delivered again within 9 s and a little. Every delivery after a loss counts as a stall, and runs may be long and
 * workers many, so no number of stalls is too many; the supervisor judges by what was lost instead.
 */
const recovery = { lockDuration: 6000, stalledInterval: 3000, maxStalledCount: 1_000_000, runRetryDelay: 1000 }

/** Nothing that is done or failed stays: a job that stayed would hide the same id enqueued again. */
const defaultJobOptions = { removeOnComplete: true, removeOnFail: true, attempts: 1 }
const streams = { events: { maxLen: 1000 } }

/** What an error says; those of a refused connection to several addresses have a code and no message. */
export function said(error: unknown): string {
  return (error instanceof Error && (error.message || (error as NodeJS.ErrnoException).code)) || String(error)
}

/** Rejects after a while, for a race with something that may never answer. */
export async function late(milliseconds: number): Promise<never> {
  await sleep(milliseconds, undefined, { ref: false })
  throw new Error(`no answer within ${milliseconds / 1000} s`)
}

/**
 * BullMQ knows a lost connection by ECONNREFUSED alone and, with any other word of the driver, ends its search for
 * stalled jobs for good instead of trying again. So a lost connection is called by the name it knows.
 */
function named(error: Error): Error {
  return isPostgresAway(error)
    ? Object.assign(new Error(said(error), { cause: error }), { code: 'ECONNREFUSED' })
    : error
}

function openQueuePool(url: string, max: number, onError: (error: Error) => void): pg.Pool {
  const place = new URL(url)
  place.searchParams.set('options', `-c search_path=${schema}`)
  const pool = openPool({ url: place.href, max, name: 'gestalt-queue' })
  pool.on('error', onError)
  const query = pool.query.bind(pool) as (...given: unknown[]) => Promise<unknown>
  pool.query = ((...given: unknown[]) =>
    query(...given).catch((error: Error) => {
      throw named(error)
    })) as typeof pool.query
  return pool
}

/** Jobs in Postgres, in a schema of their own that is migrated here. All of BullMQ's objects share one pool. */
export async function openPostgres(
  url: string,
  connections: number,
  onError: (error: Error) => void,
): Promise<Backend> {
  const postgres = withBackend(createPostgresBackend)
  const pool = openQueuePool(url, connections, onError)
  try {
    const client = await pool.connect()
    await runMigrations(client, schema).finally(() => client.release())
  } catch (error) {
    await pool.end()
    throw new Unavailable(`the queue's Postgres does not answer: ${said(error)}`, 'start it or correct DATABASE_URL', {
      cause: error,
    })
  }
  return {
    kind: 'postgres',
    queue: new postgres.Queue<Job>(name, { connection: pool, streams, defaultJobOptions }) as unknown as BullQueue,
    worker: (handler, concurrency) => {
      const options = { connection: pool, concurrency, ...recovery }
      return new postgres.Worker<Job>(name, handler, options) as unknown as BullWorker
    },
    // BullMQ has no such question, only one a job; 'job' is its table.
    async kept(jobIds) {
      const statement = 'SELECT id FROM job WHERE queue = $1 AND id = ANY ($2)'
      const { rows } = await pool.query<{ id: string }>(statement, [name, jobIds])
      return new Set(rows.map(({ id }) => id))
    },
    close: () => pool.end(),
  }
}

/** The Redis that BullMQ wants at least. */
const oldestRedis = '6.2.0'

const numbers = (version: string) => version.split('.').map(Number)

function isOlder(version: string, than: string): boolean {
  const [own, wanted] = [numbers(version), numbers(than)]
  const place = own.findIndex((number, i) => number !== wanted[i])
  return place >= 0 && own[place]! < (wanted[place] ?? 0)
}

/** Refuses a Redis that is too old, cannot write, or forgets keys to make room: that would lose jobs. */
async function checkRedis(redis: Redis): Promise<void> {
  const info = await Promise.race([redis.info(), late(5000)])
  const of = (name: string) => info.match(new RegExp(`^${name}:(.*?)\\r?$`, 'm'))?.[1] ?? ''
  if (isOlder(of('redis_version'), oldestRedis))
    throw new Misconfigured(
      `the queue's Redis has version ${of('redis_version')}`,
      `use ${oldestRedis} or later, or unset REDIS_URL: then the queue is in Postgres`,
    )
  const policy = of('maxmemory_policy')
  if (policy !== '' && policy !== 'noeviction')
    throw new Misconfigured(
      `the queue's Redis forgets keys when its memory is full (maxmemory-policy ${policy}), and with them runs`,
      'set maxmemory-policy noeviction in its configuration, or give the queue a Redis of its own',
    )
  if (of('role') === 'slave')
    throw new Misconfigured("the queue's Redis is a replica, which takes no jobs", 'name its primary in REDIS_URL')
}

/** Throws Unavailable where it does not answer within 5 s, Misconfigured where it cannot keep jobs. */
export async function connectRedis(url: string, onError: (error: Error) => void): Promise<Redis> {
  const redis = new Redis(url, { maxRetriesPerRequest: null, lazyConnect: true, connectionName: 'gestalt-queue' })
  redis.on('error', onError)
  // Why is told here only: connect() says that the connection is closed.
  let why: unknown
  redis.on('error', (error) => {
    why = error
  })
  try {
    await Promise.race([redis.connect(), late(5000)])
    await checkRedis(redis)
  } catch (error) {
    redis.disconnect()
    if (error instanceof Misconfigured) throw error
    const reason = said(why ?? error)
    if (/NOAUTH|WRONGPASS|NOPERM/.test(reason))
      throw new Misconfigured(`the queue's Redis refuses us: ${reason}`, 'correct user and password in REDIS_URL', {
        cause: error,
      })
    throw new Unavailable(`the queue's Redis does not answer: ${reason}`, 'start it, correct or unset REDIS_URL', {
      cause: error,
    })
  }
  return redis
}

/** Jobs in Redis. */
export async function openRedis(url: string, onError: (error: Error) => void): Promise<Backend> {
  const redis = await connectRedis(url, onError)
  const queue = new Queue<Job>(name, { connection: redis, streams, defaultJobOptions })
  return {
    kind: 'redis',
    queue,
    async kept(jobIds) {
      const keys = jobIds.map((id) => queue.toKey(id))
      if (keys.length === 0 || (await redis.exists(keys)) === keys.length) return new Set(jobIds) // as a rule
      const asked = redis.pipeline()
      for (const key of keys) asked.exists(key)
      const answers = (await asked.exec()) ?? []
      const failed = answers.find(([error]) => error)
      if (failed) throw failed[0]
      return new Set(jobIds.filter((_, place) => answers[place]?.[1] === 1))
    },
    worker: (handler, concurrency) => new Worker<Job>(name, handler, { connection: redis, concurrency, ...recovery }),
    close: async () => redis.disconnect(),
  }
}
