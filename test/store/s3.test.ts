import { readdirSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { S3Config } from '../../src/config.ts'
import { openS3 } from '../../src/store/s3.ts'
import { hasS3, testS3 } from '../s3.ts'

const offline: S3Config = {
  endPoint: '127.0.0.1',
  port: 1,
  useSSL: false,
  region: 'us-east-1',
  bucket: 'none',
  accessKey: 'a',
  secretKey: 'b',
  pathStyle: true,
}

describe.skipIf(!hasS3)('an S3 server', () => {
  let server: Awaited<ReturnType<typeof testS3>>
  beforeAll(async () => {
    server = await testS3()
  })
  afterAll(() => server.stop())

  it.each([
    ['S3_ACCESS_KEY', { accessKey: 'nobody' }],
    ['S3_SECRET_KEY', { secretKey: 'wrong' }],
    ['S3_BUCKET', { bucket: 'there-is-none' }],
  ] as const)('that refuses what %s says is a fault of the settings', async (name, change) => {
    const store = openS3({ ...server.config, ...change })
    const fault = { code: 'misconfigured', cure: expect.stringContaining(name) }
    await expect(store.check()).rejects.toMatchObject(fault)
    await expect(store.put('a', Buffer.from('x'))).rejects.toMatchObject(fault)
    await expect(store.get('a').then((stream) => stream.toArray())).rejects.toMatchObject(fault)
  })

  it('is sent no more than it can hold on the way: a stream waits in a file that goes again', async () => {
    const before = readdirSync(tmpdir()).filter((name) => name.startsWith('gestalt-upload-'))
    const store = openS3(server.config)
    async function* broken() {
      yield Buffer.alloc(1000)
      throw new Error('the source broke')
    }
    await expect(store.put('broken', broken())).rejects.toThrow('the source broke')
    const after = readdirSync(tmpdir()).filter((name) => name.startsWith('gestalt-upload-'))
    expect(after).toEqual(before)
  })
})

describe('an object store that', () => {
  it('is not there is unavailable, and the cure names its setting', async () => {
    const store = openS3(offline)
    const fault = { code: 'unavailable', cure: expect.stringContaining('S3_ENDPOINT') }
    await expect(store.check()).rejects.toMatchObject(fault)
    await expect(store.stat('a')).rejects.toMatchObject(fault)
    await expect(store.list('a')[Symbol.asyncIterator]().next()).rejects.toMatchObject(fault)
  })

  describe('answers wrongly', () => {
    let server: Server
    let answer: { status: number; body: string; headers?: Record<string, string> }
    let config: S3Config
    beforeAll(async () => {
      server = createServer((request, response) => {
        request.resume()
        request.on('end', () => response.writeHead(answer.status, answer.headers).end(answer.body))
      })
      await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
      config = { ...offline, port: (server.address() as AddressInfo).port, bucket: 'bucket' }
    })
    afterAll(() => void server.close())

    it('has no room when it says so', async () => {
      answer = { status: 507, body: '<Error><Code>XMinioStorageFull</Code><Message>full</Message></Error>' }
      await expect(openS3(config).put('a', Buffer.from('x'))).rejects.toMatchObject({ code: 'no-room' })
    })

    it('is damaged when what it holds is not what was sent', async () => {
      answer = { status: 200, body: '', headers: { etag: '"x"', 'last-modified': new Date(0).toUTCString() } }
      await expect(openS3(config).put('a', Buffer.from('x'))).rejects.toMatchObject({ code: 'damaged' })
    })

    it('is damaged when what it gives is not what was put', async () => {
      answer = { status: 200, body: 'x', headers: { 'x-amz-meta-sha256': 'other', 'content-length': '1' } }
      const stream = await openS3(config).get('a')
      await expect(stream.toArray()).rejects.toMatchObject({ code: 'damaged' })
    })
  })
})
