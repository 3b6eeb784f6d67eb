import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { type GpuEngine, startWebGpu } from '../../../src/engine/webgpu/index.ts'
import { hasSwiftShader, onlySwiftShader, swiftShaderChoice } from '../../swiftshader.ts'
import { tellingNumbers, wronglyRounded } from '../half-numbers.ts'

onlySwiftShader()

vi.setConfig({ testTimeout: 60_000 })

describe.runIf(hasSwiftShader)('numbers in half precision where the GPU has none', () => {
  let engine: GpuEngine
  beforeAll(async () => {
    engine = await startWebGpu({ choice: swiftShaderChoice, half: 'rounded' })
  })
  afterAll(() => engine.dispose())

  it('are those that a conversion makes of any number', async () => {
    expect(await wronglyRounded(tellingNumbers())).toEqual([])
  })
})
