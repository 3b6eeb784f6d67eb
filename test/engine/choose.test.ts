import { describe, expect, it, vi } from 'vitest'
import type { Candidate } from '../../src/engine/candidates.ts'
import type { Proven } from '../../src/engine/choice.ts'
import { type ChooseOptions, chooseEngine } from '../../src/engine/choose.ts'
import type { Started } from '../../src/engine/started.ts'
import { Unavailable } from '../../src/errors.ts'
import { tf } from '../../src/tf.ts'

const events = ['uncaughtException', 'unhandledRejection'] as const
const listeners = () => events.map((event) => process.listenerCount(event))
const started = { version: '1', threads: 1, device: 'test' }

const missing: Candidate = {
  ...{ name: 'tensorflow-gpu', engine: 'tensorflow' },
  start: () => Promise.reject(new Unavailable('it is not installed', 'install it')),
}
const broken: Candidate = { name: 'onnx', engine: 'onnx', start: () => Promise.reject(new TypeError('no such symbol')) }
const working: Candidate = {
  ...{ name: 'cpu', engine: 'cpu' },
  start: async ({ threads }) => {
    await tf.setBackend('cpu')
    return { ...started, threads }
  },
}

/** One whose every a - b is b - a. */
const wrong = (told: Partial<Started>): Candidate => ({
  ...{ name: 'onnx', engine: 'onnx' },
  async start() {
    if (!tf.findBackendFactory('wrong')) {
      for (const kernel of tf.getKernelsForBackend('cpu')) tf.registerKernel({ ...kernel, backendName: 'wrong' })
      const { kernelFunc } = tf.getKernel('Sub', 'cpu')
      tf.unregisterKernel('Sub', 'wrong')
      const kernel: tf.KernelConfig['kernelFunc'] = ({ inputs, ...call }) =>
        kernelFunc({ ...call, inputs: { a: inputs.b!, b: inputs.a! } })
      tf.registerKernel({ kernelName: 'Sub', backendName: 'wrong', kernelFunc: kernel })
      tf.registerBackend('wrong', tf.findBackendFactory('cpu') as () => never, 0)
    }
    await tf.setBackend('wrong')
    return { ...started, ...told }
  },
})

describe('the choice of the engine', () => {
  it('starts wasm without a word and without listeners of its own, and says what it is', async () => {
    const spoken = (['log', 'info', 'warn', 'error'] as const).map((way) => vi.spyOn(console, way))
    const before = listeners()
    const { engine, rejected } = await chooseEngine('wasm')
    expect(engine).toMatchObject({ name: 'wasm', version: '4.22.0', threads: 1 })
    expect(engine.device).not.toBe('')
    expect(rejected).toEqual([])
    expect(tf.getBackend()).toBe('wasm')
    expect(listeners()).toEqual(before)
    for (const way of spoken) expect(way).not.toHaveBeenCalled()
  })

  it('uses plain JavaScript where it is asked to, and wasm again after that', async () => {
    expect((await chooseEngine('cpu')).engine.name).toBe('cpu')
    expect(tf.getBackend()).toBe('cpu')
    expect((await chooseEngine('wasm')).engine.name).toBe('wasm')
    expect(tf.getBackend()).toBe('wasm')
  })

  it('finds an engine by itself that is not the slowest, and why those before it do not serve', async () => {
    const { engine, rejected, selfTestMilliseconds } = await chooseEngine('auto')
    expect(engine.name).not.toBe('cpu')
    expect(selfTestMilliseconds).toBeGreaterThan(0)
    for (const { reason, cure } of rejected) expect([reason.length > 0, cure.length > 0]).toEqual([true, true])
  })

  it('takes the first that works, with the threads it is given, and names the others with reason and cure', async () => {
    const tried: string[] = []
    const choice = await chooseEngine('auto', {
      ...{ threads: 3, from: [missing, broken, working] },
      onTry: (name) => tried.push(name),
    })
    expect(choice).toMatchObject({
      candidate: 'cpu',
      engine: { name: 'cpu', version: '1', threads: 3, device: 'test' },
    })
    expect(choice.rejected).toEqual([
      { engine: 'tensorflow-gpu', reason: 'it is not installed', cure: 'install it' },
      { engine: 'onnx', reason: 'it fails: no such symbol', cure: expect.stringContaining('npm ci') },
    ])
    expect(tried).toEqual(['tensorflow-gpu', 'onnx', 'cpu'])
  })

  it('passes over an engine that computes wrongly, and gives back what it holds', async () => {
    const dispose = vi.fn()
    const choice = await chooseEngine('auto', { from: [wrong({ dispose }), working] })
    expect(choice.engine.name).toBe('cpu')
    expect(choice.rejected).toMatchObject([{ engine: 'onnx', reason: expect.stringContaining('computes wrongly') }])
    expect(dispose).toHaveBeenCalledTimes(1)
  })

  describe('where the worker has tested one', () => {
    const proven: Proven = { candidate: 'onnx', engine: { name: 'onnx', ...started }, driver: 'driver 1' }
    // It would not pass the test.
    const choose = (told: Partial<Started>, options: ChooseOptions = {}) =>
      chooseEngine('onnx', { from: [{ ...wrong(told), half: true }], proven, ...options })

    it('takes the same on the same device with the same driver without another test', async () => {
      expect(await choose({ driver: 'driver 1' })).toEqual({ ...proven, selfTestMilliseconds: 0, rejected: [] })
    })

    it.each([
      ['another driver', { driver: 'driver 2' }, {}],
      ['another device', { driver: 'driver 1', device: 'other' }, {}],
      ['another version', { driver: 'driver 1', version: '2' }, {}],
      ['a driver that is not told', {}, { proven: { ...proven, driver: undefined } }],
      ['half precision', { driver: 'driver 1' }, { half: true }],
    ])('tests anew with %s', async (_, told, options) => {
      await expect(choose(told, options)).rejects.toThrow(/computes wrongly/)
    })
  })

  it('uses no other than the one that is asked for, and fails with reason and cure where that does not work', async () => {
    await expect(chooseEngine('onnx', { from: [missing, broken, working] })).rejects.toMatchObject({
      code: 'unavailable',
      message: "GESTALT_ENGINE asks for 'onnx', which does not work here: it fails: no such symbol",
      cure: expect.stringMatching(/npm ci.*GESTALT_ENGINE=auto/),
    })
  })

  it('names every reason where nothing works', async () => {
    await expect(chooseEngine('auto', { from: [missing, broken] })).rejects.toMatchObject({
      message: 'no engine works on this machine: tensorflow-gpu: it is not installed; onnx: it fails: no such symbol',
      cure: 'install it; reinstall the packages: npm ci',
    })
  })
})
