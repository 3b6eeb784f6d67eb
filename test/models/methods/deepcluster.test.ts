import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { Corpus, Dataset } from '../../../src/data/dataset.ts'
import { toUnit } from '../../../src/data/pixels.ts'
import { chooseEngine } from '../../../src/engine/choose.ts'
import { rollDice } from '../../../src/models/dice.ts'
import { countClusters } from '../../../src/models/math/pseudo-labels.ts'
import type { Batch, Learner } from '../../../src/models/method.ts'
import { deepcluster } from '../../../src/models/methods/deepcluster.ts'
import { small } from '../../../src/models/nets/small.ts'
import { optimizers } from '../../../src/models/training/optimizer.ts'
import { type Tensor, tf, type Variable } from '../../../src/tf.ts'
import { buildTiny, defaultsOf, tinyCorpus } from '../tiny.ts'

let corpus: Corpus
let tensors: number
const size = 60
const k = 6

beforeAll(async () => {
  await chooseEngine('auto')
  corpus = await tinyCorpus(size)
  tensors = tf.memory().numTensors
})

const built: Learner[] = []
afterEach(() => {
  for (const learner of built.splice(0)) learner.dispose()
  expect(tf.memory().numTensors).toBe(tensors)
})

function build(given: Record<string, unknown> = {}): Learner {
  const { learner } = buildTiny(deepcluster, { k, ...given }, corpus)
  built.push(learner)
  return learner
}

const survey = (learner: Learner, epoch: number, dataset: Dataset = corpus.train) =>
  learner.survey!(dataset, epoch, rollDice(4).for(epoch), {})
const clustersOf = (learner: Learner) => learner.memory.clusters as Float32Array
const weightsOf = (learner: Learner) => learner.weights['head/weights']!.dataSync() as Float32Array

async function batchOf(indices: number[]): Promise<Batch> {
  const pixels = await corpus.train.read(indices)
  const views = [tf.tensor4d(toUnit(pixels.data), [indices.length, ...pixels.shape])]
  return { views, indices: Int32Array.from(indices) }
}

describe('DeepCluster', () => {
  it('groups the images before the first epoch and tells how', async () => {
    const learner = build()
    const found = (await survey(learner, 0))!
    const sizes = countClusters(clustersOf(learner), k)
    expect(sizes.reduce((a, b) => a + b)).toBe(size)
    expect(found.metrics).toMatchObject({
      clustersUsed: k,
      emptyClusters: 0,
      largestCluster: Math.max(...sizes) / size,
    })
    expect(found.metrics!.nmiLabels).toBeGreaterThan(0)
    expect(found.metrics).not.toHaveProperty('nmiPrevious')
    const [artifact] = found.artifacts!
    expect(artifact!.name).toBe('clusters-epoch-0000.json')
    const told = JSON.parse(new TextDecoder().decode(artifact!.bytes))
    expect(told).toMatchObject({ epoch: 0, clustersUsed: k, sizes: [...sizes].sort((a, b) => b - a) })
  })

  it('compares a clustering with the last one, and with labels only where there are some', async () => {
    const learner = build()
    await survey(learner, 0)
    const found = (await survey(learner, 1, { ...corpus.train, classes: 0 }))!
    expect(found.metrics!.nmiPrevious).toBeGreaterThan(0.1)
    expect(found.metrics).not.toHaveProperty('nmiLabels')
  })

  it('clusters what comes before the last relu', () => {
    expect(build().embedding).toBe('norm2')
    const net = small.build(
      defaultsOf(small.parameters, { widths: [4], dense: [5], dropout: 0.5, dropoutAt: 'after' }) as never,
      [12, 12, 1],
      1,
    )
    const own = defaultsOf(deepcluster.parameters, { k }) as never
    const learner = deepcluster.build(own, { net, imageShape: [12, 12, 1], size, classes: 4, seed: 1 })
    built.push(learner)
    expect(learner.embedding).toBe('fc2')
    expect(learner.taps.fc2).toEqual([5])
  })

  it('draws the head anew and forgets its momentum, while the rest keeps its own', async () => {
    const learner = build({ headMomentum: 0.5 })
    await survey(learner, 0)
    const stepper = optimizers.sgd.create({ name: 'sgd', ...sgd } as never, learner)
    const batch = await batchOf([0, 1, 2, 3])
    tf.tidy(() => {
      const { grads } = tf.variableGrads(() => learner.objective(batch, rollDice(1)).loss)
      const gradients: Record<string, Tensor> = {}
      for (const [name, weight] of Object.entries(learner.weights)) gradients[name] = grads[weight.name]!
      stepper.apply(gradients, 0.5)
    })
    tf.dispose(batch.views)
    const slot = (name: string) => (stepper.slots[name] as Variable).dataSync().slice()
    const before = { head: weightsOf(learner).slice(), body: slot('conv1/filter') }
    expect(slot('head/weights').some((value) => value !== 0)).toBe(true)
    const { reset } = (await survey(learner, 1))!
    stepper.reset(reset!)
    expect([...reset!].sort()).toEqual(['head/bias', 'head/weights'])
    expect(slot('head/weights').every((value) => value === 0)).toBe(true)
    expect(slot('conv1/filter')).toEqual(before.body)
    expect(before.body.some((value) => value !== 0)).toBe(true)
    const drawn = weightsOf(learner)
    expect(drawn).not.toEqual(before.head)
    const deviation = Math.sqrt(drawn.reduce((sum, value) => sum + value * value, 0) / drawn.length)
    expect(deviation).toBeGreaterThan(0.008)
    expect(deviation).toBeLessThan(0.012)
    expect([...learner.weights['head/bias']!.dataSync()]).toEqual(Array(k).fill(0))
    stepper.dispose()
  })

  it('steps its head without momentum and at a rate of its own', () => {
    const [group] = build({ headRate: 3 }).groups!
    expect(group).toMatchObject({ learningRate: 3, momentum: 0 })
    expect(['head/weights', 'head/bias', 'conv1/filter'].map((name) => group!.weights.test(name))).toEqual([
      true,
      true,
      false,
    ])
  })

  it('visits clusters evenly, by what it remembers alone', async () => {
    const learner = build()
    await survey(learner, 0)
    const order = learner.order!(0, rollDice(9))
    const visits = [
      ...countClusters(
        Array.from(order, (i) => clustersOf(learner)[i]!),
        k,
      ),
    ]
    expect(order).toHaveLength(size)
    expect(Math.max(...visits) - Math.min(...visits)).toBeLessThanOrEqual(1)
    const other = build()
    clustersOf(other).set(clustersOf(learner))
    expect(other.order!(0, rollDice(9))).toEqual(order)
  })

  it('leaves all as it is in the epochs between two clusterings', async () => {
    const learner = build({ reassignEvery: 2 })
    await survey(learner, 0)
    const [clusters, weights] = [clustersOf(learner).slice(), weightsOf(learner).slice()]
    expect(await survey(learner, 1)).toBeUndefined()
    expect(clustersOf(learner)).toEqual(clusters)
    expect(weightsOf(learner)).toEqual(weights)
    expect(await survey(learner, 2)).toBeDefined()
  })

  it('has a loss near log k under a new head, and less where the clusters of the batch are known to it', async () => {
    const learner = build()
    await survey(learner, 0)
    const batch = await batchOf([5, 6, 7])
    const lossOf = () => tf.tidy(() => learner.objective(batch, rollDice(1)).loss.dataSync()[0]!)
    // A new head knows nothing of any cluster yet.
    const before = lossOf()
    expect(Math.abs(before - Math.log(k))).toBeLessThan(0.2)
    const bias = new Float32Array(k)
    for (const index of batch.indices) bias[clustersOf(learner)[index]!]! += 1
    tf.tidy(() => learner.weights['head/bias']!.assign(tf.tensor1d(bias)))
    expect(lossOf()).toBeLessThan(before - 0.3)
    tf.dispose(batch.views)
  })

  it('weighs the loss by cluster size where it is balanced so, and visits every image once', async () => {
    const [plain, weighed] = [build({ balance: 'none' }), build({ balance: 'loss' })]
    await survey(plain, 0)
    await survey(weighed, 0)
    for (const learner of [plain, weighed]) {
      // 50 images in cluster 0, 10 in cluster 1.
      clustersOf(learner).set(Array.from({ length: size }, (_, i) => (i < 50 ? 0 : 1)))
      const order = learner.order!(0, rollDice(2))
      expect([...order].sort((a, b) => a - b)).toEqual(Array.from({ length: size }, (_, i) => i))
    }
    const batch = await batchOf([0, 55])
    const losses = [plain, weighed].map((learner) =>
      tf.tidy(() => learner.objective(batch, rollDice(1)).loss.dataSync()[0]!),
    )
    tf.dispose(batch.views)
    // Of two losses near log k: weights 60 / (2 x 50) and 60 / (2 x 10), the mean of which is 1.8.
    expect(losses[1]! / losses[0]!).toBeCloseTo(1.8, 1)
  })

  it('groups by power iteration too, and leaves out what is in none of the k largest clusters', async () => {
    const learner = build({ k: 2, clustering: { name: 'power-iteration', neighbours: 2 } })
    const { metrics } = (await survey(learner, 0))!
    const out = [...clustersOf(learner)].flatMap((cluster, i) => (cluster === -1 ? [i] : []))
    expect(metrics!.imagesLeftOut).toBe(out.length)
    expect(out.length).toBeGreaterThan(0)
    const order = new Set(learner.order!(0, rollDice(2)))
    expect(out.some((i) => order.has(i))).toBe(false)
  })

  it('changes nothing when a clustering is stopped', async () => {
    const learner = build()
    const state = () => Object.values(learner.memory).map((part) => ('length' in part ? part : part.dataSync()).slice())
    const before = state()
    const controller = new AbortController()
    let reads = 0
    // Half way through the features, after the running statistics have moved.
    const read: Dataset['read'] = (indices) => {
      if (++reads === 41) controller.abort(new Error('enough'))
      return corpus.train.read(indices)
    }
    const stopped = learner.survey!({ ...corpus.train, read }, 0, rollDice(1), { stop: controller.signal })
    await expect(stopped).rejects.toThrow('enough')
    expect(state()).toEqual(before)
  })

  it('draws its clusters as a sheet of images and as a histogram', async () => {
    const learner = build()
    await survey(learner, 0)
    const pictures = await learner.pictures!(corpus, rollDice(1), {})
    expect(pictures.map(({ name, type }) => [name, type])).toEqual([
      ['clusters', 'image/png'],
      ['cluster sizes', 'image/svg+xml'],
    ])
    expect([...pictures[0]!.bytes.subarray(1, 4)]).toEqual([...Buffer.from('PNG')])
    expect(new TextDecoder().decode(pictures[1]!.bytes)).toContain(`${k} clusters`)
  })
})

const sgd = { learningRate: 0.5, momentum: 0.9, weightDecay: 0 }

describe('what DeepCluster refuses', () => {
  const check = (images: number) =>
    deepcluster.check!(defaultsOf(deepcluster.parameters, { k: 10 }) as never, {
      size: images,
      classes: 0,
      batchSize: 1,
    })

  it('is more clusters than images, at the door', () => {
    expect(check(10)).toEqual([])
    expect(check(9)).toEqual([
      { pointer: '/k', detail: 'is 10; there are 9 training images, so it should be at most 9' },
    ])
    expect(check(1)[0]!.detail).toContain('at most 1')
  })

  it('is images that are all the same, with the reason', async () => {
    const learner = build()
    const read: Dataset['read'] = async (indices) => ({
      data: new Uint8Array(indices.length * 144).fill(7),
      shape: [12, 12, 1],
    })
    await expect(survey(learner, 0, { ...corpus.train, read })).rejects.toThrow('have the same features')
    expect(clustersOf(learner).every((cluster) => cluster < 0)).toBe(true)
  })

  it('is a net whose features are no numbers, with the image', async () => {
    const learner = build()
    tf.tidy(() => learner.weights['conv1/filter']!.assign(tf.fill([3, 3, 1, 4], Number.NaN)))
    await expect(survey(learner, 0)).rejects.toThrow('training image 0')
  })
})

describe('the plan of DeepCluster', () => {
  it('counts the head, what is remembered of each image, and what a clustering takes', () => {
    const net = small.plan(defaultsOf(small.parameters, { widths: [4], dense: [5] }) as never, [12, 12, 1])
    const own = defaultsOf(deepcluster.parameters, { k: 7 }) as never
    const plan = deepcluster.plan(own, { net, size: 1000, classes: 0 })
    expect(plan.weights).toBe(net.weights + 5 * 7 + 7)
    expect(plan.multiplyAdds).toBe(net.multiplyAdds + 35)
    expect(plan.memoryBytes).toBe(net.memoryBytes + 8 * 1000)
    expect(plan.surveyBytes).toBeGreaterThanOrEqual(4 * 1000 * 5)
    expect(plan.dimension).toBe(5)
  })
})
