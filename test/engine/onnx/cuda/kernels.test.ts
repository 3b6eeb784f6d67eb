import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { whyNotHere } from '../../../../src/engine/onnx/cuda/index.ts'
import { cases } from '../cases/index.ts'
import { compare, group, titleOf } from '../compare.ts'
import { type Listed, startListing } from './processor.ts'

/** Kernels that are written otherwise for CUDA: all of their cases; of others the first. */
const otherwise = new Set([
  ...['ArgMax', 'AvgPool', 'AvgPoolGrad', 'ClipByValue', 'Conv2D', 'Conv2DBackpropFilter', 'Conv2DBackpropInput'],
  ...['Cumprod', 'Einsum', 'GatherNd', 'MaxPool', 'MaxPoolGrad', 'PadV2', 'Tile'],
])

const byKernel = group(cases)
const chosen = [...byKernel].flatMap(([kernel, all]) => (otherwise.has(kernel) ? all : all.slice(0, 1)))

/** What the processor computes for want of a kernel of CUDA's; none of it is in a training step (training.test.ts). */
const withoutKernel = ['Acos', 'Acosh', 'Asin', 'Asinh', 'Atan', 'Atanh', 'BitwiseAnd', 'Cosh', 'Sinh', 'Tan']

describe.skipIf(whyNotHere())('the engine for CUDA, on the processor', () => {
  let listed: Listed

  beforeAll(async () => {
    listed = await startListing({ threads: 1 })
  })

  afterAll(() => listed.engine.dispose())

  it.each(chosen.map((one) => [one.kernel, titleOf(one), one] as const))('computes %s as tfjs does: %s', (_, __, one) =>
    compare('onnx-cuda', listed.engine, one),
  )

  it('uses no operators but these that CUDA has no kernel for', () => {
    const names = [...listed.lacking.keys()].map((text) => text.split(' ')[0])
    expect([...new Set(names)].sort()).toEqual([...withoutKernel, 'com.microsoft.CropAndResize'])
  })
})
