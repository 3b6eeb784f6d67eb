import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { RecordingBackend } from '../../../src/engine/recording/backend.ts'
import { type GpuEngine, startWebGpu } from '../../../src/engine/webgpu/index.ts'
import { adam, adamw } from '../../../src/models/training/adam.ts'
import { lars } from '../../../src/models/training/lars.ts'
import { sgd } from '../../../src/models/training/sgd.ts'
import { type Tensor, tf, type Variable } from '../../../src/tf.ts'
import { defaultsOf } from '../../models/tiny.ts'
import { hasSwiftShader, onlySwiftShader, swiftShaderChoice } from '../../swiftshader.ts'
import { numbers } from '../onnx/parity.ts'

onlySwiftShader()

/** Some of one shape, one of a single number, and one whose rows are no multiple of what a binding begins at. */
const shapes: Record<string, number[]> = {
  'conv/filters': [3, 3, 2, 8],
  'norm/scale': [8],
  'norm/shift': [8],
  gain: [1],
  'dense/weights': [7, 13],
  'dense/bias': [13],
}
const sizeOf = (shape: readonly number[]) => shape.reduce((size, side) => size * side, 1)
const steps = 5

/** Weights, and steps for the loss sum sin(w x) over twenty images x. */
function train(optimizer: typeof sgd | typeof adam | typeof adamw | typeof lars, given: Record<string, unknown>) {
  const weights = Object.fromEntries(
    Object.entries(shapes).map(([name, shape], i): [string, Variable] => [
      name,
      tf.variable(tf.tensor(numbers(sizeOf(shape), i + 1), shape)),
    ]),
  )
  const parameters = defaultsOf(optimizer.parameters, given)
  const stepper = optimizer.create(parameters as never, { weights, groups: undefined } as never)
  const images = Object.values(shapes).map((shape, i) => tf.tensor(numbers(20 * sizeOf(shape), i + 50), [20, ...shape]))
  const all = Object.values(weights)
  const take = (step: number) =>
    tf.tidy(() => {
      const loss = (...values: Tensor[]) => {
        // Each gradient is a sum over images, as those of a net are.
        const apart = values.map((value, i) => tf.sum(tf.sin(tf.mul(value, images[i]!))))
        return tf.addN(apart) as tf.Scalar
      }
      const gradients = tf.grads(loss as (...x: Tensor[]) => Tensor)(all as Tensor[])
      stepper.apply(Object.fromEntries(Object.keys(shapes).map((name, i) => [name, gradients[i]!])), 0.02 / (step + 1))
    })
  const read = async () => {
    const found = new Map<string, Float32Array>()
    for (const [name, weight] of Object.entries(weights)) found.set(name, (await weight.data()) as Float32Array)
    return found
  }
  const dispose = () => {
    stepper.dispose()
    tf.dispose([weights, images])
  }
  return { weights, take, read, dispose }
}

/** How many dispatches fewer a step has once arrays lie in a row: five weights have more than one number. */
const cases = [
  { optimizer: sgd, given: { momentum: 0.9, weightDecay: 0.01 }, fewer: 4 },
  // Its means, then its weights.
  { optimizer: adam, given: {}, fewer: 8 },
  { optimizer: adamw, given: { weightDecay: 0.1 }, fewer: 8 },
  // Three vectors; other weights have a trust ratio each.
  { optimizer: lars, given: {}, fewer: 2 },
]

describe.runIf(hasSwiftShader)('an optimizer on WebGPU', () => {
  let engine: GpuEngine | undefined

  beforeEach(async () => {
    await tf.setBackend('cpu')
  })

  afterEach(() => {
    engine?.dispose()
    engine = undefined
  })

  const start = async () => {
    engine = await startWebGpu({ choice: swiftShaderChoice })
    return engine
  }

  const endStep = () => (tf.backend() as RecordingBackend).endStep()

  it.each(cases)('$optimizer.name moves weights as tfjs does: $given', async ({ optimizer, given }) => {
    const reference = train(optimizer as typeof sgd, given)
    for (let step = 0; step < steps; step++) reference.take(step)
    const wanted = await reference.read()
    reference.dispose()
    await start()
    const ours = train(optimizer as typeof sgd, given)
    for (let step = 0; step < steps; step++) {
      ours.take(step)
      await endStep()
    }
    const found = await ours.read()
    ours.dispose()
    for (const [name, values] of wanted)
      for (const [i, value] of values.entries()) expect(found.get(name)![i], `${name} ${i}`).toBeCloseTo(value, 5)
  })

  it.each(cases)(
    '$optimizer.name updates weights together once they lie in a row: $given',
    async ({ optimizer, given, fewer }) => {
      const { traffic } = await start()
      const { weights, take, dispose } = train(optimizer as typeof sgd, given)
      const counts: number[] = []
      for (let step = 0; step < steps; step++) {
        const before = traffic().dispatches
        take(step)
        await weights.gain!.data()
        counts.push(traffic().dispatches - before)
      }
      dispose()
      expect(counts.slice(2)).toEqual([counts[2], counts[2], counts[2]])
      expect(counts[0]! - counts[2]!).toBe(fewer)
    },
  )

  it('leaves what was kept of earlier weights as it was, and gives all memory back', async () => {
    const { memory } = await start()
    const before = memory().used
    const { weights, take, dispose } = train(sgd, { momentum: 0.9 })
    const kept: { copy: Tensor; values: Float32Array }[] = []
    for (let step = 0; step < steps; step++) {
      take(step)
      await endStep()
      for (const weight of Object.values(weights)) {
        const copy = tf.clone(weight as Tensor)
        kept.push({ copy, values: (await copy.data()).slice() as Float32Array })
      }
    }
    for (const { copy, values } of kept) expect([...(await copy.data())]).toEqual([...values])
    tf.dispose(kept.map(({ copy }) => copy))
    dispose()
    for (let i = 0; i < 3; i++) {
      const one = tf.tidy(() => tf.neg(tf.tensor1d([1])))
      await one.data()
      one.dispose()
    }
    // Single numbers that came more than once stay.
    expect(memory().used - before).toBeLessThan(4096)
  })

  it('writes rows of one weight into another that lies in the same buffer', async () => {
    await start()
    const [bank, rows] = [
      tf.variable(tf.tensor2d(numbers(40, 1), [10, 4])),
      tf.variable(tf.tensor2d(numbers(8, 2), [2, 4])),
    ]
    const places = tf.tensor2d([7, 2], [2, 1], 'int32')
    for (let step = 0; step < 3; step++) {
      tf.tidy(() => {
        bank.assign(tf.mul(bank, 0.5))
        rows.assign(tf.mul(rows, 0.5))
      })
      await endStep()
    }
    tf.tidy(() => bank.assign(tf.tensorScatterUpdate(bank, places, rows)))
    await endStep()
    const found = await bank.data()
    const wanted = Float32Array.from(numbers(40, 1), (x) => x / 8)
    for (const [r, row] of [7, 2].entries())
      wanted.set(
        numbers(8, 2)
          .slice(4 * r, 4 * r + 4)
          .map((x) => x / 8),
        4 * row,
      )
    expect([...found]).toEqual([...wanted])
    tf.dispose([bank, rows, places])
  })
})
