import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import type { ApiProcess, WorkerProcess } from '../chaos/cluster.ts'
import { eventually } from '../eventually.ts'
import { tiny } from '../fixtures/tiny.ts'
import { canDeploy, type Deployment, deploy } from './deployment.ts'

// Many processes at work; on a busy machine each takes its time.
vi.setConfig({ testTimeout: 240_000, hookTimeout: 180_000 })

const recipe = JSON.parse(readFileSync(new URL('../../recipes/npid-quick.json', import.meta.url), 'utf8'))
const long = { epochs: 1000, batchSize: 32, checkpointEverySteps: 100_000 }

describe.skipIf(!canDeploy)('two APIs and three workers on Postgres, Redis and S3', () => {
  let place: Deployment
  let apis: [ApiProcess, ApiProcess]
  let workers: WorkerProcess[]
  let undisturbed: unknown

  beforeAll(async () => {
    place = await deploy()
    apis = [await place.startApi(), await place.startApi()]
    // One at a time: each looks for its engine. All on one engine, or runs could not be the same to the bit.
    workers = []
    for (let i = 0; i < 3; i++) workers.push(await place.startWorker({ GESTALT_ENGINE_THREADS: '1' }))
    const runId = await post(tiny)
    await place.becomes(runId, 'succeeded')
    undisturbed = await place.evidence(runId)
  })
  afterAll(() => place?.close())

  /** Over HTTP, to one of the APIs. */
  async function post(definition: object, api = apis[0]): Promise<string> {
    const { runIds } = await place.ask<{ runIds: string[] }>(api, '/v1/experiments', definition)
    return runIds[0]!
  }

  async function outcomes(runId: string): Promise<unknown[]> {
    return (await place.ledger.attempts([runId])).get(runId)!.map((attempt) => attempt.outcome)
  }

  /** Who performs the run. */
  async function performer(runId: string): Promise<WorkerProcess> {
    const { workerId } = (await place.ledger.attempts([runId])).get(runId)!.at(-1)!
    return workers.find(({ id }) => id === workerId)!
  }

  /** Ends a worker and puts another in its place. */
  async function replace(worker: WorkerProcess, signal: NodeJS.Signals) {
    const end = await worker.end(signal)
    workers[workers.indexOf(worker)] = await place.startWorker({ GESTALT_ENGINE_THREADS: '1' })
    return end
  }

  it('let the demo be posted to one and read from the other, with its files in S3', async () => {
    const [first, second] = apis
    const runId = await post({ ...recipe, training: { ...recipe.training, epochs: 1 } }, first)
    await place.becomes(runId, 'succeeded')
    type Answer = {
      run: {
        findings: { scores: Record<string, number> }[]
        artifacts: { url: string; sha256: string; size: number }[]
      }
    }
    const { run } = await place.query<Answer>(
      second,
      'query ($id: ID!) { run(id: $id) { findings { scores } artifacts { url sha256 size } } }',
      { id: runId },
    )
    const { accuracy, rawPixels, untrained } = run.findings[0]!.scores
    for (const score of [accuracy, rawPixels, untrained]) expect(score).toBeGreaterThan(0.7)
    expect(run.artifacts.length).toBeGreaterThan(0)
    for (const { url, sha256, size } of run.artifacts) {
      const address = new URL(new URL(url).pathname, second.url)
      const response = await fetch(address, { headers: { authorization: `Bearer ${place.token}` } })
      const bytes = Buffer.from(await response.arrayBuffer())
      expect([bytes.length, createHash('sha256').update(bytes).digest('hex')]).toEqual([size, sha256])
    }
  })

  it('refuse who has no token', async () => {
    for (const { url } of apis) {
      expect((await fetch(`${url}/v1/experiments`)).status).toBe(401)
      expect((await fetch(`${url}/readyz`)).status).toBe(200)
    }
  })

  it('share the runs, and each runs once', async () => {
    const runIds = await Promise.all([0, 1, 2, 3, 4, 5].map((i) => post(tiny, apis[i % 2])))
    for (const runId of runIds) await place.becomes(runId, 'succeeded')
    const performers = new Set<string>()
    for (const runId of runIds) {
      expect(await outcomes(runId)).toEqual(['succeeded'])
      expect(await place.evidence(runId)).toEqual(undisturbed)
      performers.add((await performer(runId)).id)
    }
    expect(performers.size).toBe(3)
  })

  it('give a run to a worker that has what it needs, and say why another waits', async () => {
    const resources = { engine: 'wasm' }
    const [pinned, onGpu] = [await post({ ...tiny, resources }), await post({ ...tiny, resources: { gpu: true } })]
    const waiting = async (id: string) =>
      (await place.query<{ run: { waiting: string } }>(apis[1], `{ run(id: "${id}") { waiting } }`)).run.waiting
    expect(await waiting(pinned)).toMatch(/^none of 3 workers can take it: it computes on \w+, not on wasm$/)
    expect(await waiting(onGpu)).toBe('it waits for a worker with a GPU; none of the 3 workers here has one')
    const fourth = await place.startWorker({ GESTALT_ENGINE: 'wasm' })
    await place.becomes(pinned, 'succeeded')
    const attempts = (await place.ledger.attempts([pinned])).get(pinned)!
    expect(attempts).toMatchObject([{ number: 1, workerId: fourth.id, engine: { name: 'wasm' } }])
    expect(await waiting(onGpu)).toBe('it waits for a worker with a GPU; none of the 4 workers here has one')
    await place.ask(apis[0], `/v1/runs/${onGpu}/cancel`, {})
    await place.becomes(onGpu, 'cancelled')
    expect(await fourth.end('SIGTERM')).toBe(0)
  })

  it('let a cancel reach any worker at once', async () => {
    const runIds = await Promise.all([0, 1, 2].map(() => post({ ...tiny, training: long })))
    for (const runId of runIds) await place.reachesProgress(runId, 3)
    for (const [i, runId] of runIds.entries()) await place.ask(apis[i % 2]!, `/v1/runs/${runId}/cancel`, {})
    for (const runId of runIds) await place.becomes(runId, 'cancelled')
    const { rows } = await place.database.pool.query<{ seconds: number }>(
      `SELECT extract(epoch FROM ended.time - asked.time)::float8 AS seconds FROM events AS asked JOIN events AS ended
         USING (run_id) WHERE asked.kind = 'cancel-requested' AND ended.kind = 'run-cancelled' AND run_id = ANY ($1)`,
      [runIds],
    )
    expect(rows).toHaveLength(3)
    // Far below what a heartbeat would take to tell it, whatever else the machine does.
    for (const { seconds } of rows) expect(seconds).toBeLessThan(1.9)
  })

  it('lose nothing when a worker is told to end', async () => {
    const runId = await post(tiny)
    await place.reaches(runId, 14)
    expect(await replace(await performer(runId), 'SIGTERM')).toBe(0)
    await place.becomes(runId, 'succeeded')
    expect(await outcomes(runId)).toEqual(['released', 'succeeded'])
    expect(await place.evidence(runId)).toEqual(undisturbed)
  })

  it('call a silent worker unknown before it is lost, and take its run up once', async () => {
    const runId = await post(tiny)
    await place.reaches(runId, 14)
    const silent = await performer(runId)
    const child = silent.childOf(runId)
    for (const pid of [silent.process.pid!, child]) process.kill(pid, 'SIGSTOP')
    const states: string[] = []
    await eventually(async () => {
      const { state } = (await place.ledger.workers()).find(({ id }) => id === silent.id)!
      if (states.at(-1) !== state) states.push(state)
      expect(state).toBe('lost')
    }, 30_000)
    expect(states).toEqual(['online', 'unknown', 'lost'])
    await place.reachesAttempt(runId, 2)
    for (const pid of [silent.process.pid!, child]) process.kill(pid, 'SIGCONT')
    await place.becomes(runId, 'succeeded')
    expect(await outcomes(runId)).toEqual(['lost', 'succeeded'])
    expect(await place.evidence(runId)).toEqual(undisturbed)
    await eventually(async () => {
      expect((await place.ledger.workers()).find(({ id }) => id === silent.id)!.state).toBe('online')
    })
  })

  it('take up the run of a worker that is killed', async () => {
    const runId = await post(tiny)
    await place.reaches(runId, 14)
    await replace(await performer(runId), 'SIGKILL')
    await place.becomes(runId, 'succeeded')
    expect(await outcomes(runId)).toEqual(['lost', 'succeeded'])
    expect(await place.evidence(runId)).toEqual(undisturbed)
  })

  it('run all that waits when Redis forgets everything', async () => {
    const runIds = await Promise.all([0, 1, 2, 3, 4, 5].map(() => post(tiny)))
    await place.reaches(runIds[0]!, 7)
    const redis = new Redis(place.redis.port)
    await redis.flushall()
    redis.disconnect()
    for (const runId of runIds) await place.becomes(runId, 'succeeded')
    for (const runId of runIds) {
      expect(await outcomes(runId)).toEqual(['succeeded'])
      expect(await place.evidence(runId)).toEqual(undisturbed)
    }
  })

  it('accept and finish runs while Redis is gone for a minute', async () => {
    const atWork = await post(tiny)
    await place.reaches(atWork, 14)
    await place.redis.stop()
    const accepted = await post(tiny, apis[1])
    expect(await place.run(accepted)).toMatchObject({ state: 'queued' })
    await place.becomes(atWork, 'succeeded')
    await sleep(60_000)
    await place.redis.start()
    await place.becomes(accepted, 'succeeded')
    for (const runId of [atWork, accepted]) {
      expect(await outcomes(runId)).toEqual(['succeeded'])
      expect(await place.evidence(runId)).toEqual(undisturbed)
    }
  })

  it('lose nothing when Postgres restarts', async () => {
    const atWork = await post(tiny)
    await place.reaches(atWork, 14)
    await place.postgres.stop()
    await sleep(3000)
    await place.postgres.start()
    await place.becomes(atWork, 'succeeded')
    expect(await place.evidence(atWork)).toEqual(undisturbed)
    const next = await post(tiny, apis[1])
    await place.becomes(next, 'succeeded')
  })

  it('run what an API accepted that died before it could enqueue it', async () => {
    const api = await place.startApi()
    // Redis takes no more commands: the run is committed and its job is not added.
    place.redis.freeze()
    const runId = await post(tiny, api)
    expect(await api.end('SIGKILL')).toBe('SIGKILL')
    await place.redis.stop()
    await place.redis.start()
    await place.becomes(runId, 'succeeded')
    expect(await outcomes(runId)).toEqual(['succeeded'])
    expect(await place.evidence(runId)).toEqual(undisturbed)
  })
})

it('has a docker-compose.yml that Compose understands', (context) => {
  if (spawnSync('docker-compose', ['version']).error) return context.skip('there is no docker-compose here')
  const variables = { POSTGRES_PASSWORD: 'a', MINIO_ROOT_PASSWORD: 'b', GESTALT_TOKEN: 'c' }
  const more = { GRAFANA_PASSWORD: 'd', GRAFANA_DATABASE_PASSWORD: 'e' }
  const env = { PATH: process.env.PATH, ...variables, ...more }
  const cwd = new URL('../..', import.meta.url)
  const check = (more: object, profiles: string[] = []) => {
    const words = [...profiles.flatMap((name) => ['--profile', name]), 'config', '-q']
    return spawnSync('docker-compose', words, { cwd, env: { ...env, ...more } })
  }
  for (const profiles of [[], ['gpu'], ['gpu-mesa']]) expect(check({}, profiles)).toMatchObject({ status: 0 })
  const without = check({ GESTALT_TOKEN: '' })
  expect([without.status === 0, String(without.stderr)]).toEqual([false, expect.stringContaining('set GESTALT_TOKEN')])
})
