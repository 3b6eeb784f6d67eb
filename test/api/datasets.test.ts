import { request } from 'node:http'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { tarEnd } from '../../src/data/tar.ts'
import { openImageSets } from '../../src/store/image-sets.ts'
import { eventually } from '../eventually.ts'
import { folders, picture, tarOf } from '../fixtures/pictures.ts'
import { silent } from '../silent.ts'
import { definition, openWorld, type World } from './world.ts'

let world: World
let address: string
let birds: Buffer
beforeAll(async () => {
  world = await openWorld()
  address = await world.listen()
  birds = tarOf({ ...(await folders(['owl', 'jay'], 6, 'train/')), ...(await folders(['owl', 'jay'], 2, 'test/')) })
})
afterAll(() => world.close())
afterEach(async () => {
  for (const { name } of (await world.send('/v1/datasets/sets?first=100')).json().items)
    await world.parts.sets.remove(name)
})

const tar = { 'content-type': 'application/x-tar' }
const upload = (query: string, bytes: Buffer, headers: Record<string, string> = {}) =>
  world.app.inject({
    method: 'POST',
    url: `/v1/datasets?${query}`,
    payload: bytes,
    headers: { host: '127.0.0.1', ...tar, ...headers },
  })
const remove = (name: string) => world.send(`/v1/datasets/sets/${name}`, undefined, { method: 'DELETE' })

async function objects(prefix = 'datasets/'): Promise<string[]> {
  const keys = []
  for await (const { key } of world.parts.objects.list(prefix)) keys.push(key)
  return keys
}

const onBirds = (changes = {}) =>
  definition({
    dataset: { name: 'images', set: 'birds', ...changes },
    training: { epochs: 1, batchSize: 4, optimizer: { name: 'sgd', learningRate: 0.03 } },
  })

describe('a set of images', () => {
  it('is uploaded as a tar, counted, listed, shown, planned with, and removed', async () => {
    const response = await upload('name=birds&layout=folders', birds)
    expect(response.statusCode).toBe(201)
    expect(response.headers.location).toBe('/v1/datasets/sets/birds')
    const set = {
      name: 'birds',
      images: { train: 12, test: 4 },
      unlabelled: 0,
      sequences: 0,
      shards: 1,
      classes: [
        { name: 'jay', train: 6, test: 2 },
        { name: 'owl', train: 6, test: 2 },
      ],
      shapes: { height: { least: 8, most: 8 }, width: { least: 8, most: 8 }, grey: 0 },
    }
    expect(response.json()).toMatchObject({ ...set, skipped: { count: 0, first: [] }, passedOver: {} })
    const { classes: _, ...summary } = set
    const listed = (await world.send('/v1/datasets/sets')).json()
    expect(listed).toMatchObject({ items: [{ ...summary, classCount: 2 }], next: null })
    expect((await world.send('/v1/datasets/sets/birds')).json()).toMatchObject(set)
    const preview = await world.send('/v1/datasets/sets/birds/preview?count=9')
    expect([preview.statusCode, preview.headers['content-type']]).toEqual([200, 'image/png'])
    expect(preview.rawPayload.subarray(1, 4).toString()).toBe('PNG')
    const plan = (await world.send('/v1/experiments?dryRun=true', onBirds())).json()
    expect(plan).toMatchObject({ images: { train: 12, test: 4 }, imageShape: [8, 8, 3], classes: 2 })
    const asked = await world.query(
      '{ imageSets { totalCount nodes { name images { train test } bytes classes { name train } } } imageSet(name: "birds") { shards } }',
    )
    expect(asked.errors).toBeUndefined()
    expect(asked.data.imageSets).toMatchObject({
      totalCount: 1,
      nodes: [{ name: 'birds', images: { train: 12 }, classes: [{ name: 'jay', train: 6 }, {}] }],
    })
    expect(asked.data.imageSet).toEqual({ shards: 1 })
    expect((await remove('birds')).statusCode).toBe(204)
    expect(await objects()).toEqual([])
    expect((await world.send('/v1/datasets/sets/birds')).statusCode).toBe(404)
    expect((await remove('birds')).statusCode).toBe(404)
  })

  it('is found where shards lie in the object store already, and leaves them there', async () => {
    for (const [part, split] of [
      ['0', 'train'],
      ['1', 'train'],
      ['0', 'val'],
    ] as const)
      await world.parts.objects.put(
        `lake/birds-${split}-${part}.tar`,
        tarOf({ [`${part}${split}.png`]: await picture(1), [`${part}${split}.cls`]: part }),
      )
    const body = { name: 'lake', prefix: 'lake/birds-' }
    const response = await world.send('/v1/datasets', body)
    expect(response.json()).toMatchObject({
      images: { train: 2, test: 1 },
      shards: 3,
      classes: [
        { train: 1, test: 1 },
        { train: 1, test: 0 },
      ],
    })
    expect((await objects('datasets/sets/')).map((key) => key.split('/').at(-1)).sort()).toEqual([
      'index',
      'manifest.json',
    ])
    const lines = (await world.send('/v1/datasets/sets/lake/verify', undefined, { method: 'POST' })).body
      .trim()
      .split('\n')
    expect(lines.map((line) => JSON.parse(line).fault)).toEqual([undefined, undefined, undefined, undefined])
    await world.parts.objects.put('lake/birds-val-0.tar', Buffer.alloc(10))
    const again = (await world.send('/v1/datasets/sets/lake/verify', undefined, { method: 'POST' })).body
      .trim()
      .split('\n')
    expect(JSON.parse(again.at(-1)!)).toMatchObject({
      path: '@bucket/lake/birds-val-0.tar',
      fault: expect.stringMatching(/has 10 bytes instead of/),
    })
    await remove('lake')
    expect(await objects('lake/')).toHaveLength(3)
    for (const key of await objects('lake/')) await world.parts.objects.remove(key)
    const none = await world.send('/v1/datasets', { name: 'none', prefix: 'nowhere/' })
    expect([none.statusCode, none.json().errors[0].pointer]).toEqual([400, '/prefix'])
    await upload('name=birds&layout=folders', birds)
    for (const prefix of ['d', 'datasets', 'datasets/set']) {
      const other = await world.send('/v1/datasets', { name: 'other', prefix })
      expect([other.statusCode, other.json().errors[0].detail]).toEqual([
        400,
        expect.stringMatching(/reaches into another set, at datasets\/sets\/birds\//),
      ])
    }
  })

  it('is one set for requests with one idempotency key, and its name is taken', async () => {
    const key = { 'idempotency-key': 'birds-1' }
    const first = await upload('name=birds&layout=folders', birds, key)
    const second = await upload('name=birds&layout=folders', birds, key)
    expect([second.statusCode, second.headers['idempotency-replayed']]).toEqual([201, 'true'])
    expect(second.json().id).toBe(first.json().id)
    expect((await upload('name=other&layout=folders', birds, key)).json()).toMatchObject({
      status: 422,
      code: 'key-reused',
    })
    const taken = (await upload('name=birds&layout=folders', birds)).json()
    expect(taken).toMatchObject({ status: 409, detail: expect.stringMatching(/an image set of the name 'birds'/) })
    expect((await world.send('/v1/datasets/sets')).json().items).toHaveLength(1)
  })

  it('stays while a run wants to read it', async () => {
    await upload('name=birds&layout=folders', birds)
    const { runIds } = (await world.send('/v1/experiments', onBirds())).json()
    const refused = await remove('birds')
    expect(refused.json()).toMatchObject({ status: 409, detail: expect.stringContaining(runIds[0]) })
    await world.parts.ledger.requestCancel(runIds[0])
    expect((await remove('birds')).statusCode).toBe(204)
  })

  it('that is not there is refused at the door, with the nearest name', async () => {
    expect((await world.send('/v1/experiments', onBirds())).json().errors[0]).toMatchObject({
      pointer: '/dataset/name',
      detail: expect.stringMatching(/there are none yet/),
    })
    await upload('name=birds&layout=folders', birds)
    const typo = (await world.send('/v1/experiments', onBirds({ set: 'brids' }))).json()
    expect(typo.errors[0].detail).toMatch(/no image set 'brids'; there are: birds — did you mean 'birds'\?/)
  })
})

describe('an upload', () => {
  it('is refused with all that is wrong, and leaves nothing', async () => {
    const noise = Buffer.alloc(300, 'x')
    const cases: [string, Buffer, RegExp][] = [
      [
        'name=a&layout=folders',
        tarOf({ 'x/1.png': noise, 'y/2.png': noise }),
        /'x\/1\.png' is no picture[\s\S]*'y\/2\.png'/,
      ],
      ['name=a&layout=flat', tarOf({ 'notes.txt': 'no image' }), /holds no images/],
      ['name=a&layout=folders', tarOf(await folders(['owl'], 3)), /all images are of one class, 'owl'/],
      ['name=a&layout=folders', tarOf({ '1.png': await picture(1) }), /'1\.png' lies in no folder/],
      ['name=a&layout=flat', tarOf({ 'a.png': await picture(1) }).subarray(0, 700), /cut short/],
      [
        'name=a',
        tarOf({ 'a.png': await picture(1), 'b.png': await picture(1), 'a.jpg': await picture(2) }),
        /two images called 'a'/,
      ],
      ['name=A', birds, /querystring|query/],
      ['layout=flat', birds, /\/name: is missing/],
      ['name=a&layout=flta', birds, /query/],
      ['name=a&channels=1', birds, /\/side: is missing/],
    ]
    for (const [query, bytes, reason] of cases) {
      const response = await upload(query, bytes)
      const { detail, errors } = response.json()
      expect(`${detail} ${JSON.stringify(errors)}`).toMatch(reason)
      expect(response.statusCode, detail).toBe(400)
    }
    expect(await objects()).toEqual([])
    expect((await world.parts.database.pool.query('SELECT 1 FROM image_sets')).rowCount).toBe(0)
  })

  it('leaves damaged images out where it is told to, and says which', async () => {
    const files = {
      ...(await folders(['owl', 'jay'], 2)),
      'owl/bad.jpg': Buffer.alloc(99, 'x'),
      'owl/.hidden.png': 'x',
      'readme.md': 'x',
    }
    const added = (await upload('name=birds&layout=folders&skipDamaged=true', tarOf(files))).json()
    expect(added).toMatchObject({ images: { train: 4 }, passedOver: { '.md': 1, '.png': 1 } })
    expect(added.skipped).toMatchObject({ count: 1, first: [{ name: 'owl/bad.jpg' }] })
  })

  it('is larger than the limit of bodies, and bounded by its own', async () => {
    const small = await openWorld({
      uploadLimit: 20_000,
      bodyLimit: 1024,
      databaseUrl: world.parts.config.databaseUrl!,
    })
    try {
      const send = (bytes: Buffer) =>
        small.app.inject({
          method: 'POST',
          url: '/v1/datasets?name=small&layout=flat',
          payload: bytes,
          headers: { host: '127.0.0.1', ...tar },
        })
      const fits = await send(tarOf({ 'a.png': await picture(1), 'b.png': await picture(2) }))
      expect(fits.statusCode).toBe(201)
      await small.parts.sets.remove('small')
      const large = await send(
        Buffer.concat([tarOf({ 'a.png': await picture(1) }).subarray(0, 1024), Buffer.alloc(30_000), tarEnd]),
      )
      expect(large.json()).toMatchObject({ status: 413, cure: expect.stringContaining('GESTALT_UPLOAD_LIMIT') })
    } finally {
      await small.close()
    }
  })

  it('that breaks off leaves nothing', async () => {
    const url = new URL(`${address}/v1/datasets?name=broken&layout=folders`)
    const sending = request(url, { method: 'POST', headers: tar })
    sending.on('error', () => {})
    sending.write(birds.subarray(0, birds.length >> 1))
    const rows = async () =>
      (await world.parts.database.pool.query("SELECT state FROM image_sets WHERE name = 'broken'")).rows
    await eventually(async () => expect(await rows()).toEqual([{ state: 'adding' }]))
    expect((await upload('name=broken&layout=folders', birds)).json()).toMatchObject({
      status: 409,
      detail: expect.stringMatching(/is being added/),
    })
    sending.destroy()
    await eventually(async () => expect(await rows()).toEqual([]))
    expect(await objects()).toEqual([])
    expect((await upload('name=broken&layout=folders', birds)).statusCode).toBe(201)
  })

  it('whose process died in its middle is swept, and its name is free at once', async () => {
    const { database, objects: store } = world.parts
    const sets = openImageSets(database, store)
    for (const name of ['dead', 'gone']) {
      const { rows } = await database.pool.query<{ id: string }>(
        "INSERT INTO image_sets (id, name, touched_at) VALUES (gen_random_uuid(), $1, now() - interval '2 minutes') RETURNING id",
        [name],
      )
      await store.put(`datasets/sets/${name}/${rows[0]!.id}/00000.tar`, Buffer.from('half'))
    }
    const half = await objects('datasets/sets/')
    expect((await world.send('/v1/datasets/sets')).json().items).toEqual([])
    expect((await upload('name=dead&layout=folders', birds)).statusCode).toBe(201)
    expect((await objects('datasets/sets/dead/')).filter((key) => half.includes(key))).toEqual([])
    await sets.sweep(silent)
    expect(await objects('datasets/sets/gone/')).toEqual([])
    expect((await database.pool.query("SELECT 1 FROM image_sets WHERE name = 'gone'")).rowCount).toBe(0)
  })

  it('is JSON or a tar', async () => {
    const response = await world.app.inject({
      method: 'POST',
      url: '/v1/datasets',
      payload: 'x',
      headers: { host: '127.0.0.1', 'content-type': 'application/zip' },
    })
    expect(response.statusCode).toBe(415)
  })

  it('without labels is named where a method needs some', async () => {
    await upload('name=birds&layout=flat', birds)
    const asked = { ...onBirds(), method: { name: 'supervised' } }
    const refused = (await world.send('/v1/experiments', asked)).json()
    expect(refused.errors[0]).toEqual({
      pointer: '/method/name',
      detail: "'supervised' needs labels, and dataset 'images/birds' has none",
    })
  })
})
