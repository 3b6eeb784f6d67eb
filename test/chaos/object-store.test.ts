import { createHash } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import type { S3Config } from '../../src/config.ts'
import { readAll } from '../../src/store/objects.ts'
import { type Fault, type FaultyProxy, type Passing, startFaultyProxy, times } from '../faulty-proxy.ts'
import { tiny } from '../fixtures/tiny.ts'
import { testDatabase } from '../postgres.ts'
import { hasOwnS3, type OwnS3, startServer } from '../s3.ts'
import { type Cluster, openCluster } from './cluster.ts'

// Several processes at work; on a busy machine each takes its time.
vi.setConfig({ testTimeout: 240_000, hookTimeout: 120_000 })

const isCheckpoint = ({ method, key }: Omit<Passing, 'fault'>) => method === 'PUT' && key.includes('/checkpoints/')

/** All that can go wrong on the way, in turn, for every third request. */
const mixture: Fault[] = [
  { answer: 500 },
  { cutRequest: 1000 },
  { lostAnswer: true },
  { cutAnswer: 100 },
  { answer: 503, code: 'SlowDown' },
  { delay: 300 },
]

/** Checkpoints of some 21 MB, which are sent in parts. */
const bulky = {
  dataset: { ...tiny.dataset, images: 1300 },
  method: { name: 'npid', dimension: 4096 },
  training: { epochs: 1, batchSize: 32, checkpointEverySteps: 12 },
}

function settingsOf({ endPoint, port, bucket, accessKey, secretKey }: S3Config): Record<string, string> {
  return {
    S3_ENDPOINT: `http://${endPoint}:${port}`,
    S3_BUCKET: bucket,
    S3_ACCESS_KEY: accessKey,
    S3_SECRET_KEY: secretKey,
  }
}

describe.skipIf(!hasOwnS3)('a run whose object store fails', () => {
  let server: OwnS3
  let proxy: FaultyProxy
  let database: Awaited<ReturnType<typeof testDatabase>>
  let cluster: Cluster
  let undisturbed: unknown

  beforeAll(async () => {
    server = await startServer()
    proxy = await startFaultyProxy(server.config)
    database = await testDatabase()
    cluster = await openCluster(database.url, settingsOf(proxy.config))
    await cluster.startWorker()
    const runId = await cluster.submit()
    await cluster.becomes(runId, 'succeeded')
    undisturbed = await cluster.evidence(runId)
  })
  afterEach(() => {
    proxy.faults = undefined
    proxy.seen.length = 0
  })
  afterAll(async () => {
    await cluster.close()
    await database.drop()
    proxy.close()
    server.stop()
  })

  async function outcomes(runId: string): Promise<unknown[]> {
    return (await cluster.ledger.attempts([runId])).get(runId)!.map((attempt) => attempt.outcome)
  }

  /** What rows say is stored is stored, and nothing else. */
  async function expectTidy(runId: string): Promise<void> {
    proxy.faults = undefined
    const checkpoints = (await cluster.ledger.checkpoints([runId])).get(runId)!
    const artifacts = (await cluster.ledger.artifacts([runId])).get(runId) ?? []
    for (const { key, sha256 } of [...checkpoints, ...artifacts]) {
      const bytes = await readAll(await cluster.objects.get(key))
      expect(createHash('sha256').update(bytes).digest('hex')).toBe(sha256)
    }
    const stored: string[] = []
    for await (const { key } of cluster.objects.list(`runs/${runId}/`)) stored.push(key)
    expect(stored.sort()).toEqual([...checkpoints, ...artifacts].map(({ key }) => key).sort())
  }

  it('goes on when every third request fails in one way or another, and ends the same, bit for bit', async () => {
    let count = 0
    proxy.faults = () => (++count % 3 === 0 ? mixture[(count / 3) % mixture.length] : undefined)
    const runId = await cluster.submit()
    await cluster.becomes(runId, 'succeeded')
    expect(new Set(proxy.seen.map(({ fault }) => fault)), 'each fault has happened').toEqual(
      new Set([undefined, ...mixture]),
    )
    expect(await outcomes(runId)).toEqual(['succeeded'])
    await expectTidy(runId)
    expect(await cluster.evidence(runId)).toEqual(undisturbed)
  })

  it('waits for a store that is away for some seconds, and ends the same', async () => {
    const runId = await cluster.submit()
    await cluster.reaches(runId, 14)
    proxy.faults = () => ({ answer: 503, code: 'ServiceUnavailable' })
    await sleep(8000)
    expect(await cluster.run(runId)).toMatchObject({ state: 'running', attempt: 1 })
    proxy.faults = undefined
    await cluster.becomes(runId, 'succeeded')
    expect(await outcomes(runId)).toEqual(['succeeded'])
    await expectTidy(runId)
    expect(await cluster.evidence(runId)).toEqual(undisturbed)
  })

  it('ends the same when the server is killed and comes back', async () => {
    const runId = await cluster.submit()
    await cluster.reaches(runId, 14)
    await server.kill()
    await sleep(3000)
    await server.start()
    await cluster.becomes(runId, 'succeeded')
    expect(await outcomes(runId)).toEqual(['succeeded'])
    await expectTidy(runId)
    expect(await cluster.evidence(runId)).toEqual(undisturbed)
  })

  it('is taken up again from its last checkpoint when one cannot be stored, and ends the same', async () => {
    const runId = await cluster.submit()
    await cluster.reaches(runId, 21)
    // An answer that waiting would not change: the attempt gives up at once.
    proxy.faults = times(1, isCheckpoint, { answer: 400, code: 'ExpiredToken' })
    await cluster.becomes(runId, 'succeeded')
    expect(await outcomes(runId)).toEqual(['lost', 'succeeded'])
    await expectTidy(runId)
    expect(await cluster.evidence(runId)).toEqual(undisturbed)
  })

  it('stores checkpoints of several parts whose parts are cut, refused and not confirmed', async () => {
    const calm = await cluster.submit(bulky)
    await cluster.becomes(calm, 'succeeded')
    let count = 0
    proxy.seen.length = 0
    proxy.faults = (request) => {
      if (!request.query.has('uploadId') && !request.query.has('uploads')) return undefined
      const harms: Fault[] = [{ cutRequest: 3_000_000 }, { answer: 500 }, { lostAnswer: true }]
      return ++count % 2 === 0 ? harms[(count / 2) % 3] : undefined
    }
    const runId = await cluster.submit(bulky)
    await cluster.becomes(runId, 'succeeded')
    expect(proxy.seen.filter(({ fault }) => fault).length).toBeGreaterThan(5)
    expect(await outcomes(runId)).toEqual(['succeeded'])
    await expectTidy(runId)
    expect(await cluster.evidence(runId)).toEqual(await cluster.evidence(calm))
  })

  it('is not taken by a worker that the store refuses: that one says so and does not start', async () => {
    const start = cluster.startWorker({ S3_SECRET_KEY: 'wrong' })
    await expect(start).rejects.toThrow(/refuses our signature[\s\S]*S3_SECRET_KEY/)
  })

  it('fails with the cure, once, when the bucket is gone', async () => {
    const runId = await cluster.submit()
    await cluster.reaches(runId, 7)
    proxy.faults = () => ({ answer: 404, code: 'NoSuchBucket' })
    const { failure, attempt } = await cluster.becomes(runId, 'failed')
    expect(failure).toMatchObject({
      code: 'misconfigured',
      message: 'there is no bucket gestalt-test',
      cure: expect.stringContaining('S3_BUCKET'),
    })
    expect(attempt).toBe(1)
  })
})
