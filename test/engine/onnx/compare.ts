import { expect } from 'vitest'
import type { RecordingEngine } from '../../../src/engine/recording/index.ts'
import { tf } from '../../../src/tf.ts'
import { type Case, distance, kernelsOf, type Outcome, outcomesOf } from './parity.ts'

/** What is required of a kernel whose case does not say less. */
export const defaultBound = 2e-6

async function onBackend(name: string, run: () => Outcome[]): Promise<Outcome[]> {
  await tf.setBackend(name)
  return run()
}

const show = ({ shape, dtype, values }: Outcome) => `${dtype} [${shape}] ${Array.from(values).slice(0, 24).join(' ')}`

/** Fails where an engine, the backend of that name, computes another outcome than tfjs' cpu, or leaves a tensor behind. */
export async function compare(name: string, engine: RecordingEngine, one: Case): Promise<void> {
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
  expectSame(got, wanted, one.bound ?? defaultBound)
}

/** Fails where a result is further from what is wanted than `bound`, with the first numbers of both. */
export function expectSame(got: readonly Outcome[], wanted: readonly Outcome[], bound: number): void {
  for (const [i, outcome] of wanted.entries())
    expect(
      distance(got[i]!, outcome),
      `result ${i}\n got ${show(got[i]!)}\nwant ${show(outcome)}\n`,
    ).toBeLessThanOrEqual(bound)
}

export const titleOf = ({ title, operands, gradient }: Case) =>
  [title, operands.map(({ dtype, shape }) => `${dtype} [${shape}]`).join(' '), gradient ? 'with gradients' : '']
    .filter(Boolean)
    .join(', ')

/** Cases by their kernel. */
export function group(all: readonly Case[]): Map<string, Case[]> {
  const groups = new Map<string, Case[]>()
  for (const one of all) groups.set(one.kernel, [...(groups.get(one.kernel) ?? []), one])
  return groups
}
