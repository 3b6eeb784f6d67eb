import { performance } from 'node:perf_hooks'
import { Unavailable } from '../errors.ts'
import { tf } from '../tf.ts'

/**
 * What the training steps below give: the loss of each step, and of each weight how far it moved along a fixed
 * direction. Computed on tfjs' plain JavaScript backend.
 */
const expected: Record<string, number> = {
  'loss of step 1': 1.9851518,
  'loss of step 2': 0.5514539,
  'move of kernel': -0.489106,
  'move of gain': -0.1822825,
  'move of offset': -0.0809185,
  'move of dense': 0.9818625,
  'move of bias': -0.0409559,
}

/**
 * Bound on |found - expected| / (1 + |expected|). Single precision differs by about 1e-6 between engines, and by about
 * 1e-3 on GPUs that round products to 11 bits (TF32); a kernel that computes something else is off by far more.
 */
const tolerance = 4e-3

const steps = 2
const learningRate = 0.5

type Weights = Record<string, tf.Variable>

/** In [-1, 1], without a pattern that another order of them would keep. */
function numbers(count: number, seed: number): Float32Array {
  return Float32Array.from({ length: count }, (_, i) => Math.sin(seed + 12.9898 * i + 0.37 * ((i * i) % 17)))
}

function filled(shape: number[], seed: number): tf.Tensor {
  return tf.tensor(
    numbers(
      shape.reduce((product, length) => product * length),
      seed,
    ),
    shape,
  )
}

function newWeights(): Weights {
  const weight = (shape: number[], seed: number, scale: number, centre = 0) => {
    const initial = tf.tidy(() => filled(shape, seed).mul(scale).add(centre))
    const variable = tf.variable(initial)
    initial.dispose()
    return variable
  }
  return {
    kernel: weight([3, 3, 3, 4], 1, 0.4),
    gain: weight([4], 2, 0.3, 1),
    offset: weight([4], 3, 0.3),
    dense: weight([64, 5], 4, 0.4),
    bias: weight([5], 5, 0.2),
  }
}

/** Images [6, 8, 8, 3] through convolution, pooling, batch norm, ReLU and a dense layer to the softmax's loss. */
function lossOf(weights: Weights): tf.Scalar {
  const { kernel, gain, offset, dense, bias } = weights as Record<string, tf.Tensor>
  const labels = tf.oneHot(tf.tensor1d([0, 3, 1, 4, 2, 3], 'int32'), 5)
  const convolved = tf.conv2d(filled([6, 8, 8, 3], 6) as tf.Tensor4D, kernel as tf.Tensor4D, 1, 'same') // [6, 8, 8, 4]
  const pooled = tf.maxPool(convolved, 2, 2, 'valid') // [6, 4, 4, 4]
  const { mean, variance } = tf.moments(pooled, [0, 1, 2])
  const normal = tf.batchNorm(
    pooled,
    mean as tf.Tensor1D,
    variance as tf.Tensor1D,
    offset as tf.Tensor1D,
    gain as tf.Tensor1D,
  )
  const logits = tf.add(tf.matMul(tf.relu(normal).reshape([6, 64]), dense as tf.Tensor2D), bias!) // [6, 5]
  return tf.neg(tf.mean(tf.sum(tf.mul(labels, tf.logSoftmax(logits)), 1)))
}

/** One step of gradient descent on all weights; returns the loss before it, and leaves no other tensor. */
function step(weights: Weights): tf.Scalar {
  return tf.tidy(() => {
    const { value, grads } = tf.variableGrads(() => lossOf(weights), Object.values(weights))
    for (const weight of Object.values(weights))
      weight.assign(tf.sub(weight, tf.mul(grads[weight.name]!, learningRate)))
    return value
  })
}

async function read(tensor: tf.Tensor): Promise<Float32Array> {
  return (await tensor.data()) as Float32Array
}

async function compute(weights: Weights): Promise<Record<string, number>> {
  const found: Record<string, number> = {}
  const before = await Promise.all(Object.values(weights).map(read))
  for (let i = 1; i <= steps; i++) {
    const loss = step(weights)
    found[`loss of step ${i}`] = (await read(loss))[0]!
    loss.dispose()
  }
  const after = await Promise.all(Object.values(weights).map(read))
  for (const [i, name] of Object.keys(weights).entries()) {
    const direction = numbers(after[i]!.length, 7)
    found[`move of ${name}`] = direction.reduce((sum, way, k) => sum + way * (after[i]![k]! - before[i]![k]!), 0)
  }
  return found
}

/**
 * Trains a small net for two steps on the present backend and compares with known numbers. Returns the milliseconds it
 * took. Throws Unavailable where a number is off, naming the first; whatever a kernel throws passes through.
 */
export async function selfTest(): Promise<number> {
  const started = performance.now()
  const weights = newWeights()
  try {
    const found = await compute(weights)
    for (const [name, value] of Object.entries(expected)) {
      // Also false where the number found is NaN.
      if (Math.abs(found[name]! - value) <= tolerance * (1 + Math.abs(value))) continue
      throw new Unavailable(
        `it computes wrongly: the ${name} of its self-test is ${found[name]} instead of ${value}`,
        'reinstall its package, or choose another engine with GESTALT_ENGINE',
      )
    }
    return performance.now() - started
  } finally {
    for (const weight of Object.values(weights)) weight.dispose()
  }
}
