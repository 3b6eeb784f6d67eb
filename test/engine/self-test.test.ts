import { afterEach, describe, expect, it } from 'vitest'
import { chooseEngine } from '../../src/engine/choose.ts'
import { selfTest } from '../../src/engine/self-test.ts'
import { tf } from '../../src/tf.ts'

interface Values {
  data: { get(id: object): { values: Float32Array } }
}

const stock: tf.KernelConfig[] = []

/** Lets a kernel of plain JavaScript give something else. */
function doctor(name: string, change: (values: Float32Array) => void): void {
  const kernel = tf.getKernel(name, 'cpu')
  stock.push(kernel)
  tf.unregisterKernel(name, 'cpu')
  tf.registerKernel({
    ...kernel,
    kernelFunc(call) {
      const result = kernel.kernelFunc(call)
      for (const { dataId } of [result].flat()) change((call.backend as unknown as Values).data.get(dataId).values)
      return result
    },
  })
}

afterEach(() => {
  for (const kernel of stock.splice(0)) {
    tf.unregisterKernel(kernel.kernelName, 'cpu')
    tf.registerKernel(kernel)
  }
})

describe('the self-test', () => {
  it.each(['cpu', 'wasm', 'onnx'] as const)(
    'passes on %s, says how long it took, and leaves nothing behind',
    async (name) => {
      await chooseEngine(name)
      const before = tf.memory().numTensors
      expect(await selfTest()).toBeGreaterThan(0)
      expect(tf.memory().numTensors).toBe(before)
    },
  )

  const scale = (values: Float32Array) => values.set(values.map((value) => value * 1.1))
  const turn = (values: Float32Array) => void values.reverse()
  const shift = (values: Float32Array) => void values.copyWithin(1, 0, values.length - 1)
  it.each([
    ['Conv2D', turn],
    ['Conv2D', shift],
    ['Conv2DBackpropFilter', scale],
    ['Conv2DBackpropFilter', turn],
    ['MaxPool', turn],
    ['MaxPoolGrad', shift],
    ['FusedBatchNorm', scale],
    ['Relu', (values: Float32Array) => values.set(values.map((value) => value || 0.2))],
    ['BatchMatMul', shift],
    ['Exp', scale],
    ['Rsqrt', scale],
    ['OneHot', shift],
    ['Exp', (values: Float32Array) => void values.fill(Number.NaN)],
  ])('refuses a backend whose %s computes something else', async (name, change) => {
    await tf.setBackend('cpu')
    doctor(name, change)
    const before = tf.memory().numTensors
    await expect(selfTest()).rejects.toThrow(/computes wrongly: the (loss|move) of .* is .* instead of/)
    expect(tf.memory().numTensors).toBe(before)
  })
})
