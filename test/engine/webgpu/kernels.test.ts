import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type GpuEngine, startWebGpu } from '../../../src/engine/webgpu/index.ts'
import { tf } from '../../../src/tf.ts'
import { hasSwiftShader, onlySwiftShader, swiftShaderChoice } from '../../swiftshader.ts'
import { cases } from '../onnx/cases/index.ts'
import { expectSame, group, titleOf } from '../onnx/compare.ts'
import { type Case, kernelsOf, type Outcome, outcomesLater, outcomesOf } from '../onnx/parity.ts'

/** What is required of every kernel, where its case does not say less. */
const defaultBound = 5e-6

const byKernel = group(cases)

describe.runIf(hasSwiftShader)('the webgpu engine', () => {
  let engine: GpuEngine

  beforeAll(async () => {
    onlySwiftShader()
    // The shaders of real cards.
    engine = await startWebGpu({ choice: swiftShaderChoice, brief: false, onFallback: () => {} })
  })

  afterAll(() => engine.dispose())

  async function compare(one: Case): Promise<void> {
    const before = tf.memory().numTensors
    await tf.setBackend('cpu')
    const wanted = outcomesOf(one)
    engine.resetStats()
    await tf.setBackend('webgpu')
    let later: Promise<Outcome[]> | undefined
    const called = kernelsOf(() => {
      later = outcomesLater(one)
    })
    const got = await later!
    expect(called, 'the kernel is called').toContain(one.kernel)
    expect(engine.stats().fallbacks).toEqual({})
    expect(tf.memory().numTensors).toBe(before)
    expectSame(got, wanted, Math.max(one.bound ?? 0, defaultBound))
  }

  describe.each([...byKernel.keys()])('%s', (kernel) => {
    it.each(byKernel.get(kernel)!.map((one) => [titleOf(one), one] as const))('is that of tfjs: %s', (_, one) =>
      compare(one),
    )
  })
})
