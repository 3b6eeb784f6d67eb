import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { whyNotHere } from '../../../../src/engine/onnx/cuda/index.ts'
import { parseDefinition } from '../../../../src/experiments/definition.ts'
import { createMemoryContext, memoryBytes } from '../../../../src/experiments/memory-context.ts'
import { perform } from '../../../../src/experiments/perform.ts'
import { tf } from '../../../../src/tf.ts'
import { type Listed, startListing } from './processor.ts'

const methods = [
  { name: 'npid', dimension: 8 },
  { name: 'npid', dimension: 8, negatives: 6, zMode: 'ema', proximal: 1 },
  { name: 'supervised' },
  { name: 'swwae' },
]

const definition = (method: object) =>
  parseDefinition({
    version: 1,
    name: 'on-the-device',
    seed: 3,
    dataset: { name: 'shapes', images: 120, testImages: 40, classes: 4, height: 8, width: 8, clutter: 0 },
    net: { name: 'small' },
    method,
    training: { epochs: 1, batchSize: 40 },
    evaluations: [],
  })

describe.skipIf(whyNotHere())('training by the engine for CUDA, on the processor', () => {
  let listed: Listed

  beforeAll(async () => {
    listed = await startListing({ threads: 1 })
  })

  afterAll(() => listed.engine.dispose())

  it.each(methods)(
    'uses only operators that CUDA has kernels for, in types that it has them for: $name',
    async (method) => {
      listed.operators.clear()
      listed.engine.resetStats()
      await perform(definition(method), createMemoryContext(memoryBytes()))
      expect(listed.engine.stats()).toMatchObject({ fallbacks: {} })
      expect(listed.operators.size).toBeGreaterThan(20)
      expect([...listed.operators.keys()].filter((text) => text.startsWith('com.microsoft.nchwc'))).toEqual([])
      expect(Object.fromEntries(listed.lacking)).toEqual({})
    },
  )

  it('keeps weights where they are, and takes no more memory after 2,000 steps', async () => {
    const { computer, engine } = listed
    const weights = tf.variable(tf.fill([784, 16], 0.01))
    const optimizer = tf.train.momentum(0.001, 0.9)
    const images = Float32Array.from({ length: 8 * 784 }, (_, i) => Math.sin(i * 12.9898))
    const step = () => {
      const loss = tf.tidy(() => {
        const x = tf.tensor2d(images.slice(), [8, 784])
        return optimizer.minimize(() => tf.mean(tf.square(tf.matMul(x, weights as unknown as tf.Tensor2D))), true)!
      })
      const [value] = loss.dataSync()
      loss.dispose()
      return value!
    }
    const first = step()
    for (let i = 0; i < 20; i++) step()
    const { compiles } = engine.stats()
    const [tensors, taken, resident] = [tf.memory().numTensors, computer.memoryBytes(), process.memoryUsage().rss]
    let last = 0
    for (let i = 0; i < 2000; i++) last = step()
    expect(last).toBeLessThan(first)
    expect(engine.stats()).toMatchObject({ compiles, fallbacks: {} })
    expect(tf.memory().numTensors).toBe(tensors)
    expect(computer.memoryBytes()).toBe(taken)
    // A batch that stayed at every step would take 50 MB, its value on the device as much again.
    expect((process.memoryUsage().rss - resident) / 2 ** 20).toBeLessThan(90)
    tf.dispose([weights])
  })
})
