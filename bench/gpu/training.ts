// Training steps of a row through the service's own step, and a clustering.
import type { RawBatch } from '../../src/data/loader.ts'
import { asWritten, type Schema, withDefaults } from '../../src/experiments/schema.ts'
import { rollDice } from '../../src/models/dice.ts'
import { kMeans } from '../../src/models/math/kmeans.ts'
import { pickRows } from '../../src/models/math/rows.ts'
import type { Learner } from '../../src/models/method.ts'
import { methods } from '../../src/models/methods/index.ts'
import { optimizers } from '../../src/models/training/optimizer.ts'
import { readBehind } from '../../src/models/training/reading.ts'
import { takeStep } from '../../src/models/training/step.ts'
import { type Tensor2D, tf } from '../../src/tf.ts'
import { buildNet, type ClusteringRow, dimension, type TrainingRow } from './rows.ts'

const learningRate = 0.001
/** Steps that are not measured: shaders are compiled, buffers are made. */
const warmUp = 3

function buildLearner(row: TrainingRow): Learner {
  const net = buildNet(row)
  const world = { net, imageShape: row.image, size: row.bank ?? 0, classes: row.classes, seed: 1 }
  const defaults = (schema: unknown, given: object) => withDefaults(asWritten(schema as Schema), given) as never
  return row.bank === undefined
    ? methods.supervised.build(defaults(methods.supervised.parameters, {}), world)
    : methods.npid.build(defaults(methods.npid.parameters, { dimension, negatives: 'all' }), world)
}

/** Noise that costs little to make; each number is one of so many. */
function noise(length: number): Float32Array {
  const some = Float32Array.from({ length: Math.min(length, 2 ** 20 - 3) }, () => Math.random())
  const all = new Float32Array(length)
  for (let at = 0; at < length; at += some.length) all.set(some.subarray(0, Math.min(some.length, length - at)), at)
  return all
}

function drawBatch({ image, classes, bank }: TrainingRow, size: number): RawBatch {
  const [height, width, channels] = image
  const labels = Int32Array.from({ length: size }, (_, i) => i % classes)
  const stride = Math.max(1, Math.floor((bank ?? size) / size))
  const indices = Int32Array.from({ length: size }, (_, i) => i * stride)
  const views = [noise(size * height * width * channels)]
  return { views, shape: [size, height, width, channels], indices, labels, step: 0, epoch: 0 }
}

export interface Steps {
  batch: number
  steps: number
  milliseconds: number
  imagesPerSecond: number
  loss: number
}

/** A row at work. */
export interface Training {
  /** At least so many steps for at least so long, each with an upload of its batch and a loss that is read. */
  measure(batch: number, least: { steps: number; seconds: number }): Promise<Steps>
  dispose(): void
}

export function prepareTraining(row: TrainingRow): Training {
  const learner = buildLearner(row)
  const settings = { learningRate, momentum: 0.9, weightDecay: 0 }
  const stepper = optimizers.sgd.create(settings, { weights: learner.weights })
  const crew = { learner, stepper, learning: learner.weights }
  const dice = rollDice(1)
  return {
    async measure(batch, least) {
      const raw = drawBatch(row, batch)
      const behind = readBehind()
      const intake = { batches: 1, next: async () => raw, dice: () => dice }
      let loss = Number.NaN
      const step = () =>
        takeStep(crew, learningRate, intake, behind, (values) => {
          loss = values.loss!
        })
      try {
        for (let i = 0; i < Math.min(warmUp, least.steps); i++) await step()
        await behind.settle()
        const began = performance.now()
        let steps = 0
        for (; steps < least.steps || performance.now() - began < 1000 * least.seconds; steps++) await step()
        await behind.settle()
        const milliseconds = (performance.now() - began) / steps
        return { batch, steps, milliseconds, imagesPerSecond: (1000 * batch) / milliseconds, loss }
      } finally {
        await behind.drop()
      }
    },
    dispose() {
      stepper.dispose()
      learner.dispose()
    },
  }
}

/** Seconds of k-means from points in this process' memory, with what ends up where. */
export async function measureClustering({ n, d, k, iterations }: ClusteringRow) {
  const dice = rollDice(1)
  const clouds = Float32Array.from({ length: 2 * k * d }, () => 4 * dice.normal())
  const data = noise(n * d)
  for (let i = 0, at = 0; i < n; i++) {
    const cloud = dice.below(2 * k) * d
    for (let c = 0; c < d; c++, at++) data[at]! += clouds[cloud + c]!
  }
  const points = { data, width: d }
  const start = pickRows(points, dice.permutation(n).subarray(0, k))
  const run = async () => {
    const began = performance.now()
    const { inertia } = await kMeans(points, { k, iterations, start, dice: rollDice(1) })
    return { seconds: (performance.now() - began) / 1000, inertia: inertia.at(-1)! }
  }
  await run()
  return run()
}

/** TFLOP/s of products of two large matrices on the engine, the best so far after each trial of so many of them. */
export async function* measureMatmul(side: number, products: number): AsyncGenerator<number> {
  const a = tf.tidy(() => tf.mul(tf.randomNormal([side, side]), 1 / Math.sqrt(side)) as Tensor2D)
  let best = Number.POSITIVE_INFINITY
  for (let trial = 0; trial < 4; trial++) {
    const began = performance.now()
    const found = tf.tidy(() => {
      let product: Tensor2D = a
      for (let i = 0; i < products; i++) product = tf.matMul(a, product)
      return tf.slice(product, [0, 0], [1, 1])
    })
    await found.data()
    found.dispose()
    best = Math.min(best, performance.now() - began)
    yield (2 * side ** 3 * products) / best / 1e9
  }
  a.dispose()
}
