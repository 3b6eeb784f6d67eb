import { createRequire } from 'node:module'
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

  it('is given what newer versions of Node took away', async () => {
    const util = createRequire(import.meta.url)('node:util') as Record<string, unknown>
    const had = util.isNullOrUndefined
    delete util.isNullOrUndefined
    const asks = `
const { isNullOrUndefined } = require('util')
if (!isNullOrUndefined(null) || !isNullOrUndefined(undefined) || isNullOrUndefined(0)) throw new Error('wrong')`
    try {
      await start({ [forCpu]: asks + computing() }, 'CPU')
      expect(await selfTest()).toBeGreaterThan(0)
    } finally {
      util.isNullOrUndefined = had
    }
  })

  it.each([
    ['is not there', {}, 'GPU', /tfjs-node-gpu is not installed/, /engine build-tensorflow --cuda/],
    ['is not there, for the processor', {}, 'CPU', /tfjs-node is not installed/, /engine build-tensorflow \(/],
    ['finds no GPU', { [forGpu]: computing() }, 'GPU', /finds no GPU/, /nvidia-smi/],
    [
      'lacks its library',
      { [forGpu]: "throw new Error('libtensorflow.so.2: cannot open shared object file\\nat x')" },
      'GPU',
      /does not load: libtensorflow\.so\.2: cannot open shared object file$/,
      /build it anew: .* --cuda/,
    ],
    [
      'has a library for newer systems',
      { [forCpu]: "throw new Error('/lib/libc.so.6: version `GLIBC_2.99\\' not found (required by it)')" },
      'CPU',
      /does not load: .*GLIBC_2\.99/,
      /older than the library, which needs GLIBC_2\.99/,
    ],
    ['registers nothing', { [forGpu]: '' }, 'GPU', /does not load: .*'?tensorflow'?/, /build it anew/],
  ] as const)('says so where the package %s', async (_, sources, device, message, cure) => {
    await expect(start(sources, device)).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringMatching(message),
      cure: expect.stringMatching(cure),
    })
  })
})
