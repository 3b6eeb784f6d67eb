import { setTimeout as sleep } from 'node:timers/promises'
import { DelayedError } from 'bullmq'
import { Unavailable } from '../errors.ts'
import type { Logger } from '../experiments/context.ts'
import { type Delivered, late, openPostgres, openRedis, said } from './backends.ts'

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
  /** Waiting, and held back because someone paused the queue. */
  paused: number
}

export interface Consumer {
  /** Takes no more jobs and returns when the handlers at work have returned. */
  close(): Promise<void>
}

type Place = Pick<QueuedRun, 'runId' | 'attempt'>

/** Performs the run of a job, or gives the job back for others. */
export type Handle = (job: { runId: string }) => Promise<'given back' | undefined>

/** Of a job that is given back for the n-th time. Who could take it calls it before. */
const pauseSeconds = (n: number) => Math.min(30, 0.5 * 2 ** n)

/**
 * Who calls a job cannot be handed it: it goes to whoever waits for jobs. So it may go around among those who leave it to
 * others, this often and after this many seconds each, until it comes to the one who called.
 */
const [mostHops, hopSeconds] = [20, 0.05]

/** For others, after a pause: BullMQ wants to be told by an error of its own. */
async function giveBack(job: Delivered, token: string | undefined): Promise<never> {
  const { givenBack = 0, hops = 0 } = job.data
  const next = hops > 0 ? { givenBack, hops: hops - 1 } : { givenBack: givenBack + 1, hops }
  await job.updateData({ ...job.data, ...next })
  const seconds = hops > 0 ? hopSeconds : pauseSeconds(next.givenBack)
  // Not all at the same time.
  await job.moveToDelayed(Math.round(Date.now() + 1000 * seconds * (0.75 + Math.random() / 2)), token)
  throw new DelayedError()
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
  has(run: Place): Promise<boolean>
  /** Those of the runs whose job is neither waiting nor delayed nor at work. */
  missing<R extends Place>(runs: readonly R[]): Promise<R[]>
  counts(): Promise<QueueCounts>
  /**
   * Calls `handler` for each job, at most `concurrency` at once. The job of a consumer that died is delivered again,
   * so a handler may be called twice for the same run. A job that is given back is delivered again after a while, to
   * any consumer, and the later the more often that happened.
   */
  work(handler: Handle, options: { concurrency: number }): Promise<Consumer>
  /**
   * Lets jobs that were given back be delivered at once, and to others for a while where one gives them back again; all
   * other jobs stay as they are.
   */
  call(runs: readonly Place[]): Promise<void>
  close(): Promise<void>
}

/**
 * BullMQ takes the lower number first, from 1 (0 is a faster queue of its own that overtakes all) to 2^21 - 1, and
 * among equals the one that came first. A run that is taken up again is older than those that have not begun, though
 * it comes back later: it stands half a step before its equals.
 */
function bullPriority({ priority, attempt }: Pick<QueuedRun, 'priority' | 'attempt'>): number {
  const begun = attempt > 0 ? 1 : 0
  return Math.min(Math.max(2 ** 20 - 2 * Math.round(priority) - begun, 1), 2 ** 21 - 1)
}

/** BullMQ reserves ':' in ids. */
function jobId(run: Place): string {
  return `${run.runId}-${run.attempt}`
}

/** Tries again with growing pauses, about 3 s in all: an `add` in flight is refused when the connection drops. */
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
 * `connections` bounds the Postgres pool: at least 2, and 3 in a process that calls `work`.
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
      const options = { jobId: jobId(run), priority: bullPriority(run), delay }
      await persist('take a job', () => queue.add('run', { runId: run.runId }, options))
    },
    async has(run) {
      return (await persist('answer', () => queue.getJob(jobId(run)))) !== undefined
    },
    async missing(runs) {
      if (runs.length === 0) return []
      const kept = await persist('answer', () => backend.kept(runs.map(jobId)))
      return runs.filter((run) => !kept.has(jobId(run)))
    },
    async call(runs) {
      for (const run of runs) {
        const job = await persist('answer', () => queue.getJob(jobId(run)))
        if (!job?.data.givenBack || !(await job.isDelayed())) continue
        // It may be taken meanwhile, or be promoted by somebody else.
        await job
          .updateData({ ...job.data, hops: mostHops })
          .then(() => job.promote())
          .catch(() => {})
      }
    },
    async counts() {
      const counts = await persist('answer', () => queue.getJobCounts())
      const of = (state: string) => counts[state] ?? 0
      const waiting = of('waiting') + of('prioritized')
      const paused = await persist('answer', () => queue.isPaused())
      return {
        waiting: paused ? 0 : waiting,
        active: of('active'),
        delayed: of('delayed'),
        failed: of('failed'),
        paused: paused ? waiting : 0,
      }
    },
    async work(handler, { concurrency }) {
      const worker = backend.worker(async (job, token) => {
        if ((await handler({ runId: job.data.runId })) === 'given back') await giveBack(job, token)
      }, concurrency)
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
