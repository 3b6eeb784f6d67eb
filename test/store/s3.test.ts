import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { type AddressInfo, createServer as createTcpServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import type { S3Config } from '../../src/config.ts'
import { readAll } from '../../src/store/objects.ts'
import { openS3, partSize } from '../../src/store/s3.ts'
import { hasOwnS3, hasS3, startServer, testS3 } from '../s3.ts'
import { canMount, smallDisk } from '../tmpfs.ts'

function page(socket: Socket, status: string, body: string): void {
  socket.end(`HTTP/1.1 ${status}\r\ncontent-length: ${body.length}\r\nconnection: close\r\n\r\n${body}`)
}

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

  it.each([
    ['S3_BUCKET', { bucket: 'Not A Bucket' }],
    ['S3_ENDPOINT', { useSSL: true }],
  ] as const)('is not even asked where %s cannot be right', async (name, change) => {
    const store = openS3({ ...server.config, ...change })
    await expect(store.check()).rejects.toMatchObject({
      code: 'misconfigured',
      cure: expect.stringContaining(name),
    })
  })

  it('whose clock differs is told from one that refuses the key', async () => {
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 3_600_000 })
    try {
      await expect(openS3(server.config).check()).rejects.toMatchObject({
        code: 'misconfigured',
        message: expect.stringContaining('clock'),
        cure: expect.stringContaining('set both clocks'),
      })
    } finally {
      vi.useRealTimers()
    }
  })

  it.skipIf(!hasOwnS3)('that takes nothing is found by the check, which says what may not be done', async () => {
    const closed = await startServer({ readOnly: true })
    try {
      const store = openS3(closed.config)
      await expect(store.check()).rejects.toMatchObject({
        code: 'misconfigured',
        message: expect.stringContaining('does not let us write to the bucket gestalt-test'),
        cure: expect.stringContaining('the right to list, read, write and remove'),
      })
    } finally {
      closed.stop()
    }
  })

  it.skipIf(!hasOwnS3 || !canMount)('whose disk is full has no room, and takes more once it has', async () => {
    const disk = smallDisk(24)
    const full = await startServer({ root: disk.folder })
    try {
      const store = openS3(full.config)
      await store.put('runs/kept', Buffer.from('kept'))
      const noRoom = { code: 'no-room', cure: expect.stringContaining('make room') }
      await expect(store.put('runs/parts', Buffer.alloc(partSize + 20_000_000))).rejects.toMatchObject(noRoom)
      expect(await store.stat('runs/parts')).toBeUndefined()
      const ballast = join(disk.folder, 'ballast')
      const fill = spawnSync('dd', ['if=/dev/zero', `of=${ballast}`, 'bs=4096'])
      expect(String(fill.stderr)).toContain('No space left')
      await expect(store.put('runs/small', Buffer.alloc(100_000))).rejects.toMatchObject(noRoom)
      await expect(store.check()).rejects.toMatchObject(noRoom)
      expect(String(await readAll(await store.get('runs/kept')))).toBe('kept')
      rmSync(ballast)
      await store.check()
      await store.put('runs/small', Buffer.alloc(100_000))
    } finally {
      full.stop()
      disk.remove()
    }
  })

  it.skipIf(!hasOwnS3)('whose disk changes bytes or loses some does not pass them off as what was put', async () => {
    const root = mkdtempSync(join(tmpdir(), 'gestalt-rot-'))
    const rotting = await startServer({ root })
    try {
      const store = openS3(rotting.config)
      for (const [key, size] of Object.entries({ 'runs/small': 100_000, 'runs/large': partSize + 1000 })) {
        const bytes = randomBytes(size)
        await store.put(key, bytes)
        const file = join(root, 'data', rotting.config.bucket, key)
        const damagedError = { code: 'damaged', message: expect.stringContaining(key) }
        bytes[size >> 1]! ^= 1
        writeFileSync(file, bytes)
        await expect(store.get(key).then(readAll)).rejects.toMatchObject(damagedError)
        truncateSync(file, size - 1)
        await expect(store.get(key).then(readAll)).rejects.toMatchObject(damagedError)
      }
    } finally {
      rotting.stop()
      rmSync(root, { recursive: true, force: true })
    }
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
    const store = openS3(offline, { patienceSeconds: 0.2 })
    const fault = { code: 'unavailable', cure: expect.stringContaining('S3_ENDPOINT') }
    await expect(store.check()).rejects.toMatchObject(fault)
    await expect(store.stat('a')).rejects.toMatchObject(fault)
    await expect(store.list('a')[Symbol.asyncIterator]().next()).rejects.toMatchObject(fault)
  })

  it.each<[string, (socket: Socket) => void]>([
    ['speaks no HTTP', (socket) => socket.end('220 mail.example ESMTP\r\n')],
    ['serves pages', (socket) => page(socket, '200 OK', '<!doctype html><html><body>Welcome</body></html>')],
    ['serves pages, and not this one', (socket) => page(socket, '404 Not Found', '<html>Not here</html>')],
    ['speaks JSON', (socket) => page(socket, '404 Not Found', '{"message":"Route GET:/bucket not found"}')],
    ['says nothing more', (socket) => page(socket, '404 Not Found', '')],
  ])('%s is no object store: the endpoint is wrong', async (_, answer) => {
    const other = createTcpServer((socket) => socket.once('data', () => answer(socket)).on('error', () => {}))
    await new Promise<void>((done) => other.listen(0, '127.0.0.1', done))
    const store = openS3({ ...offline, bucket: 'bucket', port: (other.address() as AddressInfo).port })
    await expect(store.check()).rejects.toMatchObject({
      code: 'misconfigured',
      message: expect.stringMatching(/does not speak (S3|HTTP)/),
      cure: expect.stringContaining('S3_ENDPOINT'),
    })
    other.close()
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

    it.each(['sha256', 'crc32'])('is damaged when what it gives has another %s than what was put', async (name) => {
      answer = { status: 200, body: 'x', headers: { [`x-amz-meta-${name}`]: 'other', 'content-length': '1' } }
      const stream = await openS3(config).get('a')
      await expect(stream.toArray()).rejects.toMatchObject({ code: 'damaged' })
    })
  })
})
