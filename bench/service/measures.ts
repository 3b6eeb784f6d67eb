import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { parseDefinition } from '../../src/experiments/definition.ts'
import type { Database } from '../../src/store/database.ts'
import { newId } from '../../src/store/id.ts'
import { openJournal } from '../../src/store/journal.ts'
import { openLedger } from '../../src/store/ledger.ts'
import { tiny } from '../../test/fixtures/tiny.ts'
import { type Client, expectStatus, rate } from './client.ts'
import { milliseconds, quantile, repeated } from './figures.ts'
import { coldStart, type Shape, type Surroundings } from './surroundings.ts'

/** As many requests are in flight. */
const inFlight = 16

export const definition = parseDefinition({ ...tiny, name: 'bench' })

async function onEmptyDatabase<T>(url: string, name: string, work: (url: string) => Promise<T>): Promise<T> {
  const client = new pg.Client(url)
  await client.connect()
  try {
    await client.query(`CREATE DATABASE ${name}`)
    const place = new URL(url)
    place.pathname = `/${name}`
    const result = await work(place.href)
    await client.query(`DROP DATABASE ${name} WITH (FORCE)`)
    return result
  } finally {
    await client.end()
  }
}

/** `gestalt up` from nothing: it makes its database, or migrates the empty one of a server that runs. */
export function coldStarts(shape: Shape, { environment, databaseUrl }: Surroundings, rounds: number) {
  return repeated(rounds, async (round) => {
    const home = mkdtempSync(join(tmpdir(), 'gestalt-bench-cold-'))
    chmodSync(home, 0o711) // the account that runs the database must enter
    const own = { GESTALT_HOME: home, GESTALT_PORT: '0' }
    try {
      if (shape === 'embedded') return await coldStart(own)
      return await onEmptyDatabase(databaseUrl, `cold_${round}`, (url) =>
        coldStart({ ...environment, ...own, DATABASE_URL: url }),
      )
    } finally {
      rmSync(home, { recursive: true, force: true })
    }
  })
}

/** Rounds with one before them that does not count: code that has just been loaded is slow. */
async function warmed<T>(rounds: number, work: () => Promise<T>): Promise<T[]> {
  await work()
  return repeated(rounds, work)
}

/** Experiments that are accepted in a second, over HTTP. */
export function posts(client: Client, rounds: number): Promise<number[]> {
  return warmed(rounds, () =>
    rate(600, inFlight, () => expectStatus(202, client.send('POST', '/v1/experiments', definition))),
  )
}

const page = '{ runs(first: 50) { nodes { id name state createdAt finishedAt progress { share loss } } } }'

/** Pages of 50 runs that are answered in a second, over HTTP. */
export function queries(client: Client, rounds: number): Promise<number[]> {
  return warmed(rounds, () =>
    rate(1000, inFlight, () => expectStatus(200, client.send('POST', '/graphql', { query: page }))),
  )
}

/** Milliseconds of a curve of at most 1,000 of its points, over HTTP as JSON, one request at a time. */
export async function curves(client: Client, runId: string, rounds: number): Promise<number[]> {
  const path = `/v1/runs/${runId}/metrics?names=loss&maxPoints=1000`
  const one = async () => {
    let text = ''
    const taken = await milliseconds(async () => {
      text = await expectStatus(200, client.send('GET', path))
    })
    const [curve] = (JSON.parse(text) as { curves: { sampled: boolean; points: unknown[] }[] }).curves
    if (!curve?.sampled || curve.points.length < 250) throw new Error(`not the long curve: ${text.slice(0, 200)}`)
    return taken
  }
  await repeated(20, one) // code that has just been loaded is slow
  return repeated(rounds, one)
}

const batchSize = 1000
const names = ['loss', 'learningRate', 'imagesPerSecond', 'waitShare']

/** Points that are written in a second by the journal of a run, in batches of 1,000 that are each flushed. */
export async function ingest(database: Database, points: number, rounds: number): Promise<number[]> {
  const ledger = openLedger(database)
  const accepted = await ledger.accept({ name: 'ingest', tags: [], notes: '', priority: 0, definition, plan: {} })
  if (accepted.mismatch) throw new Error('no key was given')
  const runId = accepted.runIds[0]!
  const { attempt } = (await ledger.begin(runId, newId()))!
  const patience = { seconds: 60, signal: new AbortController().signal }
  const journal = openJournal(database.pool, { runId, attempt }, patience, (error) => console.error(error.message))
  const stepsOfBatch = batchSize / names.length
  const rates = await repeated(rounds, async (round) => {
    const taken = await milliseconds(async () => {
      for (let from = 0; from < points; from += batchSize) {
        const first = (round * points + from) / names.length
        const time = new Date()
        for (let step = first; step < first + stepsOfBatch; step++)
          journal.points(names.map((name) => ({ name, step, value: Math.sin(step), time })))
        await journal.flush()
      }
    })
    return points / (taken / 1000)
  })
  await journal.close()
  await ledger.end({ runId, attempt }, { state: 'cancelled' })
  return rates
}

const consumerFile = fileURLToPath(new URL('consumer.ts', import.meta.url))

async function startConsumer({ databaseUrl, redisUrl }: Surroundings): Promise<ChildProcess> {
  const env = { ...process.env, DATABASE_URL: databaseUrl, REDIS_URL: redisUrl ?? '' }
  const child = fork(consumerFile, { execArgv: ['--import', 'tsx'], env })
  await once(child, 'message')
  return child
}

/** Waits until the queue has nothing left of the runs that were posted before. */
async function drain(client: Client): Promise<void> {
  const query = '{ queue { waiting active delayed } }'
  for (;;) {
    const text = await expectStatus(200, client.send('POST', '/graphql', { query }))
    const { waiting, active, delayed } = (JSON.parse(text) as { data: { queue: Record<string, number> } }).data.queue
    if (waiting! + active! + delayed! === 0) return
    await sleep(250)
  }
}

/** Milliseconds from the 202 until a worker's process has begun the attempt, one run after the other. */
export async function dispatches(around: Surroundings, database: Database, client: Client, count: number) {
  await database.pool.query("UPDATE runs SET state = 'cancelled', finished_at = now() WHERE state = 'queued'")
  const consumer = await startConsumer(around)
  try {
    await drain(client)
    const began = new Map<string, number>()
    consumer.on('message', ({ runId }: { runId: string }) => began.set(runId, performance.now()))
    return await repeated(count, async () => {
      const text = await expectStatus(202, client.send('POST', '/v1/experiments', definition))
      const answered = performance.now()
      const [runId] = (JSON.parse(text) as { runIds: string[] }).runIds
      while (!began.has(runId!)) await once(consumer, 'message')
      await sleep(20 + Math.random() * 60)
      return Math.max(0, began.get(runId!)! - answered)
    })
  } finally {
    const ended = once(consumer, 'exit')
    consumer.disconnect()
    await ended
  }
}

export function percentiles(values: readonly number[]): { p50: number; p99: number } {
  const of = (share: number) => Number(quantile(values, share).toFixed(1))
  return { p50: of(0.5), p99: of(0.99) }
}
