import { setTimeout as sleep } from 'node:timers/promises'
import { createPostgresBackend, Queue as RedisQueue, Worker as RedisWorker, runMigrations, withBackend } from 'bullmq'
import { Redis } from 'ioredis'
import pg from 'pg'
import { Unavailable } from '../errors.ts'
import type { Logger } from '../experiments/context.ts'

/** A run's place in the queue. */
export interface QueuedRun {
  runId: string
  /** The run's fencing epoch now: the job with this id starts the next attempt. */
  attempt: number
  /** Higher is sooner. */
  priority: number
  /** Seconds before it may be delivered. */
  delay?: number
}

/** Jobs by state; finished ones are not kept. */
export interface QueueCounts {
  waiting: number
  active: number
  delayed: number
  failed: number
  paused: number
}

export interface Consumer {
  /** Takes no more jobs and returns when the handlers at work have returned. */
  close(): Promise<void>
}

/**
 * The order in which runs are taken up. It carries an id and nothing else, and may lose or repeat a job: Postgres is
 * the truth about runs, and the reconciler mends what the queue lost.
 */
export interface Queue {
  /** Which service keeps the jobs. */
  readonly backend: 'postgres' | 'redis'
  /** The same run and attempt twice is one job. Retries a lost connection for some seconds, then Unavailable. */
  enqueue(run: QueuedRun): Promise<void>
  /** Whether the job of this run and attempt is waiting, delayed or at work. */
  has(run: Pick<QueuedRun, 'runId' | 'attempt'>): Promise<boolean>
  counts(): Promise<QueueCounts>
  /**
   * Calls `handler` for each job, at most `concurrency` at once. The job of a consumer that died is delivered again,
   * so a handler may be called twice for the same run.
   */
  work(handler: (job: { runId: string }) => Promise<void>, options: { concurrency: number }): Promise<Consumer>
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
const jobOptions = { removeOnComplete: true, removeOnFail: true, attempts: 1 }
const streams = { events: { maxLen: 1000 } }

/** BullMQ takes the lower number first, from 1 (0 is its own, faster queue that overtakes all) to 2^21 - 1. */
function bullPriority(priority: number): number {
  return Math.min(Math.max(2 ** 20 - Math.round(priority), 1), 2 ** 21 - 1)
}

/** BullMQ reserves ':' in ids. */
function jobId(run: Pick<QueuedRun, 'runId' | 'attempt'>): string {
  return `${run.runId}-${run.attempt}`
}

interface Job {
  runId: string
}
type BullQueue = Pick<
  RedisQueue<Job>,
  'add' | 'getJob' | 'getJobCounts' | 'isPaused' | 'waitUntilReady' | 'close' | 'on'
>
type BullWorker = Pick<RedisWorker<Job>, 'waitUntilReady' | 'close' | 'on'>
type Handler = (job: { data: Job }) => Promise<void>

/** What differs between the two services. */
interface Backend {
  kind: 'postgres' | 'redis'
  queue: BullQueue
  worker(handler: Handler, concurrency: number): BullWorker
  close(): Promise<void>
}

async function openPostgres(url: string, connections: number, onError: (error: Error) => void): Promise<Backend> {
  const { Queue, Worker } = withBackend(createPostgresBackend)
  const pool = new pg.Pool({
    connectionString: url,
    max: connections,
    application_name: 'gestalt-queue',
    options: `-c search_path=${schema}`,
    // A worker that waits holds one connection by LISTEN; without keep-alive BullMQ would poll more often.
    keepAlive: true,
    connectionTimeoutMillis: 5000,
  })
  pool.on('error', onError)
  try {
    const client = await pool.connect()
    try {
      await runMigrations(client, schema)
    } finally {
      client.release()
    }
  } catch (error) {
    await pool.end()
    throw new Unavailable(
      `the queue's Postgres does not answer: ${said(error)}`,
      'start Postgres or correct DATABASE_URL',
      {
        cause: error,
      },
    )
  }
  return {
    kind: 'postgres',
    queue: new Queue<Job>(name, { connection: pool, streams, defaultJobOptions: jobOptions }) as unknown as BullQueue,
    worker: (handler, concurrency) =>
      new Worker<Job>(name, handler, { connection: pool, concurrency, ...recovery }) as unknown as BullWorker,
    close: () => pool.end(),
  }
}

async function openRedis(url: string, onError: (error: Error) => void): Promise<Backend> {
  const redis = new Redis(url, { maxRetriesPerRequest: null, lazyConnect: true, connectionName: 'gestalt-queue' })
  redis.on('error', onError)
  try {
    await Promise.race([redis.connect(), late(5000)])
  } catch (error) {
    redis.disconnect()
    throw new Unavailable(
      `the queue's Redis does not answer: ${said(error)}`,
      'start Redis, correct REDIS_URL or unset it',
      {
        cause: error,
      },
    )
  }
  return {
    kind: 'redis',
    queue: new RedisQueue<Job>(name, { connection: redis, streams, defaultJobOptions: jobOptions }),
    worker: (handler, concurrency) =>
      new RedisWorker<Job>(name, handler, { connection: redis, concurrency, ...recovery }),
    close: async () => redis.disconnect(),
  }
}

function said(error: unknown): string {
  return (error instanceof Error && (error.message || (error as NodeJS.ErrnoException).code)) || String(error)
}

async function late(milliseconds: number): Promise<never> {
  await sleep(milliseconds, undefined, { ref: false })
  throw new Error(`no answer within ${milliseconds / 1000} s`)
}

/** Tries again with growing pauses: an `add` in flight is refused when the connection drops. */
async function persist<T>(what: string, work: () => Promise<T>): Promise<T> {
  for (let pause = 100; ; pause *= 2) {
    try {
      return await Promise.race([work(), late(5000)])
    } catch (error) {
      if (pause > 1600)
        throw new Unavailable(`the queue does not ${what}: ${said(error)}`, 'try again', { cause: error })
      await sleep(pause)
    }
  }
}

/**
 * Opens the queue on Redis where `redisUrl` is given, otherwise on Postgres (schema 'bullmq', migrated here).
 * `connections` bounds the Postgres pool, at least 2; a process that calls `work` needs 3 to be brisk.
 */
export async function openQueue(options: {
  redisUrl?: string
  databaseUrl: string
  connections?: number
  log?: Logger
}): Promise<Queue> {
  // Every object of BullMQ and of the drivers needs a listener, or a dropped connection ends the process.
  const onError = (error: Error) => options.log?.warn(`queue: ${said(error)}`)
  const backend = options.redisUrl
    ? await openRedis(options.redisUrl, onError)
    : await openPostgres(options.databaseUrl, Math.max(options.connections ?? 3, 2), onError)
  const { queue } = backend
  queue.on('error', onError)
  await queue.waitUntilReady()
  const consumers = new Set<Consumer>()

  return {
    backend: backend.kind,
    async enqueue(run) {
      const delay = Math.round((run.delay ?? 0) * 1000)
      const options = { jobId: jobId(run), priority: bullPriority(run.priority), delay }
      await persist('take a job', () => queue.add('run', { runId: run.runId }, options))
    },
    async has(run) {
      return (await persist('answer', () => queue.getJob(jobId(run)))) !== undefined
    },
    async counts() {
      const counts = await persist('answer', () => queue.getJobCounts())
      const of = (state: string) => counts[state] ?? 0
      const waiting = of('waiting') + of('prioritized')
      const paused = await queue.isPaused()
      return {
        waiting: paused ? 0 : waiting,
        active: of('active'),
        delayed: of('delayed'),
        failed: of('failed'),
        paused: paused ? waiting : 0,
      }
    },
    async work(handler, { concurrency }) {
      const worker = backend.worker((job) => handler({ runId: job.data.runId }), concurrency)
      worker.on('error', onError)
      await worker.waitUntilReady()
      const consumer: Consumer = {
        async close() {
          consumers.delete(consumer)
          await worker.close()
        },
      }
      consumers.add(consumer)
      return consumer
    },
    async close() {
      await Promise.all([...consumers].map((consumer) => consumer.close()))
      await queue.close()
      await backend.close()
    },
  }
}
