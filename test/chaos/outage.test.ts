import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { type AddressInfo, connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { startPostgres } from '../../src/store/embedded-postgres.ts'
import { migrate } from '../../src/store/migrate.ts'
import { type Cluster, openCluster } from './cluster.ts'

// Several processes at work; on a busy machine each takes its time.
vi.setConfig({ testTimeout: 180_000, hookTimeout: 120_000 })

/** A Postgres that can be stopped and started at one address, as a service with a name would be. */
async function startService(home: string) {
  let server = await startPostgres({ home })
  await migrate(server.url)
  let port: number | undefined = Number(new URL(server.url).port)
  const proxy = createServer((client) => {
    if (port === undefined) return client.destroy()
    const upstream = connect(port, '127.0.0.1')
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      from.pipe(to)
      from.on('error', () => to.destroy())
      from.on('close', () => to.destroy())
    }
  }).listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  const url = new URL(server.url)
  url.port = String((proxy.address() as AddressInfo).port)
  return {
    url: url.href,
    async stop() {
      port = undefined
      await server.stop()
    },
    async start() {
      server = await startPostgres({ home })
      port = Number(new URL(server.url).port)
    },
    async close() {
      proxy.close()
      await server.stop()
      for (const folder of [server.directory, home]) rmSync(folder, { recursive: true, force: true })
    },
  }
}

let service: Awaited<ReturnType<typeof startService>>
let cluster: Cluster

beforeAll(async () => {
  service = await startService(mkdtempSync(join(tmpdir(), 'gestalt-outage-')))
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
