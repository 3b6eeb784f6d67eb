import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { OnnxEngine } from '../../../src/engine/onnx/index.ts'
import { startWasm } from '../../../src/engine/wasm.ts'
import { type Tensor, tf } from '../../../src/tf.ts'
import { engines } from './engines.ts'
import { distance, numbers, type Outcome } from './parity.ts'

interface Layer {
  filter: number
  from: number
  to: number
  strides?: number
  pool?: number
}

const random = (shape: number[], seed: number, scale = 1) =>
  tf.tensor(
    numbers(
      shape.reduce((a, b) => a * b, 1),
      seed,
    ).map((x) => x * scale),
    shape,
  )

/** Convolution, normalisation over the batch, relu and pooling, then a dense layer and a cross-entropy. */
function gradientsOf(layers: Layer[], side: number, from: number, classes = 5, batch = 4): Outcome[] {
  const tensors = tf.tidy(() => {
    const images = random([batch, side, side, from], 17) as tf.Tensor4D
    const targets = tf.oneHot(tf.tensor1d([0, 1, 4, 2].slice(0, batch), 'int32'), classes)
    const filters = layers.map(({ filter, from, to }, i) => random([filter, filter, from, to], i + 3, 0.3))
    const scales = layers.map(({ to }, i) => random([to], i + 23))
    const features = (learned: Tensor[]) => {
      let x: tf.Tensor4D = images
      for (const [i, { strides = 1, pool }] of layers.entries()) {
        x = tf.conv2d(x, learned[2 * i] as tf.Tensor4D, strides, 'same')
        const offset = tf.zeros([x.shape[3]]) as tf.Tensor1D
        const { mean, variance } = tf.moments(x, [0, 1, 2])
        x = tf.batchNorm(x, mean as tf.Tensor1D, variance as tf.Tensor1D, offset, learned[2 * i + 1] as tf.Tensor1D)
        x = tf.relu(x)
        if (pool) x = tf.maxPool(x, pool, 2, 'same')
      }
      return tf.reshape(x, [batch, -1])
    }
    const learned = layers.flatMap((_, i) => [filters[i]!, scales[i]!])
    const width = features(learned).shape[1]!
    const dense = random([width, classes], 41, 0.1)
    const loss = (...all: Tensor[]) => {
      const logits = tf.matMul(features(all.slice(0, -1)) as tf.Tensor2D, all.at(-1) as tf.Tensor2D)
      return tf.losses.softmaxCrossEntropy(targets, logits) as tf.Scalar
    }
    const { value, grads } = tf.valueAndGrads(loss as never)([...learned, dense])
    return [value, ...grads]
  })
  const outcomes = tensors.map((x) => ({ shape: x.shape, dtype: x.dtype, values: x.dataSync() }))
  tf.dispose(tensors)
  return outcomes
}

const stacks = {
  'a small net': {
    side: 8,
    from: 1,
    layers: [
      { filter: 3, from: 1, to: 8, pool: 2 },
      { filter: 3, from: 8, to: 6 },
    ],
  },
  'a net whose channels lie in blocks': {
    side: 8,
    from: 3,
    layers: [
      { filter: 3, from: 3, to: 16 },
      { filter: 3, from: 16, to: 32, pool: 3 },
      { filter: 1, from: 32, to: 16, strides: 2 },
    ],
  },
  'a net of odd sizes': {
    side: 7,
    from: 3,
    layers: [
      { filter: 5, from: 3, to: 16, strides: 2 },
      { filter: 3, from: 16, to: 5, pool: 2 },
    ],
  },
}

describe.each(engines)('a whole net on the %s engine', (name, start) => {
  let engine: OnnxEngine

  beforeAll(async () => {
    await startWasm()
    engine = await start({ threads: 2 })
  })

  afterAll(() => engine.dispose())

  it.each(Object.entries(stacks))('has the gradients of cpu and wasm: %s', async (_, { layers, side, from }) => {
    const on = async (backend: string) => {
      await tf.setBackend(backend)
      return gradientsOf(layers, side, from)
    }
    engine.resetStats()
    const got = await on(name)
    expect(engine.stats()).toMatchObject({ fallbacks: {} })
    for (const reference of ['cpu', 'wasm'])
      for (const [i, wanted] of (await on(reference)).entries())
        expect(distance(got[i]!, wanted), `${reference}, gradient ${i}`).toBeLessThan(1e-5)
  })

  it('learns by model.fit without a kernel that the engine does not have, and compiles each kind of step once', async () => {
    await tf.setBackend(name)
    const initial = () => tf.initializers.glorotUniform({ seed: 3 })
    const model = tf.sequential({
      layers: [
        tf.layers.conv2d({
          inputShape: [8, 8, 1],
          filters: 16,
          kernelSize: 3,
          activation: 'relu',
          kernelInitializer: initial(),
        }),
        tf.layers.batchNormalization(),
        tf.layers.maxPooling2d({ poolSize: 2 }),
        tf.layers.flatten(),
        tf.layers.dropout({ rate: 0.2, seed: 5 }),
        tf.layers.dense({ units: 2, activation: 'softmax', kernelInitializer: initial() }),
      ],
    })
    model.compile({ optimizer: tf.train.adam(0.02), loss: 'categoricalCrossentropy', metrics: ['accuracy'] })
    // Bright on the left, or on the right.
    const labels = Array.from({ length: 32 }, (_, i) => i % 2)
    const noise = numbers(32 * 64, 9)
    const pixels = noise.map((x, i) => x + (Math.floor((i % 8) / 4) === labels[Math.floor(i / 64)] ? 2 : 0))
    const images = tf.tensor(pixels, [32, 8, 8, 1])
    const targets = tf.oneHot(tf.tensor1d(labels, 'int32'), 2)
    engine.resetStats()
    const learn = () => model.fit(images, targets, { epochs: 6, batchSize: 8, verbose: 0, shuffle: false })
    const { history } = await learn()
    expect(history.acc!.at(-1)).toBe(1)
    await learn()
    const { fallbacks, compiles } = engine.stats()
    expect(fallbacks).toEqual({})
    await learn()
    expect(engine.stats().compiles - compiles).toBe(0)
    model.dispose()
    tf.dispose([images, targets])
  })
})
