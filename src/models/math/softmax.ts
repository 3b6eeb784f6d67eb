import { type Tensor, type Tensor1D, type Tensor2D, tf } from '../../tf.ts'

/**
 * -log softmax of the own row, for features [b, d] against rows [n, d]:
 * log sum_j exp(f . r_j / temperature) - f . r_own / temperature, [b].
 * The gradient is the features' and, where they are `learned`, the rows'. Nothing of size [b, n] is built but the
 * logits and their softmax: no one-hot targets.
 */
export function softmaxLoss(
  features: Tensor2D,
  rows: Tensor2D,
  own: Int32Array,
  temperature: number,
  learned = false,
): Tensor1D {
  const layer = tf.customGrad((...inputs) => {
    const f = inputs[0] as Tensor2D
    const save = inputs.at(-1) as unknown as (tensors: Tensor[]) => void
    const logits = tf.matMul(f, rows, false, true)
    const probabilities = tf.softmax(logits)
    // The largest probability is at least 1 / n, so its logarithm is safe at any temperature.
    const normaliser = tf.sub(tf.max(logits, 1), tf.log(tf.max(probabilities, 1)))
    const ownRows = tf.gather(rows, tf.tensor1d(own, 'int32'))
    save([f, rows, probabilities, ownRows])
    const gradFunc = (dy: Tensor, saved: Tensor[]) => {
      const [v, r, p, mine] = saved as [Tensor2D, Tensor2D, Tensor2D, Tensor2D]
      const weight = tf.expandDims(dy, 1)
      const dFeatures = tf.mul(tf.sub(tf.matMul(p, r), mine), weight)
      if (!learned) return dFeatures
      const weighted = tf.mul(v, weight) as Tensor2D
      const pull = tf.unsortedSegmentSum(weighted, tf.tensor1d(own, 'int32'), r.shape[0])
      return [dFeatures, tf.sub(tf.matMul(p, weighted, true, false), pull)]
    }
    // The own logit as it was summed among the others: otherwise their difference is rounding at low temperatures.
    const n = logits.shape[1]!
    const places = tf.tensor1d(
      own.map((row, i) => i * n + row),
      'int32',
    )
    return { value: tf.sub(normaliser, tf.gather(tf.reshape(logits, [-1]), places)), gradFunc }
  })
  const scaled = tf.div(features, temperature)
  return (learned ? layer(scaled, rows) : layer(scaled)) as Tensor1D
}

/** f_i . r_ij for features [b, d] and rows [b, m, d] that are not learned: [b, m]. Transposes nothing. */
export function scoreRows(features: Tensor2D, rows: Tensor): Tensor2D {
  const layer = tf.customGrad((...inputs) => {
    const [f, save] = inputs as unknown as [Tensor2D, (tensors: Tensor[]) => void]
    save([rows])
    const gradFunc = (dy: Tensor, saved: Tensor[]) => tf.squeeze(tf.matMul(tf.expandDims(dy, 1), saved[0]!), [1])
    return { value: tf.squeeze(tf.matMul(rows, tf.expandDims(f, 2)), [2]), gradFunc }
  })
  return layer(features) as Tensor2D
}

/**
 * Noise-contrastive estimation with uniform noise over n rows (Gutmann and Hyvärinen, 2010; Wu et al., 2018,
 * equations 5 to 7), in logarithms: with p = exp(score) / Z and m noise samples, the probability that a sample is
 * data is h = p / (p + m / n), that is sigmoid(score - log Z - log(m / n)).
 * The loss of each image: -log h(own) - sum over noise of log(1 - h(noise)). own [b], noise [b, m] -> [b].
 */
export function noiseContrastiveLoss(own: Tensor1D, noise: Tensor2D, logZ: Tensor, n: number): Tensor1D {
  const shift = tf.add(logZ, Math.log(noise.shape[1] / n))
  const data = tf.softplus(tf.neg(tf.sub(own, shift)))
  return tf.add(data, tf.sum(tf.softplus(tf.sub(noise, shift)), 1)) as Tensor1D
}

/**
 * log Z where Z = n x mean of exp(score) over all scores given, as the first batch estimates it. A scalar; no gradient
 * flows through it, since Z is a constant of the model.
 */
export function estimateLogZ(scores: Tensor, n: number): Tensor {
  const constant = tf.customGrad((...inputs) => {
    const x = inputs[0] as Tensor
    const { shape } = x
    return { value: tf.add(tf.logSumExp(x), Math.log(n / x.size)), gradFunc: () => tf.fill(shape, 0) }
  })
  return constant(scores)
}
