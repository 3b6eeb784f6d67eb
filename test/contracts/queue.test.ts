import { fork } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Redis } from 'ioredis'
import pg from 'pg'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { openQueue, type Queue } from '../../src/jobs/queue.ts'
import { eventually } from '../eventually.ts'
import { testDatabase } from '../postgres.ts'
import { redisUrl } from '../redis.ts'

/** Where the queue lives in this test: a database of its own, and for Redis a database number of its own. */
interface Place {
  databaseUrl: string
  redisUrl?: string
}

/** As when the service restarts or a router forgets: every connection but the one that does it. */
async function dropConnections(place: Place): Promise<void> {
  if (place.redisUrl) {
    const redis = new Redis(place.redisUrl)
    await redis.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
    return redis.disconnect()
  }
  const client = new pg.Client(place.databaseUrl)
  await client.connect()
  await client.query(
    'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()',
  )
  await client.end()
}

describe.each(['postgres', 'redis'] as const)('the queue on %s', (backend) => {
  let database: Awaited<ReturnType<typeof testDatabase>>
  let place: Place
  let queue: Queue
  const opened: Queue[] = []

  async function open(): Promise<Queue> {
    const queue = await openQueue(place)
    opened.push(queue)
    return queue
  }

  beforeAll(async () => {
    database = await testDatabase()
    const redis = await redisUrl()
    place = { databaseUrl: database.url, ...(backend === 'redis' ? { redisUrl: redis } : {}) }
  })
  afterAll(() => database.drop())
  beforeEach(async (context) => {
    if (backend === 'redis' && !place.redisUrl) context.skip('there is no Redis here: install redis-server')
    queue = await open()
  })
  afterEach(async () => {
    await Promise.all(opened.splice(0).map((queue) => queue.close()))
  })

  it('delivers each job once, with nothing but the run', async () => {
    const jobs: unknown[] = []
    await queue.work(async (job) => void jobs.push(job), { concurrency: 1 })
    await queue.enqueue({ runId: 'a', attempt: 0, priority: 0 })
    await queue.enqueue({ runId: 'b', attempt: 0, priority: 0 })
    await eventually(() => expect(jobs).toEqual([{ runId: 'a' }, { runId: 'b' }]))
    await eventually(async () => expect(await queue.counts()).toMatchObject({ waiting: 0, active: 0, failed: 0 }))
  })

  it('delivers the higher priority first and the earlier among equals', async () => {
    for (const [runId, priority] of [
      ['low', -5],
      ['first', 0],
      ['second', 0],
      ['high', 100],
    ] as const)
      await queue.enqueue({ runId, attempt: 0, priority })
    const jobs: string[] = []
    await queue.work(async ({ runId }) => void jobs.push(runId), { concurrency: 1 })
    await eventually(() => expect(jobs).toEqual(['high', 'first', 'second', 'low']))
  })

  it('delivers a run that is taken up again before its equals, and after those of higher priority', async () => {
    for (const [runId, attempt, priority] of [
      ['new', 0, 0],
      ['higher', 0, 1],
      ['released', 2, 0],
    ] as const)
      await queue.enqueue({ runId, attempt, priority })
    const jobs: string[] = []
    await queue.work(async ({ runId }) => void jobs.push(runId), { concurrency: 1 })
    await eventually(() => expect(jobs).toEqual(['higher', 'released', 'new']))
  })

  it('takes the same run and attempt once, also while it is at work, and again when it is done', async () => {
    const jobs: string[] = []
    let finish = () => {}
    const gate = new Promise<void>((resolve) => {
      finish = resolve
    })
    const run = { runId: 'same', attempt: 3, priority: 0 }
    await queue.enqueue(run)
    await queue.enqueue(run)
    expect(await queue.counts()).toMatchObject({ waiting: 1 })
    await queue.work(
      async ({ runId }) => {
        jobs.push(runId)
        await gate
      },
      { concurrency: 2 },
    )
    await eventually(() => expect(jobs).toEqual(['same']))
    await queue.enqueue(run)
    expect(await queue.counts()).toMatchObject({ waiting: 0, active: 1 })
    expect(await queue.has(run)).toBe(true)
    finish()
    await eventually(async () => expect(await queue.has(run)).toBe(false))
    await queue.enqueue(run)
    await eventually(() => expect(jobs).toEqual(['same', 'same']))
  })

  it('holds a delayed job back', async () => {
    const jobs: string[] = []
    await queue.enqueue({ runId: 'later', attempt: 0, priority: 0, delay: 0.6 })
    expect(await queue.counts()).toMatchObject({ waiting: 0, delayed: 1 })
    expect(await queue.has({ runId: 'later', attempt: 0 })).toBe(true)
    await queue.work(async ({ runId }) => void jobs.push(runId), { concurrency: 1 })
    await eventually(() => expect(jobs).toEqual(['later']))
  })

  it('delivers what was given back again, to any consumer, and at once where it is called', async () => {
    const other = await open()
    const given: string[] = []
    const taken: string[] = []
    await queue.enqueue({ runId: 'special', attempt: 0, priority: 0 })
    await queue.enqueue({ runId: 'later', attempt: 0, priority: 0, delay: 60 })
    const picky = await queue.work(
      async ({ runId }) => {
        given.push(runId)
        return 'given back'
      },
      { concurrency: 1 },
    )
    // Again and again, with longer and longer pauses.
    await eventually(() => expect(given.length).toBeGreaterThanOrEqual(2), 20_000)
    await picky.close()
    const place = { runId: 'special', attempt: 0 }
    await eventually(async () => expect(await queue.counts()).toMatchObject({ active: 0, delayed: 2 }))
    expect(await other.has(place)).toBe(true)
    await other.call([place, { runId: 'later', attempt: 0 }, { runId: 'unknown', attempt: 0 }])
    expect(await queue.counts()).toMatchObject({ waiting: 1, delayed: 1 })
    await other.work(async ({ runId }) => void taken.push(runId), { concurrency: 1 })
    await eventually(() => expect(taken).toEqual(['special']))
    await eventually(async () => expect(await queue.missing([place])).toEqual([place]))
  })

  it('lets a job that was called go around among those who give it back, then rest again', async () => {
    const place = { runId: 'special', attempt: 0 }
    let given = 0
    let wanted = false
    const { delayed } = await queue.counts()
    await queue.enqueue({ ...place, priority: 0 })
    const handler = async () => {
      given++
      return wanted ? undefined : ('given back' as const)
    }
    for (let i = 0; i < 2; i++) await queue.work(handler, { concurrency: 1 })
    const resting = async (times: number) => {
      expect(given).toBe(times)
      expect(await queue.counts()).toMatchObject({ active: 0, delayed: delayed + 1 })
    }
    await eventually(() => resting(3), 30_000)
    await queue.call([place])
    // At once, 20 times more, and then after a pause as before.
    await eventually(() => resting(3 + 21), 30_000)
    wanted = true
    await queue.call([place])
    await eventually(async () => expect(await queue.has(place)).toBe(false), 30_000)
  })

  it('works on as many jobs at once as it is told', async () => {
    let now = 0
    let most = 0
    let done = 0
    for (const runId of ['1', '2', '3', '4', '5', '6']) await queue.enqueue({ runId, attempt: 0, priority: 0 })
    await queue.work(
      async () => {
        now += 1
        most = Math.max(most, now)
        await sleep(50)
        now -= 1
        done += 1
      },
      { concurrency: 3 },
    )
    await eventually(() => expect(done).toBe(6))
    expect(most).toBe(3)
  })

  it('drops a job whose handler throws, so that it can be enqueued again', async () => {
    let calls = 0
    await queue.work(
      async () => {
        calls += 1
        throw new Error('the database went away')
      },
      { concurrency: 1 },
    )
    const run = { runId: 'thrown', attempt: 0, priority: 0 }
    await queue.enqueue(run)
    await eventually(async () => expect([calls, await queue.has(run)]).toEqual([1, false]))
    await queue.enqueue(run)
    await eventually(() => expect(calls).toBe(2))
  })

  it('lets the jobs at work finish before it closes', async () => {
    let finished = false
    let started = false
    const consumer = await queue.work(
      async () => {
        started = true
        await sleep(300)
        finished = true
      },
      { concurrency: 1 },
    )
    await queue.enqueue({ runId: 'drained', attempt: 0, priority: 0 })
    await queue.enqueue({ runId: 'left', attempt: 0, priority: 0 })
    await eventually(() => expect(started).toBe(true))
    await consumer.close()
    expect(finished).toBe(true)
    expect(await queue.has({ runId: 'left', attempt: 0 })).toBe(true)
    const rest: string[] = []
    await queue.work(async ({ runId }) => void rest.push(runId), { concurrency: 1 })
    await eventually(() => expect(rest).toEqual(['left']))
  })

  it('is seen alike by every process that opens it', async () => {
    const other = await open()
    await other.enqueue({ runId: 'shared', attempt: 0, priority: 0 })
    expect(await queue.has({ runId: 'shared', attempt: 0 })).toBe(true)
    const jobs: string[] = []
    await queue.work(async ({ runId }) => void jobs.push(runId), { concurrency: 1 })
    await eventually(() => expect(jobs).toEqual(['shared']))
  })

  it('tells which runs it does not hold', async () => {
    const runs = ['waits', 'delayed', 'lost'].map((runId) => ({ runId, attempt: 1, priority: 0 }))
    await queue.enqueue(runs[0]!)
    await queue.enqueue({ ...runs[1]!, delay: 60 })
    expect(await queue.missing(runs)).toEqual([runs[2]])
    let started = false
    let finish = () => {}
    const gate = new Promise<void>((resolve) => {
      finish = resolve
    })
    await queue.work(
      async () => {
        started = true
        await gate
      },
      { concurrency: 1 },
    )
    await eventually(() => expect(started).toBe(true))
    expect(await queue.missing(runs)).toEqual([runs[2]])
    finish()
    await eventually(async () => expect(await queue.missing(runs)).toEqual([runs[0], runs[2]]))
  })

  it('goes on when every connection is dropped, and still finds what a killed consumer leaves', async () => {
    const entry = fileURLToPath(new URL('../fixtures/queue-consumer.ts', import.meta.url))
    const consumer = fork(entry, { execArgv: ['--import', 'tsx'] })
    consumer.send(place)
    await queue.enqueue({ runId: 'orphan', attempt: 0, priority: 0 })
    const [message] = await once(consumer, 'message')
    expect(message).toEqual({ taken: 'orphan' })
    const jobs: string[] = []
    await queue.work(async ({ runId }) => void jobs.push(runId), { concurrency: 1 })
    await dropConnections(place)
    await queue.enqueue({ runId: 'after', attempt: 0, priority: 0 })
    await eventually(() => expect(jobs).toEqual(['after']))
    consumer.kill('SIGKILL')
    await once(consumer, 'exit')
    await eventually(() => expect(jobs).toEqual(['after', 'orphan']), 15_000)
  })
})

it('says which service does not answer', async () => {
  const closed = 'postgresql://nobody:nothing@127.0.0.1:1/none'
  await expect(openQueue({ databaseUrl: closed })).rejects.toMatchObject({
    code: 'unavailable',
    cure: expect.stringContaining('DATABASE_URL'),
  })
  await expect(openQueue({ databaseUrl: closed, redisUrl: 'redis://127.0.0.1:1' })).rejects.toMatchObject({
    code: 'unavailable',
    cure: expect.stringContaining('REDIS_URL'),
  })
})
