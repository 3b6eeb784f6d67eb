import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { appendFile, mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { datasetBytes } from '../../src/store/dataset-bytes.ts'
import { openDirectory } from '../../src/store/directory.ts'
import { readAll } from '../../src/store/objects.ts'
import { canMount, smallDisk } from '../tmpfs.ts'

let root: string
let store: ReturnType<typeof openDirectory>
const open = (folder: string) => openDirectory({ root: folder, secret: 'secret', publicUrl: 'http://localhost:4000' })

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'gestalt-directory-'))
  store = open(root)
})
afterAll(() => rm(root, { recursive: true, force: true }))

async function fileOf(key: string): Promise<string> {
  const folder = join(root, 'keys', key)
  return join(folder, (await readdir(folder))[0]!)
}

describe('a stored file', () => {
  it('that was changed is noticed when it is read', async () => {
    await store.put('a/changed', Buffer.from('as it was'))
    await writeFile(await fileOf('a/changed'), 'as it is.')
    await expect(store.get('a/changed').then(readAll)).rejects.toMatchObject({ code: 'damaged' })
  })

  it('of another length is noticed before it is read', async () => {
    await store.put('a/longer', Buffer.from('text'))
    await appendFile(await fileOf('a/longer'), 'more')
    await expect(store.get('a/longer', { start: 1 })).rejects.toMatchObject({
      code: 'damaged',
      message: expect.stringContaining('8 bytes instead of 4'),
    })
  })

  it('may lie under a key that is the beginning of another', async () => {
    await store.put('b', Buffer.from('short'))
    await store.put('b/c', Buffer.from('long'))
    expect(String(await readAll(await store.get('b')))).toBe('short')
    await store.remove('b')
    expect(await store.stat('b')).toBeUndefined()
    expect(String(await readAll(await store.get('b/c')))).toBe('long')
  })

  it('is the newer one where a replacement was interrupted', async () => {
    await store.put('c', Buffer.from('old'))
    const old = await fileOf('c')
    const other = await mkdtemp(join(tmpdir(), 'gestalt-directory-'))
    await open(other).put('c', Buffer.from('newer'), { type: 'text/plain' })
    const [name] = await readdir(join(other, 'keys/c'))
    await writeFile(join(root, 'keys/c', name!), 'newer')
    await utimes(old, new Date(0), new Date(0))
    expect(String(await readAll(await store.get('c')))).toBe('newer')
    await store.put('c', Buffer.from('newest'))
    expect(await readdir(join(root, 'keys/c'))).toHaveLength(1)
    await rm(other, { recursive: true })
  })

  it('leaves no folders and no temporary files behind', async () => {
    await store.put('d/e/f', Buffer.from('x'))
    await store.remove('d/e/f')
    expect(await readdir(join(root, 'keys'))).not.toContain('d')
    expect(await readdir(join(root, 'temporary'))).toEqual([])
  })
})

describe('a signed link', () => {
  it('holds for its key, name and type until its time is over', async () => {
    const parse = (link: string) => Object.fromEntries(new URL(link).searchParams)
    const link = await store.link('a/b c'.replace(' ', '-'), { seconds: 60, name: 'n', type: 'text/plain' })
    expect(link).toMatch(/^http:\/\/localhost:4000\/objects\/a\/b-c\?/)
    const query = parse(link)
    expect(store.verify('a/b-c', query)).toBe(true)
    expect(store.verify('a/b-d', query)).toBe(false)
    for (const change of [{ name: 'm' }, { type: 'text/html' }, { expires: '99999999999' }, { signature: '' }])
      expect(store.verify('a/b-c', { ...query, ...change })).toBe(false)
    expect(store.verify('a/b-c', { ...query, signature: ['x', 'y'] })).toBe(false)
    expect(store.verify('a/b-c', {})).toBe(false)
    expect(store.verify('a/b-c', parse(await store.link('a/b-c', { seconds: -1 })))).toBe(false)
    const other = openDirectory({ root, secret: 'other', publicUrl: 'http://localhost:4000' })
    expect(other.verify('a/b-c', query)).toBe(false)
  })
})

describe('a full disk', () => {
  it.skipIf(!canMount)('is said with its cure, and nothing half-made stays', async () => {
    const disk = smallDisk(4)
    try {
      const small = open(join(disk.folder, 'objects'))
      await small.put('first', randomBytes(1_000_000))
      await expect(small.put('second', randomBytes(8_000_000))).rejects.toMatchObject({
        code: 'no-room',
        cure: expect.stringContaining('free some disk space'),
      })
      expect(await small.stat('second')).toBeUndefined()
      expect(await readdir(join(disk.folder, 'objects/temporary'))).toEqual([])
      await small.put('third', randomBytes(1_000_000))
      expect((await readAll(await small.get('first'))).length).toBe(1_000_000)
    } finally {
      disk.remove()
    }
  })

  it('is said in the same way where a limit on file sizes is reached', async () => {
    const program = `
      import { openDirectory } from '${new URL('../../src/store/directory.ts', import.meta.url)}'
      const store = openDirectory({ root: '${join(root, 'limited')}', secret: '', publicUrl: '' })
      const outcome = await store.put('big', Buffer.alloc(4_000_000)).catch((error) => error)
      console.log(outcome.code, await store.stat('big'))`
    const command = 'ulimit -f 1000 && exec "$0" --import tsx --input-type=module -e "$1"'
    const { stdout } = await promisify(execFile)('/bin/sh', ['-c', command, process.execPath, program])
    expect(stdout.trim()).toBe('no-room undefined')
  })
})

describe('a folder that cannot be written', () => {
  it('is a fault of the settings', async () => {
    await writeFile(join(root, 'file'), '')
    const wrong = open(join(root, 'file', 'objects'))
    await expect(wrong.check()).rejects.toMatchObject({
      code: 'misconfigured',
      cure: expect.stringContaining('GESTALT_HOME'),
    })
  })
})

describe('dataset files', () => {
  it('come from the object store first, then from the folders in their order', async () => {
    const [one, two] = [await mkdtemp(join(tmpdir(), 'gestalt-data-')), await mkdtemp(join(tmpdir(), 'gestalt-data-'))]
    await writeFile(join(two, 'in-folder'), '0123456789')
    const bytes = datasetBytes(store, [one, two])
    expect(await bytes.stat('in-folder')).toEqual({ size: 10 })
    expect(String(await bytes.read('in-folder', { start: 2, end: 5 }))).toBe('234')
    expect(await bytes.stat('set/file')).toBeUndefined()
    await store.put('datasets/set/file', Buffer.from('stored'))
    expect(await bytes.stat('set/file')).toEqual({ size: 6 })
    expect(String(await bytes.read('set/file'))).toBe('stored')
    expect(String(await bytes.read('set/file', { start: 1, end: 3 }))).toBe('to')
    for (const path of ['set/none', '../in-folder', 'in-folder/below'])
      await expect(bytes.read(path)).rejects.toMatchObject({
        code: 'not-found',
        cure: expect.stringContaining('gestalt dataset add'),
      })
    await expect(bytes.read('in-folder', { start: 5, end: 50 })).rejects.toMatchObject({ code: 'damaged' })
    for (const folder of [one, two]) await rm(folder, { recursive: true })
  })
})
