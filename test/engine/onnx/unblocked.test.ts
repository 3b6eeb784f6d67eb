import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type OnnxEngine, startOnnx } from '../../../src/engine/onnx/index.ts'
import { openRuntime } from '../../../src/engine/onnx/runtime.ts'
import { type Tensor4D, tf } from '../../../src/tf.ts'

// Processors whose runtime has no convolutions in blocks: everything lies in planes there.
let engine: OnnxEngine
beforeAll(async () => {
  engine = await startOnnx({ threads: 1, runtime: { ...(await openRuntime(1)), blockSize: 0 } })
})
afterAll(() => engine.dispose())

const drawn = (shape: number[], seed: number) => {
  const size = shape.reduce((a, b) => a * b, 1)
  return Float32Array.from({ length: size }, (_, i) => Math.sin(seed + i * 12.9898) * 2)
}

/** The value of `compute` and its gradients with respect to all operands, on one backend. */
async function outcome(backend: string, shapes: number[][], compute: (...xs: Tensor4D[]) => Tensor4D) {
  await tf.setBackend(backend)
  const made = tf.tidy(() => {
    const operands = shapes.map((shape, i) => tf.tensor<tf.Rank>(drawn(shape, i), shape) as Tensor4D)
    const weigh = (y: Tensor4D) => tf.sum(tf.mul(y, tf.tensor4d(drawn(y.shape, 9), y.shape)))
    const gradients = tf.grads((...xs) => weigh(compute(...(xs as Tensor4D[]))))(operands)
    return [compute(...operands), ...gradients]
  })
  const numbers = made.map((tensor) => Array.from(tensor.dataSync()))
  tf.dispose(made)
  return numbers
}

async function agrees(shapes: number[][], compute: (...xs: Tensor4D[]) => Tensor4D) {
  const [ours, theirs] = [await outcome('onnx', shapes, compute), await outcome('cpu', shapes, compute)]
  for (const [i, expected] of theirs.entries()) {
    const largest = Math.max(...expected.map(Math.abs), 1e-6)
    const worst = Math.max(...expected.map((value, j) => Math.abs(value - ours[i]![j]!)))
    expect(ours[i]!.length).toBe(expected.length)
    expect(worst / largest).toBeLessThan(5e-6)
  }
}

describe('the onnx engine without blocks', () => {
  it.each([
    { image: [2, 8, 8, 16], filter: [3, 3, 16, 32], strides: 1, pad: 'same' as const },
    { image: [3, 9, 7, 3], filter: [3, 3, 3, 16], strides: 2, pad: 'same' as const },
    { image: [17, 6, 6, 5], filter: [2, 3, 5, 7], strides: [1, 2] as [number, number], pad: 'valid' as const },
  ])('convolves and differentiates as tfjs does: $image by $filter', async ({ image, filter, strides, pad }) => {
    await agrees([image, filter], (x, w) => tf.conv2d(x, w, strides, pad))
  })

  it.each([
    { image: [2, 8, 8, 16], size: 2, strides: 2, pad: 'valid' as const },
    { image: [2, 9, 7, 5], size: 3, strides: 2, pad: 'same' as const },
    { image: [1, 7, 7, 16], size: 2, strides: 3, pad: 'valid' as const },
  ])('pools and differentiates as tfjs does: $size by $strides of $image', async ({ image, size, strides, pad }) => {
    await agrees([image], (x) => tf.maxPool(x, size, strides, pad))
    if (pad === 'valid') await agrees([image], (x) => tf.avgPool(x, size, strides, pad))
  })

  it('computes a layer with bias, relu and pool', async () => {
    await agrees([[4, 8, 8, 1], [3, 3, 1, 16], [16] as number[]], (x, w, b) =>
      tf.maxPool(tf.relu(tf.add(tf.conv2d(x, w, 1, 'same'), b)) as Tensor4D, 2, 2, 'valid'),
    )
  })

  it('falls back nowhere', () => expect(engine.stats().fallbacks).toEqual({}))
})
