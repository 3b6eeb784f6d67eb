import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { OnnxEngine } from '../../../src/engine/onnx/index.ts'
import { createMemoryContext, memoryBytes } from '../../../src/experiments/memory-context.ts'
import { perform } from '../../../src/experiments/perform.ts'
import { engines } from './engines.ts'
import { definitionOf, runs } from './runs.ts'

describe.each(engines)('training and evaluation on the %s engine', (name, start) => {
  let engine: OnnxEngine

  beforeAll(async () => {
    engine = await start({ threads: 2 })
  })

  afterAll(() => engine.dispose())

  const title = 'use no kernel that the engine does not have, and the same graphs however long they train'
  it.each(runs)(`${title}: $method on $net with $settings`, async (run) => {
    const stats = async (epochs: number) => {
      engine.resetStats()
      await perform(definitionOf(run, epochs), createMemoryContext(memoryBytes()))
      return engine.stats()
    }
    const { fallbacks, runs: count, programRuns } = await stats(2)
    expect(fallbacks).toEqual({})
    // Raw pixels have next to nothing to compute.
    expect(count).toBeGreaterThan(5)
    expect(programRuns, 'graphs that ran as machine code').toBe(name === 'machine' ? count : 0)
    expect((await stats(4)).compiles).toBe(0)
  })
})
