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
    expect(Math.max(...stepper.slots['a/w']!.dataSync())).toBeGreaterThan(0)
    stepper.reset(['a/w'])
    expect([...stepper.slots['a/w']!.dataSync()]).toEqual([0, 0, 0])
    stepper.dispose()
    weight.dispose()
  })
})
