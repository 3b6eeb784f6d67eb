import { describe, expect, it } from 'vitest'
import type { Corpus, Dataset, DatasetSource } from '../../src/data/dataset.ts'
import { rollDice } from '../../src/data/dice.ts'
import { datasets } from '../../src/data/index.ts'
import { selectImages } from '../../src/data/splits.ts'
import { chooseStratified, shareOut } from '../../src/data/stratified.ts'
import { InvalidDefinition } from '../../src/errors.ts'
import { memoryBytes } from '../../src/experiments/memory-context.ts'

const source = datasets.shapes as unknown as DatasetSource
const own = { images: 200, testImages: 30, classes: 8, height: 8, width: 8, channels: 1, clutter: 1, noise: 0, seed: 0 }

const open = (wanted: Record<string, unknown>): Promise<Corpus> => source.open({ ...own, ...wanted }, memoryBytes())
const describeSet = (wanted: Record<string, unknown>) => source.describe({ ...own, ...wanted }, memoryBytes())
const inTurn = (size: number) => Int32Array.from({ length: size }, (_, i) => i)
const readAll = async (dataset: Dataset) => dataset.read(inTurn(dataset.size))

async function faultsOf(wanted: Record<string, unknown>) {
  const error = await describeSet(wanted).catch((thrown: unknown) => thrown)
  expect(error).toBeInstanceOf(InvalidDefinition)
  return (error as InvalidDefinition).faults.map(({ pointer, detail }) => `${pointer} ${detail}`)
}

function countLabels(labels: Int32Array): number[] {
  return Array.from({ length: 8 }, (_, label) => labels.filter((one) => one === label).length)
}

describe('a part of the labels', () => {
  it('is kept as even over the classes as the images are, and the images stay as they are', async () => {
    const [all, some] = await Promise.all([open({}), open({ labelled: 0.1 })])
    const [whole, part] = await Promise.all([readAll(all.train), readAll(some.train)])
    expect(part.data).toEqual(whole.data)
    expect(part.labels!.filter((label) => label >= 0)).toHaveLength(20)
    // 25 images of each class: 2.5 labels, two or three.
    expect(countLabels(part.labels!).sort()).toEqual([2, 2, 2, 2, 3, 3, 3, 3])
    for (const [i, label] of part.labels!.entries()) expect([-1, whole.labels![i]]).toContain(label)
    expect(await some.train.labels!()).toEqual(part.labels)
    expect((await readAll(some.test)).labels).toEqual((await readAll(all.test)).labels)
    expect(some.train.classes).toBe(8)
    expect((await some.train.read([7, 3])).labels).toEqual(Int32Array.of(part.labels![7]!, part.labels![3]!))
  })

  it('can be a number, and is drawn by a seed of its own', async () => {
    const keep = async (wanted: Record<string, unknown>) => String((await readAll((await open(wanted)).train)).labels)
    const first = await keep({ labelled: 8 })
    expect(countLabels((await readAll((await open({ labelled: 8 })).train)).labels!)).toEqual(new Array(8).fill(1))
    expect(await keep({ labelled: 8, labelSeed: 0 })).toBe(first)
    expect(await keep({ labelled: 8, labelSeed: 1 })).not.toBe(first)
  })
})

describe('a part that is held out', () => {
  it('stands in for the test images, is not trained on, and holds each class as often', async () => {
    const [all, held] = await Promise.all([open({}), open({ holdOut: 40 })])
    expect((await describeSet({ holdOut: 40 })).size).toEqual({ train: 160, test: 40 })
    expect((await describeSet({ holdOut: 0.1 })).size).toEqual({ train: 180, test: 20 })
    expect([held.train.size, held.test.size]).toEqual([160, 40])
    expect([held.train.split, held.test.split]).toEqual(['train', 'test'])
    const pictures = ({ data }: { data: Uint8Array }) =>
      Array.from({ length: data.length / 64 }, (_, i) => String(data.subarray(64 * i, 64 * (i + 1))))
    const [whole, train, test] = await Promise.all([readAll(all.train), readAll(held.train), readAll(held.test)])
    expect(countLabels(test.labels!)).toEqual(new Array(8).fill(5))
    expect([...pictures(train), ...pictures(test)].sort()).toEqual(pictures(whole).sort())
    await expect(held.test.read([40])).rejects.toThrow(/0 to 39/)
    expect(await held.test.labels!()).toEqual(test.labels)
  })

  it('is drawn by a seed of its own, and leaves labels to be kept among the rest', async () => {
    const labels = async (wanted: Record<string, unknown>) => (await readAll((await open(wanted)).train)).data
    expect(await labels({ holdOut: 40 })).toEqual(await labels({ holdOut: 40, holdOutSeed: 0 }))
    expect(await labels({ holdOut: 40 })).not.toEqual(await labels({ holdOut: 40, holdOutSeed: 1 }))
    const both = await open({ holdOut: 40, labelled: 16, limit: 100 })
    expect([both.train.size, both.test.size]).toEqual([60, 40])
    expect((await readAll(both.train)).labels!.filter((label) => label >= 0)).toHaveLength(16)
    expect((await readAll(both.test)).labels).not.toContain(-1)
  })

  it('keeps the larger images that views are cut out of', async () => {
    const { train } = await open({})
    const larger: Dataset = { ...train, source: { shape: [8, 8, 1], read: (indices) => train.read(indices) } }
    const some = selectImages(larger, 'train', Int32Array.of(9, 4))
    expect((await some.source!.read([1])).data).toEqual((await train.read([4])).data)
    await expect(some.source!.read([2])).rejects.toThrow(/0 to 1/)
  })
})

describe('parts that do not fit', () => {
  it('are refused with what would', async () => {
    expect(await faultsOf({ labelled: 201 })).toEqual([
      '/labelled is 201 of 200 training images; it should be 1 to 200',
    ])
    expect(await faultsOf({ labelled: 0.001 })).toEqual([
      '/labelled is 0 of 200 training images; it should be 1 to 200',
    ])
    expect(await faultsOf({ holdOut: 200, testLimit: 5 })).toEqual([
      '/holdOut is 200 of 200 training images; from 1 to 199 can be held out',
      '/testLimit the test images are not used beside holdOut: leave it out',
    ])
    expect(await faultsOf({ holdOut: 150, labelled: 60 })).toEqual([
      '/labelled is 60 of 50 training images; it should be 1 to 50',
    ])
    expect(await faultsOf({ labelSeed: 1, holdOutSeed: 2 })).toEqual([
      "/labelSeed draws nothing without 'labelled': give that too, or leave this out",
      "/holdOutSeed draws nothing without 'holdOut': give that too, or leave this out",
    ])
  })
})

describe('a stratified choice', () => {
  it('shares out by largest remainders', () => {
    expect(shareOut([50, 30, 20], 10)).toEqual([5, 3, 2])
    expect(shareOut([1, 1, 1], 2)).toEqual([1, 1, 0])
    expect(shareOut([3, 1], 4)).toEqual([3, 1])
  })

  it('takes images without a label as one more class', () => {
    const labels = Int32Array.from({ length: 40 }, (_, i) => (i < 20 ? -1 : i % 2))
    const chosen = chooseStratified(labels, 8, rollDice(1))
    expect(new Set(chosen).size).toBe(8)
    expect(chosen.map((place) => labels[place]).sort()).toEqual([-1, -1, -1, -1, 0, 0, 1, 1])
  })
})
