import { createHash, randomBytes } from 'node:crypto'
import { readdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { Client } from 'minio'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { type ObjectStore, readAll } from '../../src/store/objects.ts'
import { openS3, partSize } from '../../src/store/s3.ts'
import { type Fault, type FaultyProxy, type Passing, startFaultyProxy, times } from '../faulty-proxy.ts'
import { hasOwnS3, hasS3, type OwnS3, startServer, testS3 } from '../s3.ts'

vi.setConfig({ testTimeout: 120_000 })

type Request = Omit<Passing, 'fault'>

/** Short, so that what gives up does so soon. */
const patient = { patienceSeconds: 20, silenceSeconds: 1, pauseSeconds: 0.01 }
const impatient = { patienceSeconds: 0.2, silenceSeconds: 0.5, pauseSeconds: 0.01 }

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

/** An object of three parts. */
const large = randomBytes(2 * partSize + 12_345)
const isPart = ({ query }: Request) => query.has('partNumber')
const isBegin = ({ method, query }: Request) => method === 'POST' && query.has('uploads')
const isJoin = ({ method, query }: Request) => method === 'POST' && query.has('uploadId')

describe.skipIf(!hasS3)('an object store behind a network that fails', () => {
  let server: Awaited<ReturnType<typeof testS3>>
  let proxy: FaultyProxy
  let store: ObjectStore
  let key: string
  beforeAll(async () => {
    server = await testS3()
    proxy = await startFaultyProxy(server.config)
    store = openS3(proxy.config, patient)
  })
  beforeEach(() => {
    key = `runs/faults/${randomBytes(6).toString('hex')}`
    proxy.seen.length = 0
  })
  afterEach(() => {
    proxy.faults = undefined
  })
  afterAll(() => {
    proxy.close()
    server.stop()
  })

  async function unfinished(): Promise<string[]> {
    const { bucket, ...place } = server.config
    const found: string[] = []
    for await (const upload of new Client(place).listIncompleteUploads(bucket, key, true)) found.push(upload.key)
    return found
  }

  /** How often the proxy did harm. */
  const harmed = () => proxy.seen.filter(({ fault }) => fault).length

  it.each<[string, Fault]>([
    ['is answered 500', { answer: 500 }],
    ['is answered 503, to slow down', { answer: 503, code: 'SlowDown' }],
    ['is answered 429', { answer: 429, code: 'TooManyRequests' }],
    ['is never answered', { silence: true }],
    ['loses its connection on the way', { cutRequest: 10_000 }],
    ['is done but not confirmed', { lostAnswer: true }],
    ['is slow', { delay: 300 }],
  ])('stores what is put when a request %s', async (_, fault) => {
    const bytes = randomBytes(100_000)
    proxy.faults = times(2, ({ method }) => method === 'PUT', fault)
    expect(await store.put(key, bytes)).toEqual({ key, size: bytes.length, sha256: sha256(bytes) })
    expect(harmed()).toBeGreaterThan(0)
    expect((await readAll(await openS3(server.config).get(key))).equals(bytes)).toBe(true)
  })

  it.each<[string, (request: Request) => boolean, Fault]>([
    ['the beginning is answered 500', isBegin, { answer: 500 }],
    ['the beginning is not confirmed', isBegin, { lostAnswer: true }],
    ['parts are answered 503', isPart, { answer: 503, code: 'SlowDown' }],
    ['parts are cut in the middle', isPart, { cutRequest: 5_000_000 }],
    ['parts are not confirmed', isPart, { lostAnswer: true }],
    ['the end is answered 500', isJoin, { answer: 500 }],
    ['the end is not confirmed', isJoin, { lostAnswer: true }],
  ])('stores an object of several parts when %s', async (_, matches, fault) => {
    proxy.faults = times(2, matches, fault)
    expect(await store.put(key, large)).toEqual({ key, size: large.length, sha256: sha256(large) })
    expect(harmed()).toBeGreaterThan(0)
    expect((await readAll(await store.get(key))).equals(large)).toBe(true)
  })

  it.each<[string, Fault]>([
    ['is answered 500', { answer: 500 }],
    ['is never answered', { silence: true }],
    ['is cut at its beginning', { cutAnswer: 0 }],
    ['is cut in the middle', { cutAnswer: 3_000_000 }],
  ])('gives back what was put when a download %s', async (_, fault) => {
    await store.put(key, large)
    proxy.faults = times(3, ({ method }) => method === 'GET', fault)
    expect((await readAll(await store.get(key))).equals(large)).toBe(true)
    expect(harmed()).toBe(3)
    proxy.faults = times(3, ({ method }) => method === 'GET', fault)
    const [start, end] = [1_000_000, 9_000_000]
    expect((await readAll(await store.get(key, { start, end }))).equals(large.subarray(start, end))).toBe(true)
    expect(harmed()).toBe(6)
  })

  it('gives back what drips in, and waits for a reader that is slower than it', async () => {
    const bytes = randomBytes(200_000)
    await store.put(key, bytes)
    proxy.faults = times(1, ({ method }) => method === 'GET', { drip: { bytes: 4000, pause: 30 } })
    expect((await readAll(await store.get(key))).equals(bytes)).toBe(true)
    await store.put(key, large)
    const impatiently = openS3(proxy.config, impatient)
    const chunks: Buffer[] = []
    for await (const chunk of (await impatiently.get(key)) as AsyncIterable<Buffer>) {
      // Longer than the server may be silent.
      if (chunks.length === 3) await new Promise((done) => setTimeout(done, 1200))
      chunks.push(chunk)
    }
    expect(Buffer.concat(chunks).equals(large)).toBe(true)
    expect(harmed()).toBe(1)
  })

  it('does not mix an object with the one that replaces it while it is read', async () => {
    await store.put(key, large)
    proxy.faults = times(1, ({ method }) => method === 'GET', { cutAnswer: 1_000_000 })
    const stream = await store.get(key)
    await openS3(server.config).put(key, randomBytes(large.length))
    await expect(stream.toArray()).rejects.toMatchObject({
      code: 'damaged',
      message: expect.stringContaining('replaced'),
    })
  })

  it.each<[string, Fault]>([
    ['answers 500', { answer: 500 }],
    ['says nothing', { silence: true }],
    ['cuts every connection', { cutRequest: 0 }],
  ])('is unavailable within bounds when it only %s', async (_, fault) => {
    const impatiently = openS3(proxy.config, impatient)
    proxy.faults = () => fault
    const gone = { code: 'unavailable', cure: expect.stringContaining('S3_ENDPOINT') }
    await expect(impatiently.put(key, Buffer.from('x'))).rejects.toMatchObject(gone)
    await expect(impatiently.get(key)).rejects.toMatchObject(gone)
    await expect(impatiently.stat(key)).rejects.toMatchObject(gone)
    await expect(impatiently.remove(key)).rejects.toMatchObject(gone)
    await expect(impatiently.list(key)[Symbol.asyncIterator]().next()).rejects.toMatchObject(gone)
    const before = proxy.seen.length
    await expect(impatiently.check()).rejects.toMatchObject(gone)
    expect(proxy.seen.length, 'a check does not wait').toBe(before + 1)
  })

  it('is unavailable when a download breaks off and nothing answers any more', async () => {
    await store.put(key, large)
    proxy.faults = ({ headers }) => (headers.range ? { answer: 503 } : { cutAnswer: 1_000_000 })
    const stream = await openS3(proxy.config, impatient).get(key)
    await expect(stream.toArray()).rejects.toMatchObject({ code: 'unavailable' })
  })

  it('says what the server said', async () => {
    proxy.faults = () => ({ answer: 503, code: 'SlowDown' })
    await expect(openS3(proxy.config, impatient).stat(key)).rejects.toThrow('answers 503')
    await expect(openS3(proxy.config, impatient).get(key)).rejects.toThrow('SlowDown: by the proxy')
  })

  it('lists all there is when its answers fail between', async () => {
    const keys = Array.from({ length: 5 }, (_, place) => `${key}/${place}`)
    for (const name of keys) await store.put(name, Buffer.from(name))
    proxy.faults = times(3, ({ query }) => query.has('list-type'), { cutAnswer: 100 })
    const found: string[] = []
    for await (const object of store.list(`${key}/`)) found.push(object.key)
    expect(found).toEqual(keys)
    expect(harmed()).toBe(3)
  })

  it('leaves no parts behind of an upload that fails, and no file', async () => {
    const files = () => readdirSync(tmpdir()).filter((name) => name.startsWith('gestalt-upload-'))
    const before = files()
    proxy.faults = (request) =>
      isPart(request) && request.query.get('partNumber') === '2' ? { answer: 500 } : undefined
    async function* pieces() {
      yield* [large.subarray(0, 10_000_000), large.subarray(10_000_000)]
    }
    const upload = openS3(proxy.config, impatient).put(key, pieces())
    await expect(upload).rejects.toMatchObject({ code: 'unavailable' })
    expect(await unfinished()).toEqual([])
    expect(await store.stat(key)).toBeUndefined()
    expect(files()).toEqual(before)
  })

  it('removes parts whose process has died once they are old, and only its own', async () => {
    const { bucket, ...place } = server.config
    const client = new Client(place)
    const foreign = `others/${randomBytes(4).toString('hex')}`
    await client.initiateNewMultipartUpload(bucket, key, {})
    await client.initiateNewMultipartUpload(bucket, foreign, {})
    await openS3(server.config).check()
    expect(await unfinished(), 'they may still be at work').toEqual([key])
    await openS3(server.config, { staleSeconds: -60 }).check()
    expect(await unfinished()).toEqual([])
    const others: string[] = []
    for await (const upload of client.listIncompleteUploads(bucket, foreign, true)) others.push(upload.key)
    expect(others).toEqual([foreign])
  })
})

describe.skipIf(!hasOwnS3)('an S3 server that dies', () => {
  let server: OwnS3
  beforeAll(async () => {
    server = await startServer()
  })
  afterAll(() => server.stop())

  it('in the middle of an upload has all of it when it is back', async () => {
    const proxy = await startFaultyProxy(server.config)
    const store = openS3(proxy.config, patient)
    await store.put('runs/before', Buffer.from('stored before'))
    let dead: Promise<void> | undefined
    proxy.faults = (request) => {
      if (!isPart(request) || request.query.get('partNumber') !== '2' || dead) return undefined
      dead = server.kill().then(() => new Promise((done) => setTimeout(done, 500)))
      void dead.then(() => server.start())
      return { delay: 100 }
    }
    expect(await store.put('runs/large', large)).toMatchObject({ sha256: sha256(large) })
    expect(dead).toBeDefined()
    expect((await readAll(await store.get('runs/large'))).equals(large)).toBe(true)
    expect(String(await readAll(await store.get('runs/before')))).toBe('stored before')
    proxy.close()
  })

  it('for good makes the upload fail in bounds, with nothing to be seen of it later', async () => {
    const proxy = await startFaultyProxy(server.config)
    const store = openS3(proxy.config, impatient)
    let dead: Promise<void> | undefined
    proxy.faults = (request) => {
      if (isPart(request)) dead ??= server.kill()
      return undefined
    }
    await expect(store.put('runs/never', large)).rejects.toMatchObject({ code: 'unavailable' })
    await dead
    await server.start()
    proxy.faults = undefined
    expect(await openS3(proxy.config, patient).stat('runs/never')).toBeUndefined()
    proxy.close()
  })
})
