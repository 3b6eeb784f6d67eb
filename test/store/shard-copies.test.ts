import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { afterAll, describe, expect, it } from 'vitest'
import { images } from '../../src/data/images.ts'
import { datasetBytes } from '../../src/store/dataset-bytes.ts'
import { openDirectory } from '../../src/store/directory.ts'
import type { ObjectStore } from '../../src/store/objects.ts'
import { openShardCopies } from '../../src/store/shard-copies.ts'
import { eventually } from '../eventually.ts'
import { folders, putSet } from '../fixtures/pictures.ts'

const root = mkdtempSync(join(tmpdir(), 'gestalt-copies-'))
afterAll(() => rmSync(root, { recursive: true, force: true }))

/** A store that is not on this machine, as far as one can tell, and how often parts of objects were asked for. */
function distantStore() {
  const { file: _, ...store } = openDirectory({ root, secret: 'secret', publicUrl: 'http://127.0.0.1' })
  const asked = { parts: 0, wholes: 0 }
  const distant: ObjectStore = {
    ...store,
    get(key, range) {
      asked[range ? 'parts' : 'wholes']++
      return store.get(key, range)
    },
  }
  return { distant, asked }
}

const wanted = { set: 'far', side: 8, fit: 'crop' as const, channels: 3 as const, testShare: 0.1 }

describe('shards of a distant store', () => {
  it('come to this machine once they are read often, and leave no file behind', async () => {
    const { distant, asked } = distantStore()
    await putSet(distant, 'far', await folders(['a', 'b'], 40))
    const before = readdirSync(tmpdir()).filter((name) => name.startsWith('gestalt-shard-'))
    const { train } = await images.open(wanted, datasetBytes(distant, [], { copies: true }))
    const numbers = async () => [...(await train.read([5, 70])).data].filter((_, i) => i % 192 === 0)
    const first = await numbers()
    await eventually(async () => {
      for (let i = 0; i < 50; i++) await train.read([i])
      const { parts } = asked
      await train.read([3])
      expect(asked.parts).toBe(parts)
    })
    const { parts } = asked
    expect(await numbers()).toEqual(first)
    for (let i = 0; i < train.size; i++) await train.read([i])
    expect(asked.parts).toBe(parts)
    await eventually(() =>
      expect(readdirSync(tmpdir()).filter((name) => name.startsWith('gestalt-shard-'))).toEqual(before),
    )
  })

  it('have no name already while they come, so that a process that is killed leaves none', async () => {
    const { distant } = distantStore()
    await distant.put('far.tar', Buffer.from('first, then the rest'))
    const folder = join(root, 'copies')
    mkdirSync(folder)
    let [sawMiddle, release] = [() => {}, () => {}]
    const [middle, released] = [
      new Promise<void>((done) => (sawMiddle = done)),
      new Promise<void>((done) => (release = done)),
    ]
    async function* slowly() {
      yield Buffer.from('first, ')
      sawMiddle()
      await released
      yield Buffer.from('then the rest')
    }
    const copies = openShardCopies({ ...distant, get: async () => Readable.from(slowly()) }, folder)
    for (let i = 0; i < 100; i++) copies.find('far.tar')
    await middle
    expect(readdirSync(folder)).toEqual([])
    release()
    await eventually(() => expect(copies.find('far.tar')).toBeTypeOf('number'))
    expect(readdirSync(folder)).toEqual([])
    await copies.close()
  })

  it('are read where they are by a process that only looks', async () => {
    const { distant, asked } = distantStore()
    const { train } = await images.open(wanted, datasetBytes(distant, []))
    const { wholes } = asked
    for (let i = 0; i < 150; i++) await train.read([i % 70])
    expect([asked.parts, asked.wholes]).toEqual([150, wholes])
  })

  it('are read where they are when they cannot be copied', async () => {
    const { distant } = distantStore()
    const copies = openShardCopies(distant, join(root, 'no such folder'))
    const keys: string[] = []
    for await (const { key } of distant.list('datasets/sets/far/')) if (key.endsWith('.tar')) keys.push(key)
    for (let i = 0; i < 200; i++) expect(copies.find(keys[0]!)).toBeUndefined()
    await copies.close()
  })
})
