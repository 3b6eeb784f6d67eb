import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { startPostgres } from '../../src/store/embedded-postgres.ts'
import { type Client, expectStatus, openClient, rate } from '../service/client.ts'
import { milliseconds, repeated } from '../service/figures.ts'
import { freePort } from '../service/surroundings.ts'

/** The version of MLflow that this Python has, with its driver for PostgreSQL; undefined where it has none. */
export function mlflowVersion(python: string): string | undefined {
  const asked = spawnSync(python, ['-c', 'import psycopg2, mlflow; print(mlflow.__version__)'], { encoding: 'utf8' })
  return asked.status === 0 ? asked.stdout.trim() : undefined
}

export interface MlflowServer {
  client: Client
  databaseUrl: string
  close(): Promise<void>
}

async function answers(client: Client, child: ChildProcess, log: string): Promise<void> {
  for (let waited = 0; waited < 600; waited++) {
    if (child.exitCode !== null) break
    const { status } = await client.send('GET', '/health').catch(() => ({ status: 0 }))
    if (status === 200) return
    await sleep(200)
  }
  throw new Error(`mlflow server does not answer: ${readFileSync(log, 'utf8').slice(-2000)}`)
}

/** `mlflow server` as it comes, on a PostgreSQL of its own of the same make and settings as ours. */
export async function startMlflow(python: string): Promise<MlflowServer> {
  const home = mkdtempSync(join(tmpdir(), 'gestalt-bench-mlflow-'))
  chmodSync(home, 0o711)
  const postgres = await startPostgres({ home })
  const databaseUrl = postgres.url.replace('postgresql:', 'postgresql+psycopg2:')
  const port = await freePort()
  const log = join(home, 'mlflow.log')
  const file = await open(log, 'a')
  const args = ['-m', 'mlflow', 'server', '--backend-store-uri', databaseUrl, '--host', '127.0.0.1']
  const child = spawn(python, [...args, '--port', String(port), '--artifacts-destination', join(home, 'artifacts')], {
    cwd: home,
    detached: true, // its own group, to be ended with all its workers
    stdio: ['ignore', file.fd, file.fd],
  })
  await file.close()
  const client = openClient(`http://127.0.0.1:${port}`)
  const close = async () => {
    client.close()
    if (child.exitCode === null) {
      process.kill(-child.pid!, 'SIGTERM')
      await Promise.race([once(child, 'exit'), sleep(10_000)])
    }
    await postgres.stop()
    for (const folder of [postgres.directory, home]) rmSync(folder, { recursive: true, force: true })
  }
  try {
    await answers(client, child, log)
    return { client, databaseUrl, close }
  } catch (error) {
    await close()
    throw error
  }
}

const names = ['loss', 'learningRate', 'imagesPerSecond', 'waitShare']

async function call<T>(client: Client, method: 'GET' | 'POST', path: string, body?: unknown): Promise<T> {
  return JSON.parse(await expectStatus(200, client.send(method, `/api/2.0/mlflow/${path}`, body))) as T
}

export async function createExperiment(client: Client, name: string): Promise<string> {
  return (await call<{ experiment_id: string }>(client, 'POST', 'experiments/create', { name })).experiment_id
}

export async function createRun(client: Client, experimentId: string, name: string): Promise<string> {
  const body = { experiment_id: experimentId, run_name: name, start_time: Date.now() }
  return (await call<{ run: { info: { run_id: string } } }>(client, 'POST', 'runs/create', body)).run.info.run_id
}

/** Points of four curves, 250 steps each, as one batch. */
function logBatch(client: Client, runId: string, batch: number) {
  const timestamp = Date.now()
  const metrics = Array.from({ length: 1000 }, (_, n) => {
    const step = batch * 250 + (n >> 2)
    return { key: names[n % 4], value: Math.sin(step), timestamp, step }
  })
  return call(client, 'POST', 'runs/log-batch', { run_id: runId, metrics })
}

/** Milliseconds of each batch of 1,000 points, one after the other. */
export function mlflowBatches(client: Client, runId: string, batches: number): Promise<number[]> {
  return repeated(batches, (batch) => milliseconds(() => logBatch(client, runId, batch)))
}

/** The same through its store in a process of its own, without the server. */
export function mlflowStoreBatches(python: string, databaseUrl: string, batches: number): number[] {
  const script = fileURLToPath(new URL('peer.py', import.meta.url))
  const done = spawnSync(python, [script, databaseUrl, String(batches)], { encoding: 'utf8' })
  if (done.status !== 0) throw new Error(`the store of MLflow failed: ${done.stderr.slice(-2000)}`)
  return JSON.parse(done.stdout.trim().split('\n').at(-1)!) as number[]
}

/** A thousand finished runs with four metrics and five parameters each. */
export async function fillRuns(client: Client, experimentId: string, runs: number): Promise<void> {
  await rate(runs, 8, async (n) => {
    const runId = await createRun(client, experimentId, `filled-${n % 50}`)
    const timestamp = Date.now()
    const metrics = names.map((key) => ({ key, value: n, timestamp, step: 1 }))
    const params = ['method', 'dataset', 'epochs', 'batchSize', 'seed'].map((key) => ({ key, value: `${n % 7}` }))
    await call(client, 'POST', 'runs/log-batch', { run_id: runId, metrics, params })
    const status = n % 20 === 0 ? 'FAILED' : 'FINISHED'
    await call(client, 'POST', 'runs/update', { run_id: runId, status, end_time: timestamp })
  })
}

/** Milliseconds of a page of 50 of them, by state and by a part of the name, the newest first. */
export function mlflowSearches(client: Client, experimentId: string, rounds: number): Promise<number[]> {
  const filter = "attributes.status = 'FINISHED' AND attributes.run_name ILIKE '%LED-4%'"
  const body = { experiment_ids: [experimentId], filter, max_results: 50, order_by: ['attributes.start_time DESC'] }
  return repeated(rounds, () =>
    milliseconds(async () => {
      const { runs } = await call<{ runs?: unknown[] }>(client, 'POST', 'runs/search', body)
      if (runs?.length !== 50) throw new Error(`MLflow found ${runs?.length} runs, not 50`)
    }),
  )
}

/** Milliseconds of all points of a curve, in pages as large as its client asks for. */
export function mlflowHistories(client: Client, runId: string, points: number, rounds: number): Promise<number[]> {
  const path = `metrics/get-history?run_id=${runId}&metric_key=loss&max_results=25000`
  return repeated(rounds, () =>
    milliseconds(async () => {
      let found = 0
      for (let token: string | undefined = ''; token !== undefined; ) {
        const page: { metrics: unknown[]; next_page_token?: string } = await call(
          client,
          'GET',
          `${path}${token && `&page_token=${token}`}`,
        )
        found += page.metrics.length
        token = page.next_page_token || undefined
      }
      if (found !== points) throw new Error(`MLflow found ${found} points, not ${points}`)
    }),
  )
}

/** Milliseconds of the same curve in at most 1,000 points, as its web pages ask for it. */
export function mlflowCurves(client: Client, runId: string, rounds: number): Promise<number[]> {
  const path = `/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval?run_ids=${runId}&metric_key=loss&max_results=1000`
  return repeated(rounds, () => milliseconds(() => expectStatus(200, client.send('GET', path))))
}
