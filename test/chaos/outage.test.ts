import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { migrate } from '../../src/store/migrate.ts'
import { type PostgresService, startPostgresService } from '../production/services.ts'
import { type Cluster, openCluster } from './cluster.ts'

// Several processes at work; on a busy machine each takes its time.
vi.setConfig({ testTimeout: 180_000, hookTimeout: 120_000 })

let service: PostgresService
let cluster: Cluster

beforeAll(async () => {
  service = await startPostgresService()
  await migrate(service.url)
  cluster = await openCluster(service.url)
  await cluster.startWorker()
})
afterAll(async () => {
  await cluster.close()
  await service.close()
})

it('loses nothing when Postgres stops and starts while a run is at work', async () => {
  const undisturbed = await cluster.submit()
  await cluster.becomes(undisturbed, 'succeeded')
  const runId = await cluster.submit()
  await cluster.reaches(runId, 14)
  await service.stop()
  // Longer than a lock of the queue and than a worker may be silent.
  await sleep(8000)
  await service.start()
  await cluster.becomes(runId, 'succeeded')
  expect(await cluster.evidence(runId)).toEqual(await cluster.evidence(undisturbed))
  // The child went on by itself: nobody took its run for abandoned.
  expect((await cluster.run(runId)).attempt).toBe(1)
  const next = await cluster.submit({ training: { epochs: 1, batchSize: 32 } })
  await cluster.becomes(next, 'succeeded')
})
