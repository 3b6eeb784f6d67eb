import { beforeAll, describe, expect, it } from 'vitest'
import { chooseEngine } from '../../../src/engine/choose.ts'
import { rollDice } from '../../../src/models/dice.ts'
import { type Norm, normaliseBatch, normaliseRunning } from '../../../src/models/layers/norm.ts'
import { type Tensor4D, tf } from '../../../src/tf.ts'

beforeAll(async () => {
  await chooseEngine('auto')
})

const dice = rollDice(3)
const shape: [number, number, number, number] = [4, 3, 2, 2]
const count = shape[0] * shape[1] * shape[2]
const values = Float32Array.from({ length: count * shape[3] }, () => 1 + 2 * dice.normal())
const scale = Float32Array.of(1.5, -0.7)
const offset = Float32Array.of(0.2, 0.4)

const makeNorm = (): Norm => ({
  scale: tf.variable(tf.tensor1d(scale)),
  offset: tf.variable(tf.tensor1d(offset)),
  mean: tf.variable(tf.zeros([2])),
  variance: tf.variable(tf.ones([2])),
})

/** The layer in a few lines of double precision. */
function reference(x: ArrayLike<number>, gamma: ArrayLike<number>, beta: ArrayLike<number>) {
  const channel = (c: number) => Array.from({ length: count }, (_, i) => x[i * 2 + c]!)
  const mean = [0, 1].map((c) => channel(c).reduce((a, b) => a + b) / count)
  const variance = [0, 1].map((c) => channel(c).reduce((a, b) => a + (b - mean[c]!) ** 2, 0) / count)
  const y = Array.from(x, (value, i) => {
    const c = i % 2
    return Math.max(0, (gamma[c]! * (value - mean[c]!)) / Math.sqrt(variance[c]! + 1e-5) + beta[c]!)
  })
  return { y, mean, variance }
}

/** A loss that weighs every output differently. */
const weightOf = (i: number) => Math.sin(i + 1)
const loss = (y: readonly number[]) => y.reduce((sum, value, i) => sum + weightOf(i) * value, 0)

describe('batch norm with relu', () => {
  it('normalises by the batch and moves the running statistics a tenth of the way', () => {
    tf.tidy(() => {
      const norm = makeNorm()
      const y = normaliseBatch(tf.tensor4d(values, shape), norm).dataSync()
      const expected = reference(values, scale, offset)
      for (let i = 0; i < y.length; i++) expect(y[i]).toBeCloseTo(expected.y[i]!, 4)
      const [mean, variance] = [norm.mean.dataSync(), norm.variance.dataSync()]
      for (const c of [0, 1]) {
        expect(mean[c]).toBeCloseTo(0.1 * expected.mean[c]!, 5)
        expect(variance[c]).toBeCloseTo(0.9 + 0.1 * expected.variance[c]!, 5)
      }
    })
  })

  it('has the gradients that finite differences find', () => {
    const norm = makeNorm()
    const weights = tf.tensor4d(
      Array.from(values, (_, i) => weightOf(i)),
      shape,
    )
    const gradients = tf.tidy(() =>
      tf
        .grads((x, gamma, beta) =>
          tf.sum(
            tf.mul(normaliseBatch(x as Tensor4D, { ...norm, scale: gamma as never, offset: beta as never }), weights),
          ),
        )([tf.tensor4d(values, shape), norm.scale, norm.offset])
        .map((gradient) => gradient.dataSync()),
    )
    const inputs = [values, scale, offset]
    const step = 1e-5
    inputs.forEach((input, which) => {
      for (let i = 0; i < input.length; i++) {
        const moved = (by: number) => {
          const [x, gamma, beta] = inputs.map((array) => Float64Array.from(array)) as [
            Float64Array,
            Float64Array,
            Float64Array,
          ]
          ;[x, gamma, beta][which]![i]! += by
          return loss(reference(x, gamma, beta).y)
        }
        expect(gradients[which]![i]).toBeCloseTo((moved(step) - moved(-step)) / (2 * step), 2)
      }
    })
    tf.dispose([norm.scale, norm.offset, norm.mean, norm.variance, weights])
  })

  it('is the same without relu, where that is asked for, with its gradients', () => {
    tf.tidy(() => {
      const [norm, plain] = [makeNorm(), makeNorm()]
      const weights = tf.tensor4d(
        Array.from(values, (_, i) => weightOf(i)),
        shape,
      )
      const gradientsOf = (layer: (x: Tensor4D, own: Norm) => Tensor4D, own: Norm) =>
        tf.grads((x, gamma, beta) =>
          tf.sum(tf.mul(layer(x as Tensor4D, { ...own, scale: gamma as never, offset: beta as never }), weights)),
        )([tf.tensor4d(values, shape), own.scale, own.offset])
      const together = gradientsOf((x, own) => normaliseBatch(x, own), norm)
      const apart = gradientsOf((x, own) => tf.relu(normaliseBatch(x, own, { relu: false })), plain)
      together.forEach((gradient, which) => {
        const other = apart[which]!.dataSync()
        for (const [i, value] of gradient.dataSync().entries()) expect(other[i]).toBeCloseTo(value, 4)
      })
      expect(plain.mean.dataSync()).toEqual(norm.mean.dataSync())
      const frozen = normaliseRunning(tf.tensor4d(values, shape), norm, { relu: false })
      expect(Math.min(...frozen.dataSync())).toBeLessThan(0)
    })
  })

  it('evaluates with the running statistics and leaves them as they are', () => {
    tf.tidy(() => {
      const norm = makeNorm()
      norm.mean.assign(tf.tensor1d([0.5, 1]))
      norm.variance.assign(tf.tensor1d([4, 0.25]))
      const y = normaliseRunning(tf.tensor4d(values, shape), norm).dataSync()
      const inverse = [1 / Math.sqrt(4 + 1e-5), 1 / Math.sqrt(0.25 + 1e-5)]
      for (let i = 0; i < y.length; i++) {
        const c = i % 2
        const expected = scale[c]! * (values[i]! - [0.5, 1][c]!) * inverse[c]! + offset[c]!
        expect(y[i]).toBeCloseTo(Math.max(0, expected), 4)
      }
      expect([...norm.mean.dataSync()]).toEqual([0.5, 1])
      expect([...norm.variance.dataSync()]).toEqual([4, 0.25])
    })
  })
})
