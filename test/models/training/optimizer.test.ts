import { beforeAll, describe, expect, it } from 'vitest'
import { chooseEngine } from '../../../src/engine/choose.ts'
import { optimizers } from '../../../src/models/training/optimizer.ts'
import { tf, type Variable } from '../../../src/tf.ts'

beforeAll(async () => {
  await chooseEngine('auto')
})

const parameters = { learningRate: 0.1, momentum: 0.9, weightDecay: 0.01 }
const start = [0.5, -1, 2]
const gradients = [
  [0.1, 0.2, -0.3],
  [-0.2, 0.4, 0.1],
  [0.3, 0, 0.2],
]

/** SGD in a few lines. */
function reference(rates: number[], momentum: number, weightDecay: number): number[] {
  const weight = [...start]
  const velocity = [0, 0, 0]
  gradients.forEach((gradient, step) => {
    for (let i = 0; i < 3; i++) {
      velocity[i] = momentum * velocity[i]! + gradient[i]! + weightDecay * weight[i]!
      weight[i]! -= rates[step]! * velocity[i]!
    }
  })
  return weight
}

function take(weight: Variable, rates: number[], groups?: Parameters<typeof optimizers.sgd.create>[1]['groups']) {
  const stepper = optimizers.sgd.create(parameters, { weights: { 'a/w': weight }, ...(groups ? { groups } : {}) })
  gradients.forEach((gradient, step) => {
    tf.tidy(() => stepper.apply({ 'a/w': tf.tensor1d(gradient) }, rates[step]!))
  })
  return stepper
}

function expectClose(found: ArrayLike<number>, expected: number[]): void {
  for (let i = 0; i < expected.length; i++) expect(found[i]).toBeCloseTo(expected[i]!, 6)
}

const numbersOf = (slot: Variable | Float32Array) => (slot instanceof Float32Array ? slot : slot.dataSync())

describe('stochastic gradient descent', () => {
  it('does what a few lines do, with momentum, weight decay and a changing rate', () => {
    const before = tf.memory().numTensors
    const weight = tf.variable(tf.tensor1d(start))
    const stepper = take(weight, [0.1, 0.05, 0.2])
    expectClose(weight.dataSync(), reference([0.1, 0.05, 0.2], 0.9, 0.01))
    stepper.dispose()
    weight.dispose()
    expect(tf.memory().numTensors - before).toBe(1)
  })

  it('makes the exceptions that a learner asks for', () => {
    const weight = tf.variable(tf.tensor1d(start))
    take(weight, [0.1, 0.1, 0.1], [{ weights: /\/w$/, learningRate: 2, momentum: 0, weightDecay: 0 }]).dispose()
    expectClose(weight.dataSync(), reference([0.2, 0.2, 0.2], 0, 0))
    weight.dispose()
  })

  it('forgets its slots of the weights that were drawn anew', () => {
    const weight = tf.variable(tf.tensor1d(start))
    const stepper = take(weight, [0.1, 0.1, 0.1])
    expect(Math.max(...numbersOf(stepper.slots['a/w']!))).toBeGreaterThan(0)
    stepper.reset(['a/w'])
    expect([...numbersOf(stepper.slots['a/w']!)]).toEqual([0, 0, 0])
    stepper.dispose()
    weight.dispose()
  })
})

/** Adam in a few lines. */
function adamReference(rates: number[], { decay = 0, decoupled = false }: { decay?: number; decoupled?: boolean }) {
  const [b1, b2, epsilon] = [0.9, 0.99, 1e-4]
  const weight = [...start]
  const [mean, square] = [
    [0, 0, 0],
    [0, 0, 0],
  ]
  gradients.forEach((gradient, step) => {
    for (let i = 0; i < 3; i++) {
      const g = gradient[i]! + (decoupled ? 0 : decay * weight[i]!)
      mean[i] = b1 * mean[i]! + (1 - b1) * g
      square[i] = b2 * square[i]! + (1 - b2) * g * g
      const move = mean[i]! / (1 - b1 ** (step + 1)) / (Math.sqrt(square[i]! / (1 - b2 ** (step + 1))) + epsilon)
      if (decoupled) weight[i]! -= rates[step]! * decay * weight[i]!
      weight[i]! -= rates[step]! * move
    }
  })
  return weight
}

const adamParameters = { learningRate: 0.1, momentum: 0.9, squareMomentum: 0.99, epsilon: 1e-4, weightDecay: 0.2 }
const rates = [0.1, 0.05, 0.2]

describe.each([
  ['adam', false],
  ['adamw', true],
] as const)('%s', (name, decoupled) => {
  const optimizer = optimizers[name]
  const run = (weights: Record<string, Variable>, groups?: Parameters<typeof optimizer.create>[1]['groups']) => {
    const stepper = optimizer.create(adamParameters, groups ? { weights, groups } : { weights })
    gradients.forEach((gradient, step) => {
      tf.tidy(() => stepper.apply({ w: tf.tensor1d(gradient) }, rates[step]!))
    })
    return stepper
  }

  it('does what a few lines do, decay and a changing rate included', () => {
    const before = tf.memory().numTensors
    const weight = tf.variable(tf.tensor1d(start))
    const stepper = run({ w: weight })
    expectClose(weight.dataSync(), adamReference(rates, { decay: 0.2, decoupled }))
    stepper.dispose()
    weight.dispose()
    expect(tf.memory().numTensors - before).toBe(1)
  })

  it('makes the exceptions that a learner asks for', () => {
    const weight = tf.variable(tf.tensor1d(start))
    run({ w: weight }, [{ weights: /^w$/, learningRate: 2, weightDecay: 0 }]).dispose()
    expectClose(
      weight.dataSync(),
      adamReference(
        rates.map((rate) => 2 * rate),
        {},
      ),
    )
    weight.dispose()
  })

  it('goes one rate far at first, and again once its slots are forgotten, of one weight and not of the other', () => {
    const weights = { w: tf.variable(tf.tensor1d(start)), u: tf.variable(tf.tensor1d(start)) }
    const stepper = optimizer.create({ ...adamParameters, epsilon: 1e-8, weightDecay: 0 }, { weights })
    const step = (gradient: number[]) => {
      const before = { w: weights.w.dataSync().slice(), u: weights.u.dataSync().slice() }
      tf.tidy(() => stepper.apply({ w: tf.tensor1d(gradient), u: tf.tensor1d(gradient) }, 0.1))
      return {
        w: weights.w.dataSync().map((value, i) => value - before.w[i]!),
        u: weights.u.dataSync().map((value, i) => value - before.u[i]!),
      }
    }
    expectClose(step([3, -0.01, 20]).w, [-0.1, 0.1, -0.1])
    stepper.reset(['w'])
    const { w, u } = step([-3, 0.01, -20])
    expectClose(w, [0.1, -0.1, 0.1])
    expect(Math.abs(u[0]!)).toBeLessThan(0.05)
    expect([...numbersOf(stepper.slots.taken!)]).toEqual([1, 2])
    stepper.dispose()
    tf.dispose(weights)
  })
})

describe('lars', () => {
  const larsParameters = { learningRate: 1, momentum: 0.5, weightDecay: 0.1, trust: 0.02, vectors: 'plain' as const }
  const matrix = (values: number[]) => tf.tensor2d(values, [3, 1])

  it('takes steps of the agreed share of a layer, as a few lines do', () => {
    const weight = tf.variable(matrix(start))
    const stepper = optimizers.lars.create(larsParameters, { weights: { w: weight } })
    const own = [...start]
    let velocity = [0, 0, 0]
    gradients.forEach((gradient, step) => {
      const force = gradient.map((g, i) => g + 0.1 * own[i]!)
      const ratio = (0.02 * Math.hypot(...own)) / Math.hypot(...force)
      velocity = velocity.map((v, i) => 0.5 * v + ratio * force[i]!)
      velocity.forEach((v, i) => {
        own[i]! -= rates[step]! * v
      })
      tf.tidy(() => stepper.apply({ w: matrix(gradient) }, rates[step]!))
    })
    expectClose(weight.dataSync(), own)
    stepper.dispose()
    weight.dispose()
  })

  it('takes plain steps where a layer or its gradient is all zeros, and with vectors', () => {
    const weights = {
      w: tf.variable(matrix([0, 0, 0])),
      still: tf.variable(matrix(start)),
      v: tf.variable(tf.tensor1d(start)),
    }
    const stepper = optimizers.lars.create({ ...larsParameters, weightDecay: 0 }, { weights })
    tf.tidy(() => {
      stepper.apply({ w: matrix([1, 2, 3]), still: matrix([0, 0, 0]), v: tf.tensor1d([1, 2, 3]) }, 0.1)
    })
    expectClose(weights.w.dataSync(), [-0.1, -0.2, -0.3])
    expectClose(weights.still.dataSync(), start)
    expectClose(weights.v.dataSync(), [0.4, -1.2, 1.7])
    stepper.dispose()
    tf.dispose(weights)
  })

  it('treats vectors alike where it is asked to', () => {
    const weight = tf.variable(tf.tensor1d([3, 4, 0]))
    const stepper = optimizers.lars.create(
      { ...larsParameters, vectors: 'alike', weightDecay: 0 },
      { weights: { v: weight } },
    )
    tf.tidy(() => stepper.apply({ v: tf.tensor1d([0, 0, 10]) }, 1))
    expectClose(weight.dataSync(), [3, 4, -0.1])
    stepper.dispose()
    weight.dispose()
  })
})
