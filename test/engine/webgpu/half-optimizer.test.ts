import { afterEach, describe, expect, it } from 'vitest'
import type { Half } from '../../../src/engine/webgpu/half.ts'
import { type GpuEngine, startWebGpu } from '../../../src/engine/webgpu/index.ts'
import { adam } from '../../../src/models/training/adam.ts'
import { lossScale } from '../../../src/models/training/loss-scale.ts'
import { tf } from '../../../src/tf.ts'
import { defaultsOf } from '../../models/tiny.ts'
import { hasSwiftShader, onlySwiftShader, swiftShaderChoice } from '../../swiftshader.ts'
import { numbers } from '../onnx/parity.ts'

onlySwiftShader()

const [images, filter] = [[4, 8, 8, 16] as const, [3, 3, 16, 32] as const]
const sizeOf = (shape: readonly number[]) => shape.reduce((size, side) => size * side, 1)

describe.runIf(hasSwiftShader)('a step of Adam in half precision', () => {
  let engine: GpuEngine | undefined
  afterEach(() => engine?.dispose())

  /** By how much a convolution's weights move for gradients of about 1e-5, whose squares no half number can be. */
  async function moved(half: Half | undefined): Promise<Float32Array> {
    engine?.dispose()
    engine = await startWebGpu({ choice: swiftShaderChoice, half, onFallback: () => {} })
    const x = tf.tensor4d(numbers(sizeOf(images), 1), [...images])
    const weights = { w: tf.variable(tf.zeros([...filter])) }
    const stepper = adam.create(defaultsOf(adam.parameters) as never, { weights, groups: undefined } as never)
    const scale = lossScale()
    tf.tidy(() => {
      const loss = (filters: tf.Tensor) =>
        scale.raise(tf.mul(tf.sum(tf.conv2d(x, filters as tf.Tensor4D, 1, 'same')), 1e-6) as tf.Scalar)
      const w = tf.grad(loss as (x: tf.Tensor) => tf.Tensor)(weights.w)
      const { gradients } = scale.lower({ w }, tf.sqrt(tf.sum(tf.square(w))))
      stepper.apply(gradients, 0.001)
    })
    const found = (await weights.w.data()).slice() as Float32Array
    stepper.dispose()
    scale.dispose()
    tf.dispose([x, weights.w])
    return found
  }

  it('moves weights as far as one in single precision', async () => {
    const [single, half] = [await moved(undefined), await moved('rounded')]
    expect(Math.max(...single.map(Math.abs))).toBeLessThan(0.0011)
    expect(Math.min(...single.map(Math.abs))).toBeGreaterThan(0.0005)
    expect(Math.max(...half.map((value, i) => Math.abs(value - single[i]!)))).toBeLessThan(1e-5)
  })
})
