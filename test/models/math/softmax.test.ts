import { beforeAll, describe, expect, it } from 'vitest'
import { chooseEngine } from '../../../src/engine/choose.ts'
import { rollDice } from '../../../src/models/dice.ts'
import { estimateLogZ, noiseContrastiveLoss, scoreRows, softmaxLoss } from '../../../src/models/math/softmax.ts'
import { type Tensor, type Tensor1D, type Tensor2D, tf } from '../../../src/tf.ts'

const dice = rollDice(5)
const draw = (count: number) => Float32Array.from({ length: count }, () => dice.normal())
const units = (count: number, width: number) => {
  const data = draw(count * width)
  for (let i = 0; i < count; i++) {
    const row = data.subarray(i * width, (i + 1) * width)
    const length = Math.hypot(...row)
    row.forEach((value, c) => {
      row[c] = value / length
    })
  }
  return data
}

const [b, n, d] = [4, 9, 5]
const own = Int32Array.of(2, 8, 2, 0)

/** log sum exp - own, in double precision. */
function reference(features: ArrayLike<number>, rows: ArrayLike<number>, temperature: number): number[] {
  return Array.from({ length: b }, (_, i) => {
    const logit = (j: number) => {
      let dot = 0
      for (let c = 0; c < d; c++) dot += features[i * d + c]! * rows[j * d + c]!
      return dot / temperature
    }
    const logits = Array.from({ length: n }, (_, j) => logit(j))
    const most = Math.max(...logits)
    return most + Math.log(logits.reduce((sum, value) => sum + Math.exp(value - most), 0)) - logits[own[i]!]!
  })
}

const total = (values: number[]) => values.reduce((sum, value, i) => sum + (i + 1) * value, 0)

describe.each(['auto', 'wasm'] as const)('the exact softmax over a bank on %s', (engine) => {
  beforeAll(async () => {
    await chooseEngine(engine)
  })

  it('takes a batch and a bank of the size of the recipe', () => {
    const [features, rows] = [units(128, 16), units(5000, 16)]
    const places = Int32Array.from({ length: 128 }, (_, i) => 39 * i)
    const losses = tf.tidy(() =>
      softmaxLoss(tf.tensor2d(features, [128, 16]), tf.tensor2d(rows, [5000, 16]), places, 0.07).dataSync(),
    )
    expect(Math.min(...losses)).toBeGreaterThan(0)
    expect(Math.max(...losses)).toBeLessThan(2 * 16 + Math.log(5000))
  })

  it.each([0.07, 0.5, 0.002])('is -log of the own share at temperature %s', (temperature) => {
    const [features, rows] = [units(b, d), units(n, d)]
    const losses = tf.tidy(() =>
      softmaxLoss(tf.tensor2d(features, [b, d]), tf.tensor2d(rows, [n, d]), own, temperature).dataSync(),
    )
    const expected = reference(features, rows, temperature)
    losses.forEach((loss, i) => {
      expect(Math.abs(loss - expected[i]!)).toBeLessThan(1e-5 * Math.max(1, expected[i]!))
    })
  })

  it('has the gradients that finite differences find, of features and of learned rows', () => {
    const [features, rows] = [units(b, d), units(n, d)]
    const weights = Float32Array.of(1, 2, 3, 4)
    const [dFeatures, dRows] = tf.tidy(() =>
      tf
        .grads((f, r) =>
          tf.sum(tf.mul(softmaxLoss(f as Tensor2D, r as Tensor2D, own, 0.5, true), tf.tensor1d(weights))),
        )([tf.tensor2d(features, [b, d]), tf.tensor2d(rows, [n, d])])
        .map((gradient) => gradient.dataSync()),
    ) as [Float32Array, Float32Array]
    const step = 1e-4
    const difference = (array: Float32Array, i: number) => {
      const moved = (by: number) => {
        const copy = Float64Array.from(array)
        copy[i]! += by
        return total(array === features ? reference(copy, rows, 0.5) : reference(features, copy, 0.5))
      }
      return (moved(step) - moved(-step)) / (2 * step)
    }
    dFeatures.forEach((value, i) => {
      expect(value).toBeCloseTo(difference(features, i), 3)
    })
    dRows.forEach((value, i) => {
      expect(value).toBeCloseTo(difference(rows, i), 3)
    })
    const frozen = tf.tidy(() =>
      tf
        .grad((f) =>
          tf.sum(tf.mul(softmaxLoss(f as Tensor2D, tf.tensor2d(rows, [n, d]), own, 0.5), tf.tensor1d(weights))),
        )(tf.tensor2d(features, [b, d]))
        .dataSync(),
    )
    expect(frozen).toEqual(dFeatures)
  })
})

describe('noise-contrastive estimation', () => {
  beforeAll(async () => {
    await chooseEngine('auto')
  })

  it('gives h = 0.5 to a score whose p is m / N', () => {
    // p = exp(score) / Z = m / N at score = log Z + log(m / N); then -log h = -log(1 - h) = log 2.
    const [m, size, logZ] = [3, 50, 1.7]
    const score = logZ + Math.log(m / size)
    const [loss] = tf.tidy(() =>
      noiseContrastiveLoss(tf.tensor1d([score]), tf.fill([1, m], score) as Tensor2D, tf.scalar(logZ), size).dataSync(),
    )
    expect(loss).toBeCloseTo((1 + m) * Math.log(2), 5)
  })

  it('is -log h of the own slot and -log(1 - h) of the noise, written out', () => {
    const [ownScore, noise, logZ, size] = [2.5, [0.3, -1.2, 4], 3.1, 20]
    const h = (score: number) => {
      const p = Math.exp(score) / Math.exp(logZ)
      return p / (p + noise.length / size)
    }
    const expected = -Math.log(h(ownScore)) - noise.reduce((sum, score) => sum + Math.log(1 - h(score)), 0)
    const [loss] = tf.tidy(() =>
      noiseContrastiveLoss(tf.tensor1d([ownScore]), tf.tensor2d([noise]), tf.scalar(logZ), size).dataSync(),
    )
    expect(loss).toBeCloseTo(expected, 4)
  })

  it('estimates Z as N times the mean of exp(score), without a gradient and without overflow', () => {
    const scores = [0.5, -1, 2, 0]
    const mean = scores.reduce((sum, score) => sum + Math.exp(score), 0) / 4
    const logZ = tf.tidy(() => estimateLogZ(tf.tensor2d(scores, [2, 2]), 30).dataSync()[0])
    expect(logZ).toBeCloseTo(Math.log(30 * mean), 5)
    const gradient = tf.tidy(() =>
      tf
        .grad((x: Tensor) => estimateLogZ(x, 30))(tf.tensor1d(scores))
        .dataSync(),
    )
    expect([...gradient]).toEqual([0, 0, 0, 0])
    const large = tf.tidy(() => estimateLogZ(tf.tensor1d([500, 500]), 30).dataSync()[0])
    expect(large).toBeCloseTo(500 + Math.log(30), 2)
  })

  it('pulls the features where the full softmax pulls them when all slots are noise (cosine > 0.9)', () => {
    const [size, width, temperature] = [64, 8, 0.5]
    const bank = units(size, width)
    const features = units(16, width)
    const targets = Int32Array.from({ length: 16 }, (_, i) => 4 * i)
    const gradientOf = (loss: (f: Tensor2D, rows: Tensor2D) => Tensor1D) =>
      tf.tidy(() => {
        const rows = tf.tensor2d(bank, [size, width])
        return tf
          .grad((f) => tf.sum(loss(f as Tensor2D, rows)))(tf.tensor2d(features, [16, width]))
          .dataSync()
      })
    const full = gradientOf((f, rows) => softmaxLoss(f, rows, targets, temperature))
    const nce = gradientOf((f, rows) => {
      const noise = tf.div(tf.matMul(f, rows, false, true), temperature) as Tensor2D
      const mine = tf.gather(rows, tf.tensor1d(targets, 'int32'))
      const scores = tf.div(tf.sum(tf.mul(f, mine), 1), temperature) as Tensor1D
      return noiseContrastiveLoss(scores, noise, estimateLogZ(noise, size), size)
    })
    const dot = (x: ArrayLike<number>, y: ArrayLike<number>) => Array.from(x).reduce((sum, v, i) => sum + v * y[i]!, 0)
    expect(dot(full, nce) / Math.sqrt(dot(full, full) * dot(nce, nce))).toBeGreaterThan(0.9)
  })
})

describe('the scores of rows of their own', () => {
  beforeAll(async () => {
    await chooseEngine('auto')
  })

  it('are the dot products, with the gradient of the features', () => {
    const [features, rows] = [draw(2 * 3), draw(2 * 4 * 3)]
    const [scores, gradient] = tf.tidy(() => {
      const f = tf.tensor2d(features, [2, 3])
      const r = tf.tensor3d(rows, [2, 4, 3])
      return [
        scoreRows(f, r).dataSync(),
        tf
          .grad((x) => tf.sum(tf.square(scoreRows(x as Tensor2D, r))))(f)
          .dataSync(),
      ]
    }) as unknown as [Float32Array, Float32Array]
    const score = (i: number, j: number) =>
      [0, 1, 2].reduce((sum, c) => sum + features[i * 3 + c]! * rows[(i * 4 + j) * 3 + c]!, 0)
    for (const i of [0, 1]) {
      for (let j = 0; j < 4; j++) expect(scores[i * 4 + j]).toBeCloseTo(score(i, j), 5)
      for (let c = 0; c < 3; c++) {
        const expected = [0, 1, 2, 3].reduce((sum, j) => sum + 2 * score(i, j) * rows[(i * 4 + j) * 3 + c]!, 0)
        expect(gradient[i * 3 + c]).toBeCloseTo(expected, 4)
      }
    }
  })
})
