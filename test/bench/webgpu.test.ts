import { spawnSync } from 'node:child_process'
import { describe, expect, it, vi } from 'vitest'
import { hasSwiftShader, swiftShader } from '../swiftshader.ts'

// Several processes compute, and SwiftShader compiles for each.
vi.setConfig({ testTimeout: 300_000 })

function bench(...words: string[]) {
  const { stdout, stderr, status } = spawnSync(process.execPath, ['bench/run.js', ...words, '--gpu', 'swiftshader'], {
    cwd: new URL('../..', import.meta.url),
    env: { ...process.env, ...swiftShader },
    encoding: 'utf8',
  })
  expect({ stderr, status }).toMatchObject({ status: 0 })
  return JSON.parse(stdout.trimEnd().split('\n').at(-1)!)
}

describe.runIf(hasSwiftShader)('the WebGPU bench', () => {
  it('measures the engine beside the stock backend, whose results it compares', () => {
    const result = bench('webgpu', '--tiny', '--rounds', '1', '--only', 'bank updated')
    expect(result).toMatchObject({ bench: 'webgpu', device: 'SwiftShader Device (Subzero)' })
    expect(result.rows).toHaveLength(1)
    const [row] = result.rows
    expect(row).toMatchObject({ kernel: 'rows of a bank updated', shape: '4 of [50, 8]' })
    expect(row.milliseconds).toBeGreaterThan(0)
    expect(row.ratio).toBeCloseTo(row.stockMilliseconds / row.milliseconds, 1)
    expect(row.difference).toBeLessThan(1e-6)
  })

  it('looks at the memory of a run, which does not grow', () => {
    const { memory, ...result } = bench('webgpu', '--steps', '30')
    expect(result).toMatchObject({ bench: 'webgpu', device: 'SwiftShader Device (Subzero)', steps: 30 })
    expect(memory.map(({ step }: { step: number }) => step)).toEqual([10, 30])
    const [early, late] = memory
    expect(early.usedBytes).toBeGreaterThan(0)
    expect(early.heldBytes).toBeGreaterThanOrEqual(early.usedBytes)
    expect([late.created - late.destroyed, late.heldBytes]).toEqual([early.created - early.destroyed, early.heldBytes])
    expect(late.loss).toBeGreaterThan(0)
    expect(late.rssBytes).toBeGreaterThan(late.heapBytes)
  })
})
