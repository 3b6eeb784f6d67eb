import { createHash } from 'node:crypto'
import { mkdtempSync, rmSync, truncateSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { ByteSource } from '../../src/data/dataset.ts'
import { images } from '../../src/data/images.ts'
import { decodeIndex, encodeIndex, type SetIndex } from '../../src/data/set-index.ts'
import { manifestPath } from '../../src/data/set-manifest.ts'
import { planSpans } from '../../src/data/shard-reads.ts'
import { type InvalidDefinition, NotFound } from '../../src/errors.ts'
import { datasetBytes } from '../../src/store/dataset-bytes.ts'
import { openDirectory } from '../../src/store/directory.ts'
import { type ObjectStore, readAll } from '../../src/store/objects.ts'
import { openS3 } from '../../src/store/s3.ts'
import { type Files, folders, picture, putSet, tarOf } from '../fixtures/pictures.ts'
import { hasS3, testS3 } from '../s3.ts'

const wanted = { set: 'letters', side: 8, fit: 'crop' as const, channels: 3 as const, testShare: 0.1 }
let letters: Files
beforeAll(async () => {
  letters = { ...(await folders(['a', 'b', 'c'], 40, 'train/')), ...(await folders(['a', 'b', 'c'], 5, 'test/')) }
})

/** The source, and what was asked of it. */
function counted(bytes: ByteSource) {
  const reads: { path: string; start: number; end: number }[] = []
  const source: ByteSource = {
    ...bytes,
    read: (path, range) => {
      if (range) reads.push({ path, ...range })
      return bytes.read(path, range)
    },
  }
  return { reads, source }
}

const drivers: {
  name: string
  present: boolean
  open(): Promise<{ store: ObjectStore; root?: string; close(): void }>
}[] = [
  {
    name: 'a directory',
    present: true,
    async open() {
      const root = mkdtempSync(join(tmpdir(), 'gestalt-images-'))
      const store = openDirectory({ root, secret: 'secret', publicUrl: 'http://127.0.0.1' })
      return { store, root, close: () => rmSync(root, { recursive: true, force: true }) }
    },
  },
  {
    name: 'a bucket of a real S3 server',
    present: hasS3,
    async open() {
      const server = await testS3()
      return { store: openS3(server.config), close: () => server.stop() }
    },
  },
]

describe.each(drivers)('images in $name', ({ present, open }) => {
  let opened: Awaited<ReturnType<typeof open>>
  let bytes: ByteSource
  beforeAll(async () => {
    if (!present) return
    opened = await open()
    bytes = datasetBytes(opened.store, [])
    // Shards of some 40 images.
    await putSet(opened.store, 'letters', letters, { limits: { shardBytes: 50_000 } })
  })
  afterAll(() => opened?.close())
  const keep = it.skipIf(!present)

  keep('are read at random: each one is the one that was put there, with its label', async () => {
    const { train, test } = await images.open(wanted, bytes)
    expect([train.size, test.size, train.classNames]).toEqual([120, 15, ['a', 'b', 'c']])
    const indices = [119, 0, 40, 79, 0, 3]
    const { data, labels } = await train.read(indices)
    expect(indices.map((_, i) => data[i * 192])).toEqual(indices)
    expect([...labels!]).toEqual([2, 0, 1, 1, 0, 0])
    expect([...(await train.labels!())].slice(38, 42)).toEqual([0, 0, 1, 1])
    expect([...(await test.read([14])).labels!]).toEqual([2])
  })

  keep('lie in shards that are archives of their own, each as its digest says', async () => {
    const manifest = JSON.parse(
      (await readAll(await opened.store.get(`datasets/${manifestPath('letters')}`))).toString(),
    )
    const { shards } = decodeIndex('index', await bytes.read(manifest.index.path))
    expect(shards.length).toBeGreaterThan(2)
    for (const { path, bytes: size, sha256 } of shards) {
      const content = await bytes.read(path)
      expect([content.length, createHash('sha256').update(content).digest('hex')]).toEqual([size, sha256])
      expect(size).toBeLessThan(60_000)
    }
  })

  keep('are fetched with few requests where they are neighbours', async () => {
    const { reads, source } = counted(bytes)
    const { train } = await images.open(wanted, source)
    reads.length = 0
    await train.read(Array.from({ length: 120 }, (_, i) => 119 - i))
    expect(reads.length).toBe(new Set(reads.map(({ path }) => path)).size)
  })

  keep('of a shard that is cut short or gone fail with its name', async () => {
    const cut = { ...wanted, set: 'cut' }
    const { manifest } = await putSet(opened.store, 'cut', letters, { limits: { shardBytes: 50_000 } })
    const { train } = await images.open(cut, bytes)
    const { shards } = decodeIndex('index', await bytes.read(manifest.index.path))
    const { path } = shards[1]!
    const whole = await readAll(await opened.store.get(`datasets/${path}`))
    const file = await opened.store.file?.(`datasets/${path}`)
    if (file) truncateSync(file, 20_000)
    else await opened.store.put(`datasets/${path}`, whole.subarray(0, 20_000))
    const all = Array.from({ length: train.size }, (_, i) => i)
    await expect(train.read(all)).rejects.toThrow(/00001\.tar ends at byte 20000 and should have/)
    await opened.store.remove(`datasets/${path}`)
    await expect(images.open(cut, bytes)).rejects.toThrow(/00001\.tar is not there/)
    await opened.store.put(`datasets/${path}`, Buffer.from('short'))
    await expect(images.open(cut, bytes)).rejects.toThrow(/00001\.tar has 5 bytes instead of/)
  })
})

describe('a set', () => {
  const root = mkdtempSync(join(tmpdir(), 'gestalt-images-'))
  const store = openDirectory({ root, secret: 'secret', publicUrl: 'http://127.0.0.1' })
  const bytes = datasetBytes(store, [])
  afterAll(() => rmSync(root, { recursive: true, force: true }))

  it('without test images keeps some for testing, always the same ones', async () => {
    await putSet(store, 'whole', await folders(['a', 'b'], 10))
    const asked = { ...wanted, set: 'whole', testShare: 0.25 }
    expect((await images.describe(asked, bytes)).size).toEqual({ train: 15, test: 5 })
    const [one, two] = [await images.open(asked, bytes), await images.open(asked, bytes)]
    const numbers = async ({ train, test }: typeof one) =>
      Promise.all(
        [train, test].map(async (split) =>
          [...(await split.read(Array.from({ length: split.size }, (_, i) => i))).data].filter((_, i) => i % 192 === 0),
        ),
      )
    const [train, test] = await numbers(one)
    expect(await numbers(two)).toEqual([train, test])
    expect([...train!, ...test!].sort((a, b) => a - b)).toEqual(Array.from({ length: 20 }, (_, i) => i))
    const none = await images.describe({ ...asked, testShare: 0 }, bytes).catch((error: unknown) => error)
    expect((none as InvalidDefinition).faults).toEqual([
      {
        pointer: '/testShare',
        detail: expect.stringMatching(/leaves none of 20 images for testing.*: a larger share would be right$/),
      },
    ])
  })

  it('of one image is one image, and says that none is left for testing', async () => {
    await putSet(store, 'one', { '1.png': await picture(7) }, { options: { layout: 'flat' } })
    const error = await images.describe({ ...wanted, set: 'one' }, bytes).catch((thrown: unknown) => thrown)
    expect((error as InvalidDefinition).faults[0]!.pointer).toBe('/testShare')
  })

  it('of many sizes asks for a side; a larger source is there for views, and its middle is what nets see', async () => {
    const files = {
      'a.png': await picture(1, 0, 16),
      'b.png': await picture(2, 0, 32),
      'c.png': await picture(3, 0, 20),
    }
    await putSet(store, 'sizes', files, { options: { layout: 'flat' } })
    const { side: _, ...bare } = { ...wanted, set: 'sizes', testShare: 0.4 }
    const error = await images.describe(bare, bytes).catch((thrown: unknown) => thrown)
    expect((error as InvalidDefinition).faults).toEqual([
      { pointer: '/side', detail: expect.stringMatching(/16 to 32 pixels high/) },
    ])
    const small = await images.describe({ ...bare, side: 8, sourceSide: 6 }, bytes).catch((thrown: unknown) => thrown)
    expect((small as InvalidDefinition).faults[0]!.pointer).toBe('/sourceSide')
    const { train } = await images.open({ ...bare, side: 8, sourceSide: 12 }, bytes)
    expect([train.imageShape, train.source!.shape]).toEqual([
      [8, 8, 3],
      [12, 12, 3],
    ])
    const [seen, source] = [await train.read([1]), await train.source!.read([1])]
    expect([seen.data.length, source.data.length]).toEqual([192, 432])
    for (let y = 0; y < 8; y++)
      expect(seen.data.subarray(y * 24, (y + 1) * 24)).toEqual(
        source.data.subarray(((y + 2) * 12 + 2) * 3, ((y + 2) * 12 + 10) * 3),
      )
  })

  it('decoded once reads as the same pixels, grey or in colour', async () => {
    for (const channels of [1, 3] as const) {
      await putSet(store, 'plain', await folders(['a', 'b'], 4))
      await putSet(store, 'ready', await folders(['a', 'b'], 4), {
        options: { prepared: { side: 8, channels, fit: 'crop' } },
      })
      const read = async (set: string) =>
        (await (await images.open({ ...wanted, channels, set, testShare: 0.5 }, bytes)).train.read([0, 3, 1])).data
      expect([...(await read('ready'))]).toEqual([...(await read('plain'))])
    }
    const other = await images.open({ ...wanted, set: 'ready', side: 6, testShare: 0.5 }, bytes)
    expect((await other.train.read([0])).data).toHaveLength(108)
  })

  it.each([
    ['a label that is two', { 'a.png': 1, 'a.cls': '1', 'a.json': '{"label": 2}' }, /'a' has two labels: 1 and 2/],
    ['a label of no text', { 'a.png': 1, 'a.cls': '' }, /'a\.cls' is not one label/],
    ['JSON that is none', { 'a.png': 1, 'a.json': '{' }, /'a\.json' is no JSON/],
    [
      'a split that is none',
      { 'a.png': 1, 'a.json': '{"split": "dev"}' },
      /the split 'dev'; there are: train, test, val, validation/,
    ],
    ['two images of one key', { 'a.png': 1, 'a.jpg': 2 }, /two images have the key 'a'/],
    ['a number too large', { 'a.png': 1, 'a.cls': '100000' }, /has the label 100000; the largest may be 99999/],
  ] as [string, Record<string, number | string>, RegExp][])('with %s is refused', async (_, given, reason) => {
    const files: Files = {}
    for (const [name, content] of Object.entries(given))
      files[name] = typeof content === 'number' ? await picture(content) : content
    await expect(putSet(store, 'bad', tarOf(files), { options: { layout: 'webdataset' } })).rejects.toThrow(reason)
  })

  it('with a picture of 108 megapixels is refused with its name', async () => {
    const { default: sharp } = await import('sharp')
    const bomb = await sharp({ create: { width: 12_000, height: 9_000, channels: 3, background: 'red' } })
      .png()
      .toBuffer()
    await expect(putSet(store, 'bomb', { 'bomb.png': bomb }, { options: { layout: 'flat' } })).rejects.toThrow(
      /'bomb\.png' has 12000 x 9000 pixels; at most/,
    )
  })

  it('that is not there is named with the nearest', async () => {
    const error = await images.describe({ ...wanted, set: 'szies' }, bytes).catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(NotFound)
    expect((error as NotFound).message).toMatch(/there are: .*sizes.* did you mean 'sizes'\?/)
    await expect(images.describe({ ...wanted, set: '../../etc' }, bytes)).rejects.toBeInstanceOf(NotFound)
  })
})

describe('an index', () => {
  const index: SetIndex = {
    shards: [
      { path: 'a', bytes: 9e9, sha256: '00' },
      { path: 'b', bytes: 10, sha256: '01' },
    ],
    ...{ train: 2, test: 1 },
    shard: Uint16Array.of(0, 1, 0),
    offset: Float64Array.of(8e9, 512, 1e5),
    length: Uint32Array.of(100, 200, 300),
    label: Int32Array.of(-1, 5, 0),
    sequence: Int32Array.of(0, 0, 1),
    frame: Int32Array.of(0, 1, 0),
  }

  it('reads back as it was written, also in the middle of other bytes', () => {
    const { sequence: _, frame: __, ...single } = index
    for (const given of [index, single]) {
      const file = encodeIndex(given)
      expect(decodeIndex('x', file)).toEqual(given)
      const inside = new Uint8Array(file.length + 3)
      inside.set(file, 3)
      expect(decodeIndex('x', inside.subarray(3))).toEqual(given)
    }
  })

  it('is refused with any byte changed or missing', () => {
    const file = encodeIndex(index)
    for (const at of [0, 7, 9, 40, file.length - 40, file.length - 1]) {
      const changed = file.slice()
      changed[at]! ^= 1
      expect(() => decodeIndex('x', changed)).toThrow(/digest differs|no index|version/)
    }
    for (const length of [0, 20, file.length - 1])
      expect(() => decodeIndex('x', file.subarray(0, length))).toThrow(/cut short|digest/)
  })

  it('of neighbours is read in one piece, of others in several, and never more than a few megabytes at once', () => {
    const n = 100
    const far: SetIndex = {
      ...{ shards: [], train: n, test: 0, shard: new Uint16Array(n), label: new Int32Array(n) },
      offset: Float64Array.from({ length: n }, (_, i) => i * 100_000),
      length: new Uint32Array(n).fill(90_000),
    }
    const spans = planSpans(far, [2, 0, 1, 50, 2])
    expect(spans.map(({ start, end, places }) => [start, end, places.sort()])).toEqual([
      [0, 290_000, [0, 1, 2, 4]],
      [5_000_000, 5_090_000, [3]],
    ])
    for (const { start, end } of planSpans(
      far,
      Array.from({ length: n }, (_, i) => i),
    ))
      expect(end - start).toBeLessThanOrEqual(4 * 2 ** 20)
  })
})
