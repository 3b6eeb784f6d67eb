import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { whyNotHere } from '../../../../src/engine/onnx/cuda/index.ts'
import { cudaKernels } from '../../../../src/engine/onnx/cuda/kernels.ts'
import { cases } from '../cases/index.ts'
import { compare, titleOf } from '../compare.ts'
import { type Listed, startListing } from './processor.ts'

/** What the processor computes for want of a kernel of CUDA's; none of it is in a training step (training.test.ts). */
const withoutKernel = ['Acos', 'Acosh', 'Asin', 'Asinh', 'Atan', 'Atanh', 'BitwiseAnd', 'Cosh', 'Sinh', 'Tan']

describe.skipIf(whyNotHere())('the engine for CUDA, on the processor', () => {
  let listed: Listed

  beforeAll(async () => {
    listed = await startListing({ threads: 1 })
  })

  afterAll(() => listed.engine.dispose())

  it.each(cases.map((one) => [one.kernel, titleOf(one), one] as const))('computes %s as tfjs does: %s', (_, __, one) =>
    compare('onnx-cuda', listed.engine, one),
  )

  it('uses no operators but these that CUDA has no kernel for', () => {
    const names = [...listed.lacking.keys()].map((text) => text.split(' ')[0])
    expect([...new Set(names)].sort()).toEqual([...withoutKernel, 'com.microsoft.CropAndResize'])
  })

  it('lists no operator that no graph uses, but for one that only blocks of channels want', () => {
    const used = new Set([...listed.operators.keys()].map((text) => text.split(' ')[0]))
    expect([...cudaKernels.keys()].filter((name) => !used.has(name))).toEqual(['Shape'])
  })
})
