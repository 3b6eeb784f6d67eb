import { setImmediate } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { RawBatch } from '../../../src/data/loader.ts'
import { type GpuEngine, startWebGpu } from '../../../src/engine/webgpu/index.ts'
import type { Traffic } from '../../../src/engine/webgpu/traffic.ts'
import { rollDice } from '../../../src/models/dice.ts'
import { npid } from '../../../src/models/methods/npid.ts'
import { whatWhere } from '../../../src/models/methods/what-where.ts'
import { optimizers } from '../../../src/models/training/optimizer.ts'
import { readBehind } from '../../../src/models/training/reading.ts'
import { takeStep } from '../../../src/models/training/step.ts'
import { tf } from '../../../src/tf.ts'
import { buildTiny, tinyCorpus } from '../../models/tiny.ts'
import { hasSwiftShader, onlySwiftShader, swiftShaderChoice } from '../../swiftshader.ts'

const size = 16
/** Until shaders are compiled, Z is known and all buffers are made; then those that are looked at. */
const [warmUp, steps] = [5, 20]

describe.runIf(hasSwiftShader)('a training step on WebGPU', () => {
  let engine: GpuEngine

  beforeEach(async () => {
    onlySwiftShader()
    engine = await startWebGpu({ choice: swiftShaderChoice })
  })

  afterEach(() => engine.dispose())

  /** What so many steps of a method carried to and fro, and the memory before and after them. */
  async function train(method: unknown, parameters: Record<string, unknown>) {
    const corpus = await tinyCorpus(160)
    const { learner } = buildTiny(method, parameters, corpus)
    const stepper = optimizers.sgd.create({ learningRate: 0.02, momentum: 0.9, weightDecay: 0.001 }, learner)
    const crew = { learner, stepper, learning: learner.weights }
    const behind = readBehind()
    const shape = [size, ...corpus.train.imageShape] as RawBatch['shape']
    const count = shape.reduce((product, side) => product * side, 1)
    const told: Record<string, number>[] = []
    const take = async (step: number) => {
      const dice = rollDice(7).for('step', step)
      const views = [Float32Array.from({ length: count }, () => dice.uniform())]
      const indices = Int32Array.from({ length: size }, (_, i) => (step * size + i) % corpus.train.size)
      const raw: RawBatch = { views, shape, indices, labels: indices.map((i) => i % 4), step, epoch: 0 }
      // A learning rate that differs from step to step must not be another graph.
      const intake = { batches: 1, next: async () => raw, dice: () => dice }
      await takeStep(crew, 0.02 / (step + 1), intake, behind, (values) => void told.push(values))
      await setImmediate()
    }
    for (let step = 0; step < warmUp; step++) await take(step)
    await behind.settle()
    const before = { ...engine.traffic(), ...engine.memory(), ...engine.stats(), tensors: tf.memory().numTensors }
    for (let step = warmUp; step < warmUp + steps; step++) await take(step)
    await behind.settle()
    const after = { ...engine.traffic(), ...engine.memory(), ...engine.stats(), tensors: tf.memory().numTensors }
    stepper.dispose()
    learner.dispose()
    const each = (name: keyof Traffic) => (after[name] - before[name]) / steps
    const scalars = Object.keys(told.at(-1)!).filter((name) => name !== 'learningRate')
    expect(told).toHaveLength(warmUp + steps)
    expect(told.every(({ loss }) => Number.isFinite(loss))).toBe(true)
    return { before, after, each, scalars, batchBytes: 4 * count }
  }

  it.each([
    { dimension: 8, negatives: 'all' },
    { dimension: 8, negatives: 12, zMode: 'ema', proximal: 1 },
  ])('brings its batch there and its scalars back, in three submissions: npid with $negatives', async (parameters) => {
    const { before, after, each, scalars, batchBytes } = await train(npid, parameters)
    expect(scalars.length).toBeGreaterThan(2)
    // Which images, and the learning rate, beside the images themselves; which negatives.
    const drawn = parameters.negatives === 'all' ? 0 : 4 * size * ((parameters.negatives as number) + 1)
    expect(each('uploadedBytes')).toBeGreaterThan(batchBytes)
    expect(each('uploadedBytes')).toBeLessThan(batchBytes + drawn + 512)
    expect(each('uploads')).toBeLessThan(12)
    expect([each('reads'), each('readBytes')]).toEqual([1, 4 * scalars.length])
    // The graph of the step, the rows of the bank, and the copy of the scalars.
    expect(each('submissions')).toBe(3)
    expect(after.runs - before.runs).toBe(steps)
    // Nothing grows, and nothing is compiled again.
    const constant = ['buffers', 'used', 'all', 'compiles', 'fallbacks', 'tensors'] as const
    expect(constant.map((name) => after[name])).toEqual(constant.map((name) => before[name]))
  })

  it('brings nothing there that is known beforehand: what-where with its switches', async () => {
    const { each, scalars, batchBytes } = await train(whatWhere, {})
    // Of the labels, for each class what should be and which come before; places and shares. Then the learning rate.
    const labelBytes = 4 * size * (2 * 4 + 2)
    expect(each('uploadedBytes')).toBeLessThan(batchBytes + labelBytes + 64)
    expect([each('reads'), each('readBytes'), each('submissions')]).toEqual([1, 4 * scalars.length, 2])
  })
})
