import { beforeAll, describe, expect, it } from 'vitest'
import { tf } from '../../../src/tf.ts'
import { cases } from '../onnx/cases/index.ts'
// TensorFlow needs no other bound than the engine on ONNX Runtime for any kernel.
import { defaultBound, expectSame, group, titleOf } from '../onnx/compare.ts'
import { type Case, distance, kernelsOf, type Outcome, outcomesOf } from '../onnx/parity.ts'
import { isMissing, startTensorFlow } from './built.ts'
import { differences } from './differences.ts'

async function onBackend(name: string, one: Case): Promise<Outcome[]> {
  await tf.setBackend(name)
  return outcomesOf(one)
}

async function compare(one: Case): Promise<void> {
  const before = tf.memory().numTensors
  const wanted = await onBackend('cpu', one)
  let got: Outcome[] = []
  await tf.setBackend('tensorflow')
  const called = kernelsOf(() => {
    got = outcomesOf(one)
  })
  expect(called, 'the kernel is called').toContain(one.kernel)
  expect(tf.memory().numTensors).toBe(before)
  expectSame(got, wanted, one.bound ?? defaultBound)
}

/** Infinite where it throws. */
async function distanceOf(one: Case): Promise<number> {
  const wanted = await onBackend('cpu', one)
  const before = tf.memory().numTensors
  try {
    const got = await onBackend('tensorflow', one)
    return Math.max(...wanted.map((outcome, i) => distance(got[i]!, outcome)))
  } catch {
    expect(tf.memory().numTensors).toBe(before)
    return Number.POSITIVE_INFINITY
  }
}

const isKnown = (one: Case) => differences.some(({ of }) => of(one))
const equal = cases.filter((one) => !isKnown(one))
const byKernel = group(equal)

describe.skipIf(isMissing)("TensorFlow's own library", () => {
  beforeAll(startTensorFlow)

  describe.each([...byKernel.keys()])('%s', (kernel) => {
    it.each(byKernel.get(kernel)!.map((one) => [titleOf(one), one] as const))('is that of tfjs: %s', (_, one) =>
      compare(one),
    )
  })

  it.each(differences)('differs from tfjs, and nowhere else: $why', async ({ of }) => {
    const own = cases.filter(of)
    expect(own.length).toBeGreaterThan(0)
    // Where one does no more, it belongs to the others.
    for (const one of own) expect(await distanceOf(one), titleOf(one)).toBeGreaterThan(one.bound ?? defaultBound)
  })
})
