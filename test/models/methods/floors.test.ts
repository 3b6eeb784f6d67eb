import { beforeAll, describe, expect, it } from 'vitest'
import type { Corpus, Dataset } from '../../../src/data/dataset.ts'
import { toUnit } from '../../../src/data/pixels.ts'
import { chooseEngine } from '../../../src/engine/choose.ts'
import { rollDice } from '../../../src/models/dice.ts'
import type { Learner, Method } from '../../../src/models/method.ts'
import { methods } from '../../../src/models/methods/index.ts'
import { small } from '../../../src/models/nets/small.ts'
import { type Tensor4D, tf } from '../../../src/tf.ts'
import { buildTiny, defaultsOf, tinyCorpus } from '../tiny.ts'

let corpus: Corpus

beforeAll(async () => {
  await chooseEngine('auto')
  corpus = await tinyCorpus()
})

const floors = ['deep-autoencoder', 'kmeans-patches', 'pca', 'random-filters', 'raw-pixels', 'untrained'] as const

const given: Record<string, Record<string, unknown>> = {
  'deep-autoencoder': { widths: [20, 9] },
  'kmeans-patches': { centroids: 7, patches: 300, iterations: 3, patch: 4, grid: 3, stride: 2 },
  pca: { components: 5, whiten: true },
  'random-filters': { filters: 6, patch: 4, stride: 3 },
}

const methodOf = (name: string) => (methods as unknown as Record<string, Method>)[name]!
const planned = (name: string, own: Record<string, unknown>) => {
  const { imageShape, size, classes } = corpus.train
  const unit = methodOf(name)
  return unit.plan(defaultsOf(unit.parameters, own), {
    net: small.plan(defaultsOf(small.parameters, { widths: [4, 6] }) as never, imageShape),
    size,
    classes,
  })
}

const sizes = (parts: Record<string, { size: number } | Float32Array>) =>
  Object.values(parts).reduce((sum, part) => sum + ('size' in part ? part.size : part.length), 0)

async function imagesOf(dataset: Dataset, count: number): Promise<Tensor4D> {
  const pixels = await dataset.read(Int32Array.from({ length: count }, (_, i) => i))
  return tf.tensor4d(toUnit(pixels.data), [count, ...pixels.shape])
}

async function embed(learner: Learner, dataset: Dataset, count: number): Promise<number[][]> {
  const images = await imagesOf(dataset, count)
  const made = learner.encode(images, [learner.embedding])[learner.embedding]!
  const rows = (await made.array()) as number[][]
  tf.dispose([images, made])
  return rows
}

/** What a fitted method remembers, as plain numbers. */
const recalled = (learner: Learner, name: string) => (learner.memory[name] as tf.Variable).dataSync() as Float32Array

async function prepare(name: string, own: Record<string, unknown>, world = corpus) {
  const { learner } = buildTiny(methodOf(name), own, world)
  const found = await learner.survey?.(world.train, 0, rollDice(4), {})
  return { learner, found }
}

/** Both splits with images that are all the same. */
function allTheSame(size: number): Corpus {
  const { imageShape } = corpus.train
  const width = imageShape.reduce((a, b) => a * b, 1)
  const read = async (indices: ArrayLike<number>) => ({
    data: new Uint8Array(indices.length * width).fill(77),
    shape: imageShape,
  })
  return { train: { ...corpus.train, size, imageShape, read }, test: corpus.test }
}

describe.each(floors)('the floor %s', (name) => {
  it('has as many weights, bytes of memory and numbers of an embedding as were planned', async () => {
    const own = given[name] ?? {}
    const { learner } = buildTiny(methodOf(name), own, corpus)
    const { weights, memoryBytes, dimension } = planned(name, own)
    expect(sizes(learner.weights as never)).toBe(weights)
    expect(4 * sizes(learner.memory as never)).toBe(memoryBytes)
    expect(learner.taps[learner.embedding]).toEqual([dimension])
    learner.dispose()
  })

  it.each([1, 9])('makes numbers of images that are all the same: %i', async (count) => {
    const same = allTheSame(count)
    const { learner, found } = await prepare(name, given[name] ?? {}, same)
    if (name === 'kmeans-patches') expect(found!.metrics!.allEqual).toBe(1)
    if (name === 'pca') expect(found!.metrics!.variance).toBeLessThan(1e-9)
    const rows = await embed(learner, same.train, count)
    expect(rows.flat().every(Number.isFinite)).toBe(true)
    for (const row of rows) expect(row).toEqual(rows[0])
    learner.dispose()
  })
})

/** A patch at (top, left) of an image, in the order of a filter. */
function patchOf(image: number[][][], top: number, left: number, side: number): number[] {
  return image.slice(top, top + side).flatMap((row) => row.slice(left, left + side).flat())
}

const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length

describe('k-means on patches', () => {
  it('embeds as Coates and Ng say: normalise, whiten, triangle, sum in cells', async () => {
    const { learner } = await prepare('kmeans-patches', given['kmeans-patches']!)
    const [middle, white, centroids, ownMean, ownScale] = [
      'mean',
      'whitening',
      'centroids',
      'standardMean',
      'standardScale',
    ].map((part) => recalled(learner, part)) as [Float32Array, Float32Array, Float32Array, Float32Array, Float32Array]
    const [side, stride, grid, k, count] = [4, 2, 3, 7, 3]
    const n = side * side * corpus.train.imageShape[2]
    const images = await imagesOf(corpus.train, count)
    const pixels = (await images.array()) as number[][][][]
    images.dispose()
    const got = await embed(learner, corpus.train, count)
    for (const [i, image] of pixels.entries()) {
      const sums = new Array(grid * grid * k).fill(0)
      for (let y = 0; y < 5; y++)
        for (let x = 0; x < 5; x++) {
          const patch = patchOf(image, stride * y, stride * x, side)
          const deviation = Math.sqrt(mean(patch.map((v) => (v - mean(patch)) ** 2)) + 10 / 255 ** 2)
          const own = patch.map((v, c) => (v - mean(patch)) / deviation - middle[c]!)
          const whitened = own.map((_, c) => own.reduce((sum, v, j) => sum + v * white[j * n + c]!, 0))
          const distances = Array.from({ length: k }, (_, j) =>
            Math.hypot(...whitened.map((v, c) => v - centroids[j * n + c]!)),
          )
          // 5 places in 3 cells: 2, 1 and 2.
          const cell = (at: number) => (at < 2 ? 0 : at < 3 ? 1 : 2)
          for (const [j, distance] of distances.entries())
            sums[(cell(y) * grid + cell(x)) * k + j] += Math.max(0, mean(distances) - distance)
        }
      for (const [j, sum] of sums.entries()) expect(got[i]![j]).toBeCloseTo((sum - ownMean[j]!) * ownScale[j]!, 3)
    }
    learner.dispose()
  })

  it('says how far patches are from their centroids, and is refused more centroids than patches', async () => {
    const { learner, found } = await prepare('kmeans-patches', given['kmeans-patches']!)
    expect(found!.metrics!.inertia).toBeGreaterThan(0)
    expect(found!.metrics!.emptyClusters).toBe(0)
    learner.dispose()
    const unit = methodOf('kmeans-patches')
    const own = defaultsOf(unit.parameters, { centroids: 200, patches: 100 })
    expect(unit.check!(own, { size: 9, classes: 2, batchSize: 1 })).toMatchObject([{ pointer: '/centroids' }])
  })
})

describe('random filters', () => {
  it.each(['normal', 'patches'])('have mean 0 and length 1, and sum what is above 0 in cells: %s', async (drawn) => {
    const { learner } = await prepare('random-filters', { ...given['random-filters'], drawn })
    const filters = recalled(learner, 'filters')
    const [centre, scale] = [recalled(learner, 'mean'), recalled(learner, 'scale')]
    const [k, n] = [6, 16 * corpus.train.imageShape[2]]
    const filter = (j: number) => Array.from({ length: n }, (_, c) => filters[c * k + j]!)
    for (let j = 0; j < k; j++) {
      expect(mean(filter(j))).toBeCloseTo(0, 5)
      expect(Math.hypot(...filter(j))).toBeCloseTo(1, 4)
    }
    const images = await imagesOf(corpus.train, 1)
    const [image] = (await images.array()) as number[][][][]
    images.dispose()
    const [got] = await embed(learner, corpus.train, 1)
    for (let j = 0; j < k; j++) {
      let sum = 0
      // 3 places along each side, of which 2 are in the first cell.
      for (const y of [0, 3])
        for (const x of [0, 3])
          sum += Math.max(
            0,
            patchOf(image!, y, x, 4).reduce((total, v, c) => total + v * filter(j)[c]!, 0),
          )
      expect(got![j]).toBeCloseTo((sum - centre[j]!) * scale[j]!, 3)
    }
    learner.dispose()
  })
})

describe('principal components of pixels', () => {
  it('are as long as their variance says, or white', async () => {
    for (const whiten of [false, true]) {
      const { learner, found } = await prepare('pca', { components: 4, whiten })
      const rows = await embed(learner, corpus.train, corpus.train.size)
      const variances = recalled(learner, 'variances')
      for (let c = 0; c < 4; c++) {
        const own = rows.map((row) => row[c]!)
        expect(mean(own)).toBeCloseTo(0, 4)
        expect(mean(own.map((v) => v * v)) / (whiten ? 1 : variances[c]!)).toBeCloseTo(1, 2)
      }
      expect(found!.metrics!.varianceKept).toBeGreaterThan(0.1)
      learner.dispose()
    }
  })

  it.each([
    ['pca', { components: 4000 }, '/components'],
    ['kmeans-patches', { patch: 13 }, '/patch'],
    ['random-filters', { patch: 10, grid: 4 }, '/grid'],
  ])('and patches are refused where images are too small: %s', (name, own, pointer) => {
    expect(() => planned(name, own)).toThrow(pointer)
  })
})

describe('raw pixels', () => {
  it('are the images less their mean', async () => {
    const { learner } = await prepare('raw-pixels', {})
    const rows = await embed(learner, corpus.train, corpus.train.size)
    for (let c = 0; c < 20; c++) expect(mean(rows.map((row) => row[c]!))).toBeCloseTo(0, 5)
    const images = await imagesOf(corpus.train, 2)
    const pixels = learner.encode(images, ['pixels']).pixels!
    expect(await pixels.array()).toEqual(await images.array())
    tf.dispose([images, pixels])
    learner.dispose()
  })
})
