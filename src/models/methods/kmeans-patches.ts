import { type Static, Type } from 'typebox'
import { computeRecorded, type Tensor2D, type Tensor4D, tf } from '../../tf.ts'
import { fittedLearner, measureStandard, newStandard, remember, remembered, standardise } from '../fitted.ts'
import { sumInGrid } from '../layers/grid.ts'
import { kMeans } from '../math/kmeans.ts'
import { principalComponents } from '../math/pca.ts'
import { defineMethod, type World } from '../method.ts'
import { drawPatches, normalisePatches, type PatchPlan, planPatches } from '../patches.ts'

const parameters = Type.Object(
  {
    centroids: Type.Integer({ minimum: 2, maximum: 8192, default: 400, description: 'Features of a patch, k.' }),
    patch: Type.Integer({ minimum: 2, maximum: 16, default: 6, description: 'Pixels of a side of a patch.' }),
    stride: Type.Integer({ minimum: 1, maximum: 32, default: 1, description: 'Pixels between two patches.' }),
    grid: Type.Integer({
      minimum: 1,
      maximum: 16,
      default: 2,
      description: 'Cells along a side in which features are summed; 2 in the paper: quadrants.',
    }),
    patches: Type.Integer({
      minimum: 100,
      maximum: 10_000_000,
      default: 100_000,
      description: 'Patches at random places that the centroids are found on.',
    }),
    iterations: Type.Integer({ minimum: 1, maximum: 1000, default: 20, description: 'Of k-means.' }),
    whiten: Type.Boolean({ default: true, description: 'Whether patches are whitened (ZCA).' }),
    whiteningFloor: Type.Number({
      minimum: 0,
      maximum: 10,
      default: 0.1,
      description: "Added to each direction's variance; that of a patch's numbers is 1.",
    }),
  },
  { additionalProperties: false },
)

type Parameters = Static<typeof parameters>

const embedding = 'embed'
/** Added to a patch's variance, of pixels in [0, 1]: 10 of pixels in 0 to 255. */
const contrastFloor = 10 / 255 ** 2
/** Numbers of features that are made at once: 64 MiB. */
const featureLimit = 2 ** 24

/** Filters [side, side, channels, numbers] that take each number of a patch, less the patch's mean. */
function centring(side: number, channels: number): Float32Array {
  const n = side * side * channels
  return Float32Array.from({ length: n * n }, (_, i) => (i % (n + 1) === 0 ? 1 : 0) - 1 / n)
}

/** Symmetric whitening: V (variance + floor)^-1/2 V'. */
function whitening(directions: Float32Array, variances: Float32Array, floor: number): Float32Array {
  const n = variances.length
  const out = new Float32Array(n * n)
  for (let d = 0; d < n; d++) {
    // Directions without variance, such as the mean that was taken off, are left out.
    const known = variances[d]! > 1e-6 * variances[0]!
    const scale = known ? 1 / Math.sqrt(variances[d]! + floor) : 0
    for (let i = 0; i < n; i++)
      for (let j = 0; j < n; j++) out[i * n + j]! += scale * directions[d * n + i]! * directions[d * n + j]!
  }
  return out
}

function newMemory({ centroids, grid }: Parameters, { numbers, side }: PatchPlan, channels: number) {
  const standard = newStandard(grid ** 2 * centroids)
  const filters = remembered([side, side, channels, numbers])
  remember(filters, centring(side, channels))
  return {
    filters,
    standard,
    mean: remembered([numbers]),
    whitening: remembered([numbers, numbers]),
    centroids: remembered([centroids, numbers]),
  }
}

type Memory = ReturnType<typeof newMemory>

/** Every patch of the images, normalised and whitened: [n x rows x columns, numbers]. */
function whitePatches(images: Tensor4D, memory: Memory, { stride, numbers }: PatchPlan): Tensor2D {
  const centred = tf.reshape(tf.conv2d(images, memory.filters as never, stride, 'valid'), [-1, numbers]) as Tensor2D
  const contrast = tf.rsqrt(tf.add(tf.mean(tf.square(centred), 1, true), contrastFloor))
  const normalised = tf.sub(tf.mul(centred, contrast), memory.mean) as Tensor2D
  return tf.matMul(normalised, memory.whitening as never)
}

/** max(0, mean distance - distance) to each centroid ("triangle"), summed in the cells of the grid. */
function triangles(images: Tensor4D, memory: Memory, places: PatchPlan, grid: number): Tensor2D {
  const patches = whitePatches(images, memory, places)
  const centroids = memory.centroids as unknown as Tensor2D
  const lengths = tf.sum(tf.square(patches), 1, true)
  const products = tf.matMul(patches, tf.mul(centroids, -2) as Tensor2D, false, true)
  const squares = tf.add(tf.add(products, tf.sum(tf.square(centroids), 1)), lengths)
  const distances = tf.sqrt(tf.relu(squares)) as Tensor2D
  const near = tf.relu(tf.sub(tf.mean(distances, 1, true), distances))
  const maps = tf.reshape(near, [images.shape[0], places.rows, places.columns, centroids.shape[0]]) as Tensor4D
  return sumInGrid(maps, grid)
}

/** Features of all images, a power of two of them at a time: maps of a whole batch could be gigabytes. */
function inParts(images: Tensor4D, each: number, features: (part: Tensor4D) => Tensor2D): Tensor2D {
  const [count] = images.shape
  if (count <= each) return features(images)
  const parts: Tensor2D[] = []
  for (let first = 0; first < count; first += each) {
    parts.push(tf.tidy(() => features(tf.slice(images, first, Math.min(each, count - first)))))
    computeRecorded()
  }
  return tf.concat(parts)
}

function build(own: Parameters, { net, imageShape }: World) {
  tf.dispose([net.weights, net.memory])
  const places = planPatches(imageShape, own)
  const { numbers } = places
  const dimension = own.grid ** 2 * own.centroids
  const memory = newMemory(own, places, imageShape[2])
  const { standard, filters, ...kept } = memory
  const most = featureLimit / (places.rows * places.columns * Math.max(own.centroids, numbers))
  const each = 2 ** Math.max(0, Math.floor(Math.log2(most)))
  const features = (images: Tensor4D) => inParts(images, each, (part) => triangles(part, memory, places, own.grid))
  return fittedLearner('kmeans-patches', {
    memory: { filters, ...kept, standardMean: standard.mean, standardScale: standard.scale },
    taps: { [embedding]: [dimension] },
    embedding,
    async survey(corpus, _epoch, dice, watch) {
      const patches = normalisePatches(
        await drawPatches(corpus, own.patches, places, dice.for('patches'), watch),
        contrastFloor,
      )
      const found = await principalComponents(patches, numbers, dice.for('components'), watch)
      const { data } = found.directions
      const ones = new Float32Array(numbers).fill(1)
      const turned = own.whiten ? whitening(data, found.variances, own.whiteningFloor) : whitening(data, ones, 0)
      const { mean } = found
      const centred = { data: patches.data.map((value, i) => value - mean[i % numbers]!), width: numbers }
      const white = await whitened(centred.data, turned, numbers)
      const clusters = await kMeans(
        { data: white, width: numbers },
        { k: own.centroids, iterations: own.iterations, dice: dice.for('clusters'), ...watch },
      )
      remember(memory.mean, mean)
      remember(memory.whitening, turned)
      remember(memory.centroids, clusters.centroids.data)
      await measureStandard(standard, features, corpus, dice.for('standard'), watch)
      const inertia = clusters.inertia.at(-1)! / own.patches
      return { metrics: { inertia, emptyClusters: clusters.empties, allEqual: clusters.allEqual ? 1 : 0 } }
    },
    activations: (images) => ({ [embedding]: standardise(features(images), standard) }),
  })
}

const rowsAtOnce = 2 ** 16

/** Rows times a square matrix, a block at a time. */
async function whitened(rows: Float32Array, matrix: Float32Array, width: number): Promise<Float32Array> {
  const out = new Float32Array(rows.length)
  for (let first = 0; first < rows.length; first += rowsAtOnce * width) {
    const part = rows.subarray(first, first + rowsAtOnce * width)
    const made = tf.tidy(() =>
      tf.matMul(tf.tensor2d(part, [part.length / width, width]), tf.tensor2d(matrix, [width, width])),
    )
    out.set((await made.data()) as Float32Array, first)
    made.dispose()
  }
  return out
}

/** Whitened patches by their distances to the centroids of k-means. The net is not used. */
export const kmeansPatches = defineMethod({
  name: 'kmeans-patches',
  title: 'k-means on whitened patches',
  paper: 'Coates, Ng and Lee, AISTATS 2011; Coates and Ng, ICML 2011',
  parameters,
  abilities: ['embedding'],
  fitted: true,
  check: ({ centroids, patches }) =>
    centroids <= patches
      ? []
      : [{ pointer: '/centroids', detail: `is ${centroids}, of ${patches} patches: it should be at most as many` }],
  views: () => [{}],
  plan(own, { net }) {
    const { rows, columns, numbers } = planPatches(net.layers[0]!.input, own)
    const dimension = own.grid ** 2 * own.centroids
    return {
      weights: 0,
      multiplyAdds: rows * columns * numbers * (2 * numbers + own.centroids),
      memoryBytes: 4 * (2 * numbers ** 2 + numbers + own.centroids * numbers + 2 * dimension),
      dimension,
    }
  },
  build,
})
