import { join } from 'node:path'
import { describe, expect, it, vi } from 'vitest'
import { childEnvironment } from '../../src/config.ts'
import type { EngineName } from '../../src/engine/choice.ts'
import { probeAllEngines, probeEngine } from '../../src/jobs/probe.ts'
import { computing, packageFolder } from '../fixtures/native-package.ts'
import { withoutTensorFlow } from '../fixtures/no-tensorflow.ts'
import { silent } from '../silent.ts'

// Several processes at work; on a busy machine each takes its time.
vi.setConfig({ testTimeout: 120_000 })

/** With the package that comes first in the order of preference. */
const withPackage = (source: string, engine: EngineName = 'auto') => ({
  ...{ engine, threads: 1, log: silent },
  environment: {
    ...childEnvironment(1),
    NODE_PATH: join(packageFolder({ '@tensorflow/tfjs-node-gpu': source }), 'node_modules'),
  },
})

describe('the probe of the engines', () => {
  it('takes TensorFlow on a GPU where it is installed and works', async () => {
    expect(await probeEngine(withPackage(computing({ gpu: true })))).toMatchObject({
      ...{ candidate: 'tensorflow-gpu', rejected: [] },
      engine: { name: 'tensorflow', version: '4.99.0', device: 'GPU', threads: 1 },
    })
  })

  it('goes on behind an engine that takes its process down, and says how that ended', async () => {
    const words = "process.stderr.write('Illegal instruction in libtensorflow\\n'); process.abort()"
    const choice = await probeEngine(withPackage(words))
    expect(choice.candidate).not.toBe('tensorflow-gpu')
    expect(choice.rejected[0]).toMatchObject({
      engine: 'tensorflow-gpu',
      reason: expect.stringMatching(/took its process down \((SIGABRT|exit code 134)\): Illegal instruction/),
    })
  })

  it('goes on behind an engine that hangs', async () => {
    const choice = await probeEngine({ ...withPackage('for (;;);'), patienceSeconds: 10 })
    expect(choice.candidate).not.toBe('tensorflow-gpu')
    expect(choice.rejected[0]).toMatchObject({ engine: 'tensorflow-gpu', reason: 'it did not answer within 10 s' })
  })

  it('goes on behind an engine that computes wrongly', async () => {
    const choice = await probeEngine(withPackage(computing({ gpu: true, relu: 1.2 })))
    expect(choice.candidate).not.toBe('tensorflow-gpu')
    expect(choice.rejected[0]).toMatchObject({
      reason: expect.stringContaining('computes wrongly: the loss of step 1'),
    })
  })

  it('fails with reason and cure where the engine that is asked for does not work', async () => {
    const { environment, ...options } = withPackage('process.abort()', 'tensorflow')
    const search = probeEngine({ ...options, environment: { ...environment, ...withoutTensorFlow } })
    await expect(search).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringMatching(/asks for 'tensorflow'.*tensorflow-gpu: it took its process down/),
      cure: expect.stringMatching(/npm ci/),
    })
  })

  it('says so where no process can compute at all', async () => {
    const environment = { ...childEnvironment(1), NODE_OPTIONS: '--require /nowhere/to-be-found.cjs' }
    const options = { engine: 'auto', threads: 1, environment, log: silent } as const
    await expect(probeEngine(options)).rejects.toThrow(/no engine works on this machine: .*exit code 1/)
  })

  it('ends with its worker', async () => {
    const halt = new AbortController()
    const search = probeEngine({ ...withPackage('for (;;);'), signal: halt.signal })
    setTimeout(() => halt.abort(), 1500)
    await expect(search).rejects.toThrow(/was ended/)
  })

  it('finds all engines, in the order of preference', async () => {
    const all = await probeAllEngines(withPackage('process.abort()'))
    const names = all.map((found) => ('reason' in found ? found.engine : found.candidate))
    expect(names).toEqual(['tensorflow-gpu', 'webgpu', 'onnx-cuda', 'machine', 'onnx', 'tensorflow', 'wasm', 'cpu'])
    expect(all.at(-1)).toMatchObject({ engine: { name: 'cpu' }, selfTestMilliseconds: expect.any(Number) })
  })
})
