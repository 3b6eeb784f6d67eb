import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { migrate } from '../../src/store/migrate.ts'
import { openCluster } from '../chaos/cluster.ts'
import { debianPostgres, startDebianPostgres } from './debian-postgres.ts'

// Several processes at work; on a busy machine each takes its time.
vi.setConfig({ testTimeout: 180_000, hookTimeout: 120_000 })

describe.skipIf(!debianPostgres)('a backup of database and objects', () => {
  let server: Awaited<ReturnType<typeof startDebianPostgres>>
  const folder = mkdtempSync(join(tmpdir(), 'gestalt-backup-'))

  beforeAll(async () => {
    server = await startDebianPostgres()
  })
  afterAll(async () => {
    await server?.stop()
    rmSync(folder, { recursive: true, force: true })
  })

  async function open(database: string) {
    const home = join(folder, database)
    return openCluster(server.url(database), { GESTALT_HOME: home })
  }

  // As docs/operations.md says.
  it('that is taken while a run is at work brings back all of it, and the run ends the same', async () => {
    server.run('createdb', '--maintenance-db', server.url('postgres'), 'first')
    await migrate(server.url('first'))
    const lab = await open('first')
    const worker = await lab.startWorker({ GESTALT_ENGINE_THREADS: '1' })
    const finished = await lab.submit()
    await lab.becomes(finished, 'succeeded')
    const evidence = await lab.evidence(finished)
    const atWork = await lab.submit()
    await lab.reaches(atWork, 14)
    // Held in the midst of its work: a checkpoint of the dump would not be copied where newer ones have replaced it.
    const child = worker.childOf(atWork)
    process.kill(child, 'SIGSTOP')
    const dump = join(folder, 'dump')
    server.run('pg_dump', '--format=custom', '--file', dump, server.url('first'))
    // The database first: what its rows name is in the store by then, and stays there.
    cpSync(join(folder, 'first/objects'), join(folder, 'second/objects'), { recursive: true })
    // The house burns down.
    process.kill(child, 'SIGKILL')
    await worker.end('SIGKILL')
    await lab.close()
    server.run('dropdb', '--force', '--maintenance-db', server.url('postgres'), 'first')
    rmSync(join(folder, 'first'), { recursive: true })

    server.run('createdb', '--maintenance-db', server.url('postgres'), 'second')
    server.run('pg_restore', '--exit-on-error', '--no-owner', '--dbname', server.url('second'), dump)
    expect(await migrate(server.url('second'))).toEqual([])
    const restored = await open('second')
    expect(await restored.evidence(finished)).toEqual(evidence)
    expect(await restored.run(atWork)).toMatchObject({ state: 'running', attempt: 1 })
    await restored.startWorker({ GESTALT_ENGINE_THREADS: '1' })
    await restored.becomes(atWork, 'succeeded')
    const attempts = (await restored.ledger.attempts([atWork])).get(atWork)!
    expect(attempts).toMatchObject([{ outcome: 'lost' }, { outcome: 'succeeded', resumedFrom: expect.any(Number) }])
    expect(attempts[1]!.resumedFrom).toBeGreaterThanOrEqual(14)
    expect(await restored.evidence(atWork)).toEqual(evidence)
    // Nothing of it is bound to what was: new work goes on.
    const again = await restored.submit()
    await restored.becomes(again, 'succeeded')
    expect(await restored.evidence(again)).toEqual(evidence)
    await restored.close()
  })
})
