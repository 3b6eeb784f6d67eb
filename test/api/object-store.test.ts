import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { startServer } from '../../src/server.ts'
import { eventually } from '../eventually.ts'
import { type FaultyProxy, startFaultyProxy, times } from '../faulty-proxy.ts'
import { testDatabase } from '../postgres.ts'
import { hasOwnS3, type OwnS3, startServer as startS3 } from '../s3.ts'
import { openWorld, testConfig, type World } from './world.ts'

describe.skipIf(!hasOwnS3)('an API process on an S3 store', () => {
  let server: OwnS3
  let proxy: FaultyProxy
  let world: World
  beforeAll(async () => {
    server = await startS3()
    proxy = await startFaultyProxy(server.config)
    world = await openWorld({ s3: proxy.config })
  })
  afterEach(() => {
    proxy.faults = undefined
  })
  afterAll(async () => {
    await world.close()
    proxy.close()
    server.stop()
  })

  it.each([
    ['is overloaded', { answer: 503, code: 'SlowDown' }, 503, 'unavailable', 'see that it runs'],
    ['says nothing', { silence: true }, 503, 'unavailable', 'see that it runs'],
    ['has lost its bucket', { answer: 404, code: 'NoSuchBucket' }, 500, 'misconfigured', 'S3_BUCKET'],
    ['has a new key', { answer: 403, code: 'InvalidAccessKeyId' }, 500, 'misconfigured', 'S3_ACCESS_KEY'],
    ['is full', { answer: 507, code: 'XMinioStorageFull' }, 507, 'no-room', 'make room'],
  ])('is not ready while the store %s, and says what to do', async (_, fault, status, code, cure) => {
    expect((await world.send('/readyz')).statusCode).toBe(200)
    proxy.faults = () => fault
    const response = await world.send('/readyz')
    expect(response.statusCode).toBe(status)
    expect(response.json()).toMatchObject({ code, cure: expect.stringContaining(cure) })
    expect(response.body).not.toContain(server.config.secretKey)
    expect((await world.send('/livez')).statusCode).toBe(200)
    proxy.faults = undefined
    await eventually(async () => expect((await world.send('/readyz')).statusCode).toBe(200))
  })

  it('refuses to start with settings that the store does not take, and waits for one that is starting', async () => {
    const home = mkdtempSync(join(tmpdir(), 'gestalt-start-'))
    const database = await testDatabase()
    const config = testConfig(home, { databaseUrl: database.url })
    try {
      const wrong = { ...proxy.config, secretKey: 'wrong' }
      await expect(startServer({ ...config, s3: wrong })).rejects.toMatchObject({
        code: 'misconfigured',
        cure: expect.stringContaining('S3_SECRET_KEY'),
      })
      proxy.faults = times(3, () => true, { answer: 503, code: 'ServiceUnavailable' })
      const started = await startServer({ ...config, s3: proxy.config })
      expect((await fetch(`${started.url}/readyz`)).status).toBe(200)
      await started.stop()
    } finally {
      await database.drop()
      rmSync(home, { recursive: true, force: true })
    }
  })
})
