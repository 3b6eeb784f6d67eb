import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { testDatabase } from '../postgres.ts'
import { canMount, smallDisk } from '../tmpfs.ts'
import { type Cluster, openCluster } from './cluster.ts'

vi.setConfig({ testTimeout: 120_000, hookTimeout: 60_000 })

let database: Awaited<ReturnType<typeof testDatabase>>
let cluster: Cluster

beforeAll(async () => {
  database = await testDatabase()
  cluster = await openCluster(database.url)
})
afterAll(async () => {
  await cluster.close()
  await database.drop()
})

it.skipIf(!canMount)(
  'a run whose checkpoint does not fit on the disk fails with the cure, and leaves nothing',
  async () => {
    const disk = smallDisk(1)
    try {
      const worker = await cluster.startWorker({ GESTALT_HOME: disk.folder })
      // A bank of 320 slots of 1,024 numbers alone is larger than the disk.
      const runId = await cluster.submit({ method: { name: 'npid', dimension: 1024 } })
      const { failure, attempt } = await cluster.becomes(runId, 'failed')
      expect(failure).toEqual({
        code: 'no-room',
        message: expect.stringContaining('no room'),
        cure: expect.stringContaining('free some disk space'),
      })
      expect(failure!.message).not.toContain('\n')
      expect(attempt, 'a full disk does not become empty by trying again').toBe(1)
      expect((await cluster.ledger.checkpoints([runId])).get(runId) ?? []).toEqual([])
      const files = readdirSync(join(disk.folder, 'objects'), { recursive: true, withFileTypes: true })
      expect(files.filter((entry) => entry.isFile()).map((entry) => entry.name)).toEqual([])
      // The worker is well, and takes the next run that fits.
      const next = await cluster.submit()
      await cluster.becomes(next, 'succeeded')
      await worker.end('SIGTERM')
    } finally {
      disk.remove()
    }
  },
)
