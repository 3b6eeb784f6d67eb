import { join } from 'node:path'
import { describe, expect, it, vi } from 'vitest'
import { selfTest } from '../../src/engine/self-test.ts'
import { tf } from '../../src/tf.ts'
import { computing, packageFolder } from '../fixtures/native-package.ts'

/** Loaded anew: a process holds one of the packages. */
async function start(sources: Record<string, string>, device: 'GPU' | 'CPU') {
  vi.resetModules()
  if (tf.findBackendFactory('tensorflow')) tf.removeBackend('tensorflow')
  for (const { kernelName } of tf.getKernelsForBackend('tensorflow')) tf.unregisterKernel(kernelName, 'tensorflow')
  const { startNative } = await import('../../src/engine/native.ts')
  return startNative({ threads: 2, device }, join(packageFolder(sources), 'from.js'))
}

const forGpu = '@tensorflow/tfjs-node-gpu'
const forCpu = '@tensorflow/tfjs-node'

describe("TensorFlow's own library", () => {
  it('computes for our tfjs once a package brings it, and says version and device', async () => {
    const started = await start({ [forGpu]: computing({ gpu: true }) }, 'GPU')
    expect(started).toEqual({ version: '4.99.0', threads: 2, device: 'GPU', gpu: true })
    expect(tf.getBackend()).toBe('tensorflow')
    expect(await selfTest()).toBeGreaterThan(0)
  })

  it('computes without a GPU as well, with either package', async () => {
    for (const name of [forCpu, forGpu]) {
      const started = await start({ [name]: computing() }, 'CPU')
      expect(started).toMatchObject({ version: '4.99.0', threads: 2 })
      expect(started.device).not.toBe('GPU')
    }
  })

  it.each([
    ['is not there', {}, 'GPU', /tfjs-node-gpu is not installed/, /libtensorflow/],
    ['is not there, for the processor', {}, 'CPU', /tfjs-node is not installed/, /libtensorflow/],
    ['finds no GPU', { [forGpu]: computing() }, 'GPU', /finds no GPU/, /CUDA/],
    [
      'lacks its library',
      { [forGpu]: "throw new Error('libtensorflow.so.2: cannot open shared object file\\nat x')" },
      'GPU',
      /does not load: libtensorflow\.so\.2: cannot open shared object file$/,
      /libtensorflow/,
    ],
    ['registers nothing', { [forGpu]: '' }, 'GPU', /does not load: .*'?tensorflow'?/, /libtensorflow/],
  ] as const)('says so where the package %s', async (_, sources, device, message, cure) => {
    await expect(start(sources, device)).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringMatching(message),
      cure: expect.stringMatching(cure),
    })
  })
})
