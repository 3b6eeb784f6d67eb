import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openDirectory } from '../../src/store/directory.ts'
import { type ObjectStore, readAll } from '../../src/store/objects.ts'
import { openS3, partSize } from '../../src/store/s3.ts'
import { hasS3, testS3 } from '../s3.ts'

interface Opened {
  store: ObjectStore
  close(): Promise<void> | void
}

/** Serves the links of a directory store as the API does. */
async function openServedDirectory(): Promise<Opened> {
  const root = await mkdtemp(join(tmpdir(), 'gestalt-objects-'))
  let store: ReturnType<typeof openDirectory>
  const server: Server = createServer(async (request, response) => {
    const url = new URL(request.url!, 'http://localhost')
    const key = decodeURIComponent(url.pathname.slice('/objects/'.length))
    const query = Object.fromEntries(url.searchParams)
    if (!store.verify(key, query)) return response.writeHead(403).end()
    response.writeHead(200, {
      'content-type': query.type ?? 'application/octet-stream',
      'content-disposition': `attachment; filename="${query.name}"`,
    })
    response.end(await readAll(await store.get(key)))
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  const { port } = server.address() as AddressInfo
  store = openDirectory({ root, secret: 'secret', publicUrl: `http://127.0.0.1:${port}` })
  const close = async () => {
    server.close()
    await rm(root, { recursive: true, force: true })
  }
  return { store, close }
}

async function openServedBucket(): Promise<Opened> {
  const { config, stop } = await testS3()
  return { store: openS3(config), close: stop }
}

const drivers = [
  { name: 'a directory', present: true, open: openServedDirectory },
  { name: 'an S3 bucket', present: hasS3, open: openServedBucket },
]

async function* inPieces(bytes: Uint8Array, size: number) {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

describe.each(drivers)('an object store in $name', ({ present, open }) => {
  let opened: Opened
  let store: ObjectStore
  const folder = `contract/${randomBytes(6).toString('hex')}`
  beforeAll(async () => {
    if (!present) return
    opened = await open()
    store = opened.store
  })
  afterAll(async () => {
    if (!present) return
    for await (const { key } of store.list(folder)) await store.remove(key)
    await opened.close()
  })
  const keep = it.skipIf(!present)

  keep('is fit for use', async () => {
    await store.check()
  })

  keep.each([0, 1, 100_000, partSize + 12_345])('gives back %i bytes as they were put', async (size) => {
    const bytes = randomBytes(size)
    const key = `${folder}/bytes-${size}`
    const put = await store.put(key, inPieces(bytes, 70_000), { type: 'application/x-test' })
    expect(put).toEqual({ key, size, sha256: sha256(bytes) })
    expect((await readAll(await store.get(key))).equals(bytes)).toBe(true)
    const stat = await store.stat(key)
    expect(stat).toMatchObject({ size, type: 'application/x-test' })
    expect(Math.abs(stat!.modified.getTime() - Date.now())).toBeLessThan(60_000)
  })

  keep('gives back the part that is asked for', async () => {
    const key = `${folder}/range`
    await store.put(key, Buffer.from('0123456789'))
    const read = async (start: number, end?: number) => String(await readAll(await store.get(key, { start, end })))
    expect(await read(0, 3)).toBe('012')
    expect(await read(7)).toBe('789')
    expect(await read(8, 100)).toBe('89')
    expect(await read(4, 4)).toBe('')
    expect(await read(0)).toBe('0123456789')
    expect(await read(10)).toBe('')
  })

  keep('holds the last of two objects put under one key', async () => {
    const key = `${folder}/twice`
    await store.put(key, Buffer.from('first, and longer'))
    await store.put(key, Buffer.from('second'), { type: 'text/plain' })
    expect(String(await readAll(await store.get(key)))).toBe('second')
    expect(await store.stat(key)).toMatchObject({ size: 6, type: 'text/plain' })
  })

  keep('lists what starts with a prefix, and nothing else', async () => {
    const keys = ['a/1', 'a/2', 'ab', 'b/c/d'].map((name) => `${folder}/list/${name}`)
    for (const key of keys) await store.put(key, Buffer.from(key))
    const list = async (prefix: string) => {
      const found = []
      for await (const { key, size } of store.list(prefix)) {
        expect(size).toBe(key.length)
        found.push(key)
      }
      return found.sort()
    }
    expect(await list(`${folder}/list/`)).toEqual([...keys].sort())
    expect(await list(`${folder}/list/a`)).toEqual(keys.slice(0, 3).sort())
    expect(await list(`${folder}/list/b/c`)).toEqual(keys.slice(3))
    expect(await list(`${folder}/none/`)).toEqual([])
  })

  keep('knows nothing of what was removed or never put', async () => {
    const key = `${folder}/gone`
    await store.put(key, Buffer.from('x'))
    await store.remove(key)
    await store.remove(key)
    expect(await store.stat(key)).toBeUndefined()
    await expect(store.get(key)).rejects.toMatchObject({ code: 'not-found' })
  })

  keep('shows nothing of an upload that broke off', async () => {
    const key = `${folder}/broken`
    async function* broken() {
      yield randomBytes(100_000)
      throw new Error('the source broke')
    }
    await expect(store.put(key, broken())).rejects.toThrow()
    expect(await store.stat(key)).toBeUndefined()
  })

  keep('serves a link without a token, under another name and type', async () => {
    const key = `${folder}/linked.bin`
    await store.put(key, Buffer.from('linked'))
    const link = await store.link(key, { seconds: 60, name: 'result.txt', type: 'text/plain' })
    const response = await fetch(link)
    expect(response.status).toBe(200)
    expect(response.headers.get('content-type')).toBe('text/plain')
    expect(response.headers.get('content-disposition')).toContain('result.txt')
    expect(await response.text()).toBe('linked')
    expect((await fetch(link.replace('linked.bin', 'bytes-1'))).status).toBe(403)
    expect((await fetch(link.replace('result.txt', 'other.txt'))).status).toBe(403)
  })

  keep.each(['', '/', '../up', 'a/../b', 'a//b', '/a', 'a/', 'a\\b', 'a\0b', 'ä', 'a b', `${'a'.repeat(300)}`])(
    'refuses the key %j',
    async (key) => {
      await expect(store.put(key, Buffer.from('x'))).rejects.toMatchObject({ code: 'invalid-definition' })
      expect(await store.stat(key)).toBeUndefined()
    },
  )

  keep('takes many objects at once', async () => {
    const names = Array.from({ length: 50 }, (_, place) => `${folder}/many/${place}`)
    await Promise.all(names.map((key) => store.put(key, Buffer.from(key))))
    await Promise.all(names.map((key) => store.remove(key)))
    for (const key of names) expect(await store.stat(key)).toBeUndefined()
  })
})
