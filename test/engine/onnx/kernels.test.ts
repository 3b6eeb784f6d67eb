import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { OnnxEngine } from '../../../src/engine/onnx/index.ts'
import { lowerings, traces } from '../../../src/engine/onnx/kernels/index.ts'
import { tf } from '../../../src/tf.ts'
import { cases } from './cases/index.ts'
import { compare, group, titleOf } from './compare.ts'
import { engines } from './engines.ts'

const byKernel = group(cases)

describe.each(engines)('the %s engine', (name, start) => {
  let engine: OnnxEngine

  beforeAll(async () => {
    engine = await start({ threads: 2, onFallback: () => {} })
  })

  afterAll(() => engine.dispose())

  describe.each([...byKernel.keys()])('%s', (kernel) => {
    it.each(byKernel.get(kernel)!.map((one) => [titleOf(one), one] as const))('is that of tfjs: %s', (_, one) =>
      compare(name, engine, one),
    )
  })
})

describe('the table of kernels', () => {
  it('has a case for each kernel that the engine has', () => {
    expect(Object.keys(traces).filter((kernel) => !byKernel.has(kernel))).toEqual([])
  })

  it('has a kernel of tfjs for each trace', () => {
    const known = new Set(tf.getKernelsForBackend('cpu').map(({ kernelName }) => kernelName))
    expect(Object.keys(traces).filter((kernel) => !known.has(kernel))).toEqual([])
  })

  it('lowers kinds that some trace records', () => {
    expect(Object.keys(lowerings).length).toBeGreaterThan(100)
  })
})
