import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type OnnxEngine, startOnnx } from '../../../src/engine/onnx/index.ts'
import { graphLimit, recordLimit } from '../../../src/engine/recording/backend.ts'
import { tf } from '../../../src/tf.ts'
import { numbers } from './parity.ts'

let engine: OnnxEngine
const heard: string[] = []
const optimizers: tf.Optimizer[] = []

beforeAll(async () => {
  engine = await startOnnx({ threads: 1, onFallback: (kernel) => heard.push(kernel) })
})

beforeEach(() => engine.resetStats())

afterEach(() => {
  for (const optimizer of optimizers.splice(0)) optimizer.dispose()
  tf.disposeVariables()
})

afterAll(() => engine.dispose())

const { POSITIVE_INFINITY: infinite } = Number

const matrix = (rows: number, columns: number, seed = 1) =>
  tf.tensor2d(
    numbers(rows * columns, seed).map((x) => x / 4),
    [rows, columns],
  )

/** A perceptron that is trained step by step. */
function perceptron(optimizer: tf.Optimizer) {
  const weights = tf.tidy(() => [tf.variable(matrix(6, 8, 2)), tf.variable(matrix(8, 3, 3))])
  optimizers.push(optimizer)
  const step = (seed: number): number => {
    const cost = tf.tidy(() => {
      const x = matrix(4, 6, seed)
      const y = matrix(4, 3, seed + 1)
      const guess = () => tf.matMul(tf.relu(tf.matMul(x, weights[0] as tf.Tensor2D)), weights[1] as tf.Tensor2D)
      return optimizer.minimize(() => tf.mean(tf.squaredDifference(guess(), y)) as tf.Scalar, true)!
    })
    const [value] = cost.dataSync()
    cost.dispose()
    return value!
  }
  return { weights, step }
}

describe('recording', () => {
  it('computes nothing until a number is read, and then all of it in one graph', () => {
    tf.tidy(() => {
      const x = matrix(3, 3)
      const y = tf.relu(tf.matMul(x, x))
      const z = tf.sum(y)
      expect(engine.stats()).toMatchObject({ runs: 0, compiles: 0 })
      z.dataSync()
      y.dataSync()
      expect(engine.stats()).toMatchObject({ runs: 1, compiles: 1 })
    })
  })

  it('computes only what somebody still refers to', () => {
    const kept = tf.tidy(() => {
      const x = matrix(3, 3)
      // Would fail: the place does not exist.
      tf.gather(tf.neg(x), tf.tensor1d([9], 'int32'))
      return tf.sum(x)
    })
    expect(kept.dataSync()).toHaveLength(1)
    kept.dispose()
  })

  it('compiles the same step once, and no other for another learning rate', () => {
    const { step } = perceptron(tf.train.momentum(0.01, 0.9))
    const losses = [1, 2, 3].map(step)
    const { compiles } = engine.stats()
    for (const rate of [0.02, 0.03]) {
      const { step: other } = perceptron(tf.train.momentum(rate, 0.9))
      losses.push(...[1, 2, 3].map(other))
    }
    expect(engine.stats().compiles).toBe(compiles)
    expect(new Set(losses).size).toBe(7)
  })

  it('compiles none for other numbers: bounds, fills, paddings, scalars', () => {
    const compute = (number: number) =>
      tf.tidy(() => {
        const x = tf.neg(matrix(20, 20))
        const clipped = tf.clipByValue(x, -number, number)
        const filled = tf.add(tf.fill([20, 20], number), tf.mul(clipped, number))
        return tf.sum(tf.pad(filled, [[1, 1], [0, 0]], number)).dataSync() // biome-ignore format: pairs
      })
    compute(0.5)
    const first = engine.stats().compiles
    expect(compute(0.25)).not.toEqual(compute(0.125))
    expect(engine.stats().compiles).toBe(first)
  })

  it('compiles anew for other shapes, types, attributes, wirings and results', () => {
    const forms: (() => tf.Tensor | tf.Tensor[])[] = [
      () => tf.sum(matrix(2, 3)),
      () => tf.sum(matrix(3, 2)),
      () => tf.sum(tf.reshape(matrix(2, 3), [3, 2]), 0),
      () => tf.sum(matrix(3, 2), 0),
      () => tf.sum(matrix(3, 2), 1),
      () => tf.sum(tf.cast(matrix(3, 2), 'int32')),
      () => tf.sub(matrix(2, 2), matrix(2, 2, 5)),
      () => tf.tidy(() => { const x = matrix(2, 2); return tf.sub(x, x) }), // biome-ignore format: short
      () => tf.tidy(() => { const y = tf.neg(matrix(2, 2)); return [y, tf.abs(y)] }), // biome-ignore format: short
      () => tf.tidy(() => tf.abs(tf.neg(matrix(2, 2)))),
      // Attributes of which JSON says the same.
      ...[infinite, -infinite, Number.NaN].map((slope) => () => tf.leakyRelu(matrix(2, 2), slope)),
    ]
    for (const form of [...forms, ...forms]) {
      const made = tf.tidy(form as () => tf.Tensor)
      for (const one of [made].flat()) one.dataSync()
      tf.dispose(made)
    }
    expect(engine.stats()).toMatchObject({ runs: 2 * forms.length, compiles: forms.length })
  })

  it('computes rows of a data set, batch by batch, in one graph', () => {
    const data = matrix(12, 4)
    const batches = [0, 1, 2].map((i) => tf.tidy(() => tf.square(tf.slice(data, [4 * i, 0], [4, 4])).dataSync()))
    expect(engine.stats().compiles).toBe(1)
    expect(batches.flatMap((batch) => [...batch])).toEqual([...tf.tidy(() => tf.square(data).dataSync())])
    data.dispose()
  })

  it('keeps no more compiled graphs than its limit, and compiles again what it gave up', () => {
    const sum = (size: number) => tf.tidy(() => tf.sum(tf.neg(tf.ones([size]))).dataSync()[0]!)
    for (let size = 1; size <= graphLimit + 4; size++) expect(sum(size)).toBe(-size)
    expect(engine.stats()).toMatchObject({ sessions: graphLimit, compiles: graphLimit + 4 })
    expect(sum(1)).toBe(-1)
    expect(sum(graphLimit + 4)).toBe(-graphLimit - 4)
    expect(engine.stats().compiles).toBe(graphLimit + 5)
  })

  it('reads arrays when it computes: what is changed before that is seen, what is changed after is not', () => {
    const values = Float32Array.of(1, 2)
    const x = tf.tensor1d(values)
    const y = tf.square(x)
    values[0] = 3
    expect([...y.dataSync()]).toEqual([9, 4])
    values[1] = 5
    expect([...y.dataSync()]).toEqual([9, 4])
    tf.dispose([x, y])
  })
})

describe('many steps', () => {
  it('leave nothing behind: tensors, graphs, memory', () => {
    const { step } = perceptron(tf.train.momentum(1e-3, 0.9))
    for (let i = 1; i <= 500; i++) step(i)
    const before = { ...tf.memory(), sessions: engine.stats().sessions, compiles: engine.stats().compiles }
    const resident: number[] = []
    for (let i = 1; i <= 10_000; i++) {
      step((i % 50) + 1)
      if (i % 1000 === 0) resident.push(process.memoryUsage().rss)
    }
    const after = { ...tf.memory(), sessions: engine.stats().sessions, compiles: engine.stats().compiles }
    expect(after).toEqual(before)
    // From the first thousand on it may go up and down with the collection of garbage.
    const [first, ...rest] = resident as [number, ...number[]]
    expect(Math.min(...rest.slice(-4)) - first).toBeLessThan(30 * 2 ** 20)
  })

  it('are computed at their end by the optimisers of tfjs, so that they do not pile up', () => {
    const { weights } = perceptron(tf.train.sgd(0.1))
    const optimizer = tf.train.sgd(0.1)
    optimizers.push(optimizer)
    const step = () => optimizer.minimize(() => tf.sum(tf.square(weights[0]!)) as tf.Scalar)
    for (let i = 0; i < 20; i++) step()
    expect(engine.stats()).toMatchObject({ runs: 20, compiles: 1 })
    expect(tf.tidy(() => tf.sum(tf.abs(weights[0]!)).dataSync()[0]!)).toBeLessThan(0.2)
  })

  it('are cut where nobody reads a number for long', () => {
    const kept = tf.tidy(() => {
      const x = tf.tensor1d([2])
      const first = tf.square(x)
      // All but the first and the last are given up at once.
      for (let i = 0; i < recordLimit; i++) tf.dispose(tf.add(first, x))
      expect(engine.stats()).toMatchObject({ runs: 1, compiles: 1 })
      return tf.add(first, x)
    })
    expect([...kept.dataSync()]).toEqual([6])
    expect(engine.stats().runs).toBe(2)
    kept.dispose()
  })
})

describe('kernels that the engine does not have', () => {
  it('are computed by tfjs, counted, and told once', () => {
    const twice = () =>
      tf.tidy(() => [...(tf.unique(tf.abs(tf.tensor1d([2, -2, 3]))).values.dataSync() as Float32Array)])
    expect([twice(), twice()]).toEqual([[2, 3], [2, 3]]) // biome-ignore format: pairs
    expect(engine.stats().fallbacks).toEqual({ Unique: 2 })
    expect(heard.filter((kernel) => kernel === 'Unique')).toEqual(['Unique'])
  })

  it('leave nothing on the cpu backend where they refuse their operands', () => {
    const cpu = tf.engine().findBackend('cpu')
    const refused = () =>
      tf.tidy(() => {
        // 5 x 5 numbers cannot become rows of 7.
        const shape = tf.tensor1d([5, 5], 'int32')
        return tf.sparse.sparseReshape(tf.tensor2d([[0, 0]], [1, 2], 'int32'), shape, tf.tensor1d([7, -1], 'int32'))
      })
    const before = cpu.numDataIds()
    expect(refused).toThrow()
    expect(engine.stats().fallbacks).toEqual({ SparseReshape: 1 })
    expect(cpu.numDataIds()).toBe(before)
  })

  it('may be of text and of complex numbers', () => {
    tf.tidy(() => {
      const text = tf.tensor1d(['b', 'a'])
      expect(tf.concat([text, text]).dataSync()).toEqual(['b', 'a', 'b', 'a'])
      const wave = tf.complex([1, 2, 3, 4], [0, 1, 0, -1])
      expect([...tf.real(wave).dataSync()]).toEqual([1, 2, 3, 4])
      expect([...tf.imag(tf.add(wave, wave)).dataSync()]).toEqual([0, 2, 0, -2])
      expect([...tf.real(tf.spectral.fft(wave)).dataSync()]).toEqual([10, 0, -2, -4])
    })
  })

  it('are none where nothing is read: ranges are inputs', () => {
    tf.tidy(() => {
      expect([...tf.neg(tf.range(0, 3)).dataSync()]).toEqual([-0, -1, -2])
      expect([...tf.neg(tf.linspace(0, 1, 3)).dataSync()]).toEqual([-0, -0.5, -1])
    })
    expect(engine.stats().fallbacks).toEqual({})
  })
})

describe('tensors', () => {
  it('move from one backend to the other with their numbers', async () => {
    const x = tf.square(tf.tensor1d([1, 2, 3]))
    await tf.setBackend('cpu')
    const y = tf.add(x, 1)
    await tf.setBackend('onnx')
    expect([...tf.tidy(() => tf.neg(y).dataSync())]).toEqual([-2, -5, -10])
    tf.dispose([x, y])
  })

  it('live as long as one of their views', () => {
    const before = tf.memory().numDataBuffers
    const x = tf.tidy(() => tf.neg(tf.tensor1d([1, 2, 3, 4])))
    const view = tf.reshape(x, [2, 2])
    const copy = tf.clone(view)
    x.dispose()
    view.dispose()
    expect([...copy.dataSync()]).toEqual([-1, -2, -3, -4])
    copy.dispose()
    expect(tf.memory().numDataBuffers).toBe(before)
  })

  it('may be waited for, and timed', async () => {
    const x = tf.neg(tf.tensor1d([1]))
    expect([...(await x.data())]).toEqual([-1])
    expect((await tf.time(() => tf.tidy(() => void tf.square(x)))).kernelMs).toBeGreaterThanOrEqual(0)
    x.dispose()
  })
})
