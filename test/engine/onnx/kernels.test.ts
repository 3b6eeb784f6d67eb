import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { OnnxEngine } from '../../../src/engine/onnx/index.ts'
import { lowerings, traces } from '../../../src/engine/onnx/kernels/index.ts'
import { tf } from '../../../src/tf.ts'
import { cases } from './cases/index.ts'
import { engines } from './engines.ts'
import { type Case, distance, kernelsOf, type Outcome, outcomesOf } from './parity.ts'

const defaultBound = 2e-6

async function onBackend(name: string, run: () => Outcome[]): Promise<Outcome[]> {
  await tf.setBackend(name)
  return run()
}

const show = ({ shape, dtype, values }: Outcome) => `${dtype} [${shape}] ${Array.from(values).slice(0, 24).join(' ')}`

async function compare(name: string, engine: OnnxEngine, one: Case): Promise<void> {
  const before = tf.memory().numTensors
  const wanted = await onBackend('cpu', () => outcomesOf(one))
  let got: Outcome[] = []
  engine.resetStats()
  await tf.setBackend(name)
  const called = kernelsOf(() => {
    got = outcomesOf(one)
  })
  expect(called, 'the kernel is called').toContain(one.kernel)
  expect(engine.stats().fallbacks).toEqual({})
  expect(tf.memory().numTensors).toBe(before)
  for (const [i, outcome] of wanted.entries())
    expect(
      distance(got[i]!, outcome),
      `result ${i}\n got ${show(got[i]!)}\nwant ${show(outcome)}\n`,
    ).toBeLessThanOrEqual(one.bound ?? defaultBound)
}

const titleOf = ({ title, operands, gradient }: Case) =>
  [title, operands.map(({ dtype, shape }) => `${dtype} [${shape}]`).join(' '), gradient ? 'with gradients' : '']
    .filter(Boolean)
    .join(', ')

const byKernel = group(cases)

function group(all: readonly Case[]): Map<string, Case[]> {
  const groups = new Map<string, Case[]>()
  for (const one of all) groups.set(one.kernel, [...(groups.get(one.kernel) ?? []), one])
  return groups
}

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
