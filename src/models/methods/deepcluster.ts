import { type Static, Type } from 'typebox'
import type { Dataset } from '../../data/dataset.ts'
import { Diverged } from '../../errors.ts'
import { type Scalar, type Tensor, type Tensor2D, tf, type Variable } from '../../tf.ts'
import { type Clustered, drawClusters, drawSizes } from '../cluster-pictures.ts'
import { type Dice, rollDice } from '../dice.ts'
import { preparationBytes, prepareFeatures } from '../features.ts'
import { applyDense } from '../layers/dense.ts'
import { crossEntropies } from '../math/cross-entropy.ts'
import { mutualInformation } from '../math/information.ts'
import { kMeans } from '../math/kmeans.ts'
import { powerIterationClusters } from '../math/power-iteration.ts'
import { countClusters, evenWeights, visitEvenly } from '../math/pseudo-labels.ts'
import type { Rows } from '../math/rows.ts'
import { type Batch, defineMethod, type Learner, type Survey, type World } from '../method.ts'
import { beforeRelu, type Net, type NetPlan } from '../nets/net.ts'
import { measureStatistics, orRestoreMemory } from '../nets/statistics.ts'

const kMeansParameters = Type.Object(
  {
    name: Type.Literal('k-means', { description: 'Lloyd 1982.' }),
    iterations: Type.Integer({
      minimum: 1,
      maximum: 10_000,
      default: 20,
      description: 'At most; it ends before where nothing changes any more.',
    }),
    start: Type.Union([Type.Literal('points'), Type.Literal('plus-plus')], {
      default: 'points',
      description: 'The first centroids: images drawn at random, or k-means++.',
    }),
  },
  { additionalProperties: false, title: 'k-means' },
)

const powerIterationParameters = Type.Object(
  {
    name: Type.Literal('power-iteration', { description: 'Lin and Cohen 2010.' }),
    neighbours: Type.Integer({ minimum: 1, maximum: 1000, default: 5, description: 'Edges from each image.' }),
    sigma: Type.Number({
      exclusiveMinimum: 0,
      maximum: 100,
      default: 0.2,
      description: 'Edges weigh exp(-(distance / sigma)^2).',
    }),
    iterations: Type.Integer({ minimum: 1, maximum: 10_000, default: 200, description: 'Power iterations.' }),
    alpha: Type.Number({
      exclusiveMinimum: 0,
      exclusiveMaximum: 1,
      default: 0.001,
      description: 'What flows along the edges at each iteration; the rest comes evenly from everywhere.',
    }),
  },
  { additionalProperties: false, title: 'Power iteration' },
)

const parameters = Type.Object(
  {
    k: Type.Integer({
      minimum: 2,
      maximum: 1_000_000,
      default: 100,
      description:
        'Clusters; about ten for each class that one expects. With power iteration, which finds its own number, the most that are learned: the largest ones.',
    }),
    clustering: Type.Union([kMeansParameters, powerIterationParameters], {
      default: { name: 'k-means' },
      description: 'How images are grouped by their features.',
    }),
    components: Type.Integer({
      minimum: 1,
      maximum: 65_536,
      default: 256,
      description: 'Principal components of the features that are clustered; all where there are fewer.',
    }),
    whiten: Type.Boolean({
      default: true,
      description: 'Whether each component is divided by its deviation.',
    }),
    reassignEvery: Type.Integer({
      minimum: 1,
      maximum: 1_000_000,
      default: 1,
      description: 'Epochs from one clustering to the next.',
    }),
    balance: Type.Union([Type.Literal('visits'), Type.Literal('loss'), Type.Literal('none')], {
      default: 'visits',
      description:
        'How large clusters are kept from being all that is learned: each is visited equally often, or the loss of an image weighs 1 / (size of its cluster)^balancePower, or not at all.',
    }),
    balancePower: Type.Number({ minimum: 0, maximum: 1, default: 1, description: 'See balance.' }),
    headMomentum: Type.Number({
      minimum: 0,
      exclusiveMaximum: 1,
      default: 0,
      description: 'Momentum of the last layer, which is drawn anew with each clustering.',
    }),
    headRate: Type.Number({
      exclusiveMinimum: 0,
      maximum: 1000,
      default: 1,
      description: "The last layer's learning rate as a factor of that of the others.",
    }),
    headDeviation: Type.Number({
      exclusiveMinimum: 0,
      maximum: 10,
      default: 0.01,
      description: 'Deviation of the weights of a new last layer.',
    }),
  },
  { additionalProperties: false },
)

type Parameters = Static<typeof parameters>

const [headWeights, headBias] = ['head/weights', 'head/bias']

/** The net told its last ReLU's input apart from the rest: that is what is clustered. */
function clusteredTap(net: NetPlan): { tap: string; width: number; above: number } {
  const tap = beforeRelu(net, net.top)
  const size = (name: string) => net.taps[name]!.reduce((a, b) => a * b, 1)
  return { tap, width: size(tap), above: size(net.top) }
}

/** A last layer of its own for each clustering: normal weights, no bias. */
function drawHead({ k, headDeviation }: Parameters, inputs: number, dice: Dice): Float32Array {
  return Float32Array.from({ length: inputs * k }, () => headDeviation * dice.normal())
}

/** The cluster of each row, below k; -1 for none. */
async function clusterRows(rows: Rows, parameters: Parameters, dice: Dice, stop?: AbortSignal): Promise<Int32Array> {
  const { k, clustering } = parameters
  const watch = stop ? { stop } : {}
  if (clustering.name === 'k-means') return (await kMeans(rows, { k, ...clustering, dice, ...watch })).assignments
  const clusters = await powerIterationClusters(rows, { ...clustering, ...watch })
  return clusters.map((cluster) => (cluster < k ? cluster : -1))
}

/** The squared distance of each row to the mean of its cluster; -1 where it has none. */
function distancesToMeans({ data, width }: Rows, clusters: Int32Array, k: number): Float32Array {
  const sums = new Float64Array(k * width)
  const sizes = countClusters(clusters, k)
  for (const [i, cluster] of clusters.entries())
    if (cluster >= 0) for (let c = 0; c < width; c++) sums[cluster * width + c]! += data[i * width + c]!
  return Float32Array.from(clusters, (cluster, i) => {
    if (cluster < 0) return -1
    let squares = 0
    for (let c = 0; c < width; c++)
      squares += (data[i * width + c]! - sums[cluster * width + c]! / sizes[cluster]!) ** 2
    return squares
  })
}

/** How a clustering turned out; the last one and the labels are there where they are known. */
function judge(
  { clusters, distances, k }: { clusters: Int32Array; distances: Float32Array; k: number },
  before: Float32Array,
  labels: Int32Array | undefined,
): Record<string, number> {
  const sizes = countClusters(clusters, k)
  const used = sizes.reduce((sum, size) => sum + (size > 0 ? 1 : 0), 0)
  const grouped = sizes.reduce((sum, size) => sum + size, 0)
  const inertia = distances.reduce((sum, distance) => sum + Math.max(0, distance), 0)
  return {
    ...(labels ? { nmiLabels: mutualInformation(clusters, labels) } : {}),
    ...(before[0]! >= -1 ? { nmiPrevious: mutualInformation(clusters, before) } : {}),
    clusterInertia: inertia / Math.max(1, grouped),
    clustersUsed: used,
    emptyClusters: k - used,
    largestCluster: sizes.reduce((most, size) => Math.max(most, size), 0) / clusters.length,
    ...(grouped < clusters.length ? { imagesLeftOut: clusters.length - grouped } : {}),
  }
}

/** Marks a memory of clusters that holds none yet. */
const never = -2

/** What is remembered of the last clustering, one number an image. */
interface Memory {
  clusters: Float32Array
  distances: Float32Array
}

function objective(
  { k, balance, balancePower }: Parameters,
  { clusters }: Memory,
  { indices }: Batch,
  logits: Tensor2D,
): ReturnType<Learner['objective']> {
  const own = Int32Array.from(indices, (index) => Math.max(0, clusters[index]!))
  const each = crossEntropies(logits, own)
  // With even visits an image that has no cluster is never here.
  if (balance === 'visits') return { loss: tf.mean(each) as Scalar }
  const mine = tf.tensor1d(evenWeights(clusters, k, balance === 'loss' ? balancePower : 0, indices))
  return { loss: tf.mean(tf.mul(each, mine)) as Scalar }
}

function histogram(epoch: number, { clusters, k }: Pick<Clustered, 'clusters' | 'k'>, metrics: Record<string, number>) {
  const sizes = [...countClusters(clusters, k)].sort((a, b) => b - a)
  const bytes = new TextEncoder().encode(JSON.stringify({ epoch, ...metrics, sizes }))
  return { name: `clusters-epoch-${String(epoch).padStart(4, '0')}.json`, type: 'application/json', bytes }
}

interface Parts {
  parameters: Parameters
  net: Net
  memory: Memory
  head: { weights: Variable; bias: Variable }
  learner: Learner
}

/** Groups the images anew and begins a new last layer. Changes nothing where it throws. */
async function regroup(
  { parameters, net, memory, head, learner }: Parts,
  corpus: Dataset,
  epoch: number,
  dice: Dice,
  watch: { stop?: AbortSignal },
): Promise<Survey> {
  const { k } = parameters
  const { tap, above } = clusteredTap(net.plan)
  const find = async () => {
    const { rows, labels } = await prepareFeatures(learner, corpus, tap, parameters, dice.for('features'), watch)
    const clusters = await clusterRows(rows, parameters, dice.for('clusters'), watch.stop)
    return { clusters, distances: distancesToMeans(rows, clusters, k), k, labels }
  }
  // The first net's running statistics say nothing yet of what it makes of images.
  const first = async () => {
    await measureStatistics(net, corpus, dice.for('statistics'), watch)
    return await find()
  }
  const found = await (epoch === 0 ? orRestoreMemory(net, first) : find())
  const metrics = judge(found, memory.clusters, found.labels)
  if (metrics.clustersUsed! < 2)
    throw new Diverged(
      `all ${corpus.size} images are in one cluster: nothing can be learned from it`,
      'ask for more clusters, or begin with another seed',
    )
  memory.clusters.set(found.clusters)
  memory.distances.set(found.distances)
  tf.tidy(() => {
    head.weights.assign(tf.tensor2d(drawHead(parameters, above, dice.for('head')), [above, k]))
    head.bias.assign(tf.zeros([k]))
  })
  return { reset: [headWeights, headBias], metrics, artifacts: [histogram(epoch, found, metrics)] }
}

function build(parameters: Parameters, { net, size, seed }: World): Learner {
  const { k, balance, headMomentum, headRate, reassignEvery } = parameters
  const { tap, above } = clusteredTap(net.plan)
  const { top } = net.plan
  const drawn = drawHead(parameters, above, rollDice(seed).for('deepcluster'))
  const head = tf.tidy(() => ({
    weights: tf.variable(tf.tensor2d(drawn, [above, k])),
    bias: tf.variable(tf.zeros([k])),
  }))
  const memory: Memory = { clusters: new Float32Array(size).fill(never), distances: new Float32Array(size) }
  const clustered: Clustered = { ...memory, k }
  return {
    weights: { ...net.weights, [headWeights]: head.weights, [headBias]: head.bias },
    memory: { ...net.memory, ...memory },
    taps: net.plan.taps,
    embedding: tap,
    groups: [{ weights: /^head\//, learningRate: headRate, momentum: headMomentum }],
    objective(batch, dice) {
      const x = net.forward(batch.views[0]!, [top], true, dice)[top]!
      return objective(parameters, memory, batch, applyDense(tf.reshape(x, [x.shape[0]!, above]) as Tensor2D, head))
    },
    async survey(corpus, epoch, dice, watch) {
      if (epoch % reassignEvery !== 0) return undefined
      return await regroup({ parameters, net, memory, head, learner: this }, corpus, epoch, dice, watch)
    },
    order: (_epoch, dice) => (balance === 'visits' ? visitEvenly(memory.clusters, k, dice) : dice.permutation(size)),
    async pictures({ train }) {
      return [await drawClusters(clustered, train), drawSizes(clustered)]
    },
    encode: (images, taps) => tf.tidy(() => net.forward(images, taps, false)) as Record<string, Tensor>,
    dispose: () => tf.dispose([net.weights, net.memory, head]),
  }
}

/** Clusters of the net's own features are the classes that it learns to tell apart, found anew each epoch. */
export const deepcluster = defineMethod({
  name: 'deepcluster',
  title: 'DeepCluster',
  paper: 'Caron, Bojanowski, Joulin and Douze, ECCV 2018',
  parameters,
  abilities: ['embedding'],
  check({ k }, { size }) {
    if (k <= size) return []
    return [{ pointer: '/k', detail: `is ${k}; there are ${size} training images, so it should be at most ${size}` }]
  },
  views: () => [{ shift: 2, flip: 0.5, gamma: 1, light: 0.5, gain: 0.4 }],
  plan(own, { net, size }) {
    const { width, above } = clusteredTap(net)
    const weights = above * own.k + own.k
    return {
      weights: net.weights + weights,
      multiplyAdds: net.multiplyAdds + above * own.k,
      memoryBytes: net.memoryBytes + 4 * 2 * size,
      surveyBytes: preparationBytes(size, width, own),
      dimension: width,
    }
  },
  build,
})
