import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Corpus, DatasetSource } from '../../src/data/dataset.ts'
import { datasets } from '../../src/data/index.ts'
import { InvalidDefinition, NotFound } from '../../src/errors.ts'
import { asWritten, type Schema, withDefaults } from '../../src/experiments/schema.ts'
import { datasetBytes } from '../../src/store/dataset-bytes.ts'
import { openDirectory } from '../../src/store/directory.ts'
import { folders, putSet } from '../fixtures/pictures.ts'
import { debian, folderBytes, shipped } from '../folder-bytes.ts'
import { npy } from '../memory-files.ts'

// A home with a registered set in it, beside the files that come with the repository.
const home = mkdtempSync(join(tmpdir(), 'gestalt-dataset-'))
const objects = openDirectory({ root: home, secret: 'secret', publicUrl: 'http://127.0.0.1' })
const bytes = datasetBytes(objects, [shipped, debian])
beforeAll(async () => {
  await putSet(objects, 'contract', {
    ...(await folders(['a', 'b', 'c'], 8, 'train/')),
    ...(await folders(['a', 'b', 'c'], 3, 'test/')),
  })
})
beforeAll(async () => {
  const noise = (images: number) => Uint8Array.from({ length: images * 48 }, (_, i) => (i * 37) % 251)
  const labels = (images: number) => Uint8Array.from({ length: images }, (_, i) => i % 3)
  for (const [split, images] of [
    ['train', 12],
    ['test', 9],
  ] as const) {
    await objects.put(`datasets/arrays/contract/${split}-images.npy`, npy('|u1', [images, 4, 4, 3], noise(images)))
    await objects.put(`datasets/arrays/contract/${split}-labels.npy`, npy('|u1', [images], labels(images)))
  }
})
afterAll(() => rmSync(home, { recursive: true, force: true }))

/** What has no default. */
const needed: Record<string, Record<string, unknown>> = { images: { set: 'contract' }, arrays: { set: 'contract' } }

// These are not in the repository; without their files only their absence can be checked.
const elsewhere = ['fashion-mnist', 'mnist', 'kmnist', 'cifar-10', 'cifar-100', 'stl-10']
const present = (name: string) => !elsewhere.includes(name) || existsSync(join(debian, name))

// One that only describes images is not opened, see test/data/declared.test.ts.
const opened = Object.entries(datasets).filter(([, source]) => !('absent' in source))

const cases = opened.map(([name, source]) => ({
  name,
  source: source as unknown as DatasetSource,
  defaults: withDefaults(asWritten(source.parameters as Schema), needed[name] ?? {}) as Record<string, unknown>,
}))

function checksum(data: Uint8Array): number {
  return data.reduce((sum, byte, i) => (sum * 31 + byte + i) >>> 0, 7)
}

describe.each(cases)('the dataset $name', ({ name, source, defaults }) => {
  const open = async (): Promise<Corpus> => source.open(defaults, bytes)

  it('describes itself before it is opened, or says how to get it', async () => {
    if (present(name)) {
      const description = await source.describe(defaults, bytes)
      expect(description.size.train).toBeGreaterThan(0)
      expect(description.size.test).toBeGreaterThan(0)
      expect(description.imageShape).toHaveLength(3)
    }
    const missing = await source.describe(defaults, folderBytes()).catch((error: unknown) => error)
    if (missing instanceof Error) {
      expect(missing).toBeInstanceOf(NotFound)
      expect((missing as NotFound).cure).not.toBe('')
    }
  })

  it('refuses more images than it has, and takes the first of them when fewer are asked for', async () => {
    const limits = { ...defaults, limit: 1_000_000_000, testLimit: 1_000_000_000 }
    const error = await source.describe(limits, bytes).catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(InvalidDefinition)
    expect((error as InvalidDefinition).faults.map((fault) => fault.pointer)).toEqual(['/limit', '/testLimit'])
    if (!present(name)) return
    const [all, some] = [await open(), await source.open({ ...defaults, limit: 5, testLimit: 3 }, bytes)]
    expect([some.train.size, some.test.size]).toEqual([5, 3])
    expect((await some.train.read([4])).data).toEqual((await all.train.read([4])).data)
    await expect(some.train.read([5])).rejects.toThrow(/0 to 4/)
  })

  it('keeps its promises about size, shape, labels and order', async () => {
    if (!present(name)) return
    const corpus = await open()
    const description = await source.describe(defaults, bytes)
    for (const split of ['train', 'test'] as const) {
      const dataset = corpus[split]
      expect(dataset.split).toBe(split)
      expect(dataset.name).toBe(name)
      expect(dataset.size).toBe(description.size[split])
      expect(dataset.imageShape).toEqual(description.imageShape)
      expect(dataset.classes).toBe(description.classes)
      const wanted = [0, dataset.size - 1, 7, 3, 7]
      const image = dataset.imageShape.reduce((product, side) => product * side, 1)
      const read = await dataset.read(wanted)
      expect(read.shape).toEqual(dataset.imageShape)
      expect(read.data).toHaveLength(wanted.length * image)
      expect(read.labels).toHaveLength(wanted.length)
      for (const label of read.labels ?? []) {
        expect(label).toBeGreaterThanOrEqual(0)
        expect(label).toBeLessThan(dataset.classes)
      }
      for (const [place, index] of wanted.entries()) {
        const alone = await dataset.read(Int32Array.of(index))
        expect(alone.data).toEqual(read.data.slice(place * image, (place + 1) * image))
        expect(alone.labels?.[0]).toBe(read.labels?.[place])
      }
      expect(checksum(read.data.slice(0, image))).not.toBe(checksum(read.data.slice(image, 2 * image)))
      for (const index of [-1, dataset.size, 0.5, Number.NaN])
        await expect(dataset.read([index])).rejects.toThrow(RangeError)
    }
  })
})
