import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { RecordingBackend } from '../../../src/engine/recording/backend.ts'
import { type GpuEngine, startWebGpu } from '../../../src/engine/webgpu/index.ts'
import { TooLarge } from '../../../src/errors.ts'
import { tf } from '../../../src/tf.ts'
import { hasSwiftShader, onlySwiftShader, swiftShaderChoice } from '../../swiftshader.ts'

onlySwiftShader()

describe.runIf(hasSwiftShader)('memory on WebGPU', () => {
  let engine: GpuEngine

  beforeAll(async () => {
    engine = await startWebGpu({ choice: swiftShaderChoice })
  })

  afterAll(() => engine.dispose())

  const computeNow = () => (tf.backend() as RecordingBackend).endStep()

  /** What was dropped is given back when a later graph has run, and what that has when one more has. */
  const settle = async () => {
    for (let i = 0; i < 3; i++) {
      const one = tf.tidy(() => tf.neg(tf.tensor1d([1])))
      await one.data()
      one.dispose()
    }
    return engine.memory().used
  }

  describe('that a tensor in the midst of a graph has no room in', () => {
    /** 1.6 GB in between; what goes in and comes out is small. */
    const summed = () =>
      tf.tidy(() => {
        const [a, b] = [tf.ones([20_000, 1]), tf.ones([1, 20_000])]
        return tf.softmax(tf.add(tf.mul(a, b), tf.sin(a))).sum()
      })

    it('is refused to whoever reads the result, and to whoever reads what was computed from it', async () => {
      const sum = summed()
      computeNow()
      const more = tf.add(sum, 1)
      await expect(sum.data()).rejects.toThrow(TooLarge)
      await expect(sum.data()).rejects.toThrow(/\[20000, 20000\].* takes 1.49 GiB; .* takes up to 1.00 GiB/)
      await expect(more.data()).rejects.toThrow(TooLarge)
      tf.dispose([sum, more])
    })

    it('keeps none of what the graph had taken until then', async () => {
      const before = await settle()
      const sum = summed()
      await expect(sum.data()).rejects.toThrow(TooLarge)
      sum.dispose()
      expect(await settle()).toBe(before)
    })
  })

  it.each([true, false])(
    'gives what was there before an update, where that was asked for first (computed: %s)',
    async (computed) => {
      const bank = tf.tidy(() => tf.neg(tf.fill([50, 3], -1)))
      if (computed) await bank.data()
      const before = bank.data()
      const places = tf.tensor2d([1, 4], [2, 1], 'int32')
      const rows = tf.fill([2, 3], 7) as tf.Tensor2D
      const after = tf.tensorScatterUpdate(bank, places, rows)
      bank.dispose()
      computeNow()
      expect([...(await before)]).toEqual(Array(150).fill(1))
      expect([...(await after.data()).slice(0, 6)]).toEqual([1, 1, 1, 7, 7, 7])
      tf.dispose([places, rows, after])
    },
  )

  /** Buffers that numbers are copied into, made from here on, and which of them were destroyed. */
  function watchTargets() {
    const { device } = engine.gpu
    const made: { size: number; destroyed: boolean }[] = []
    const { createBuffer } = device
    device.createBuffer = (wanted) => {
      const buffer = createBuffer.call(device, wanted)
      if (!(wanted.usage & GPUBufferUsage.MAP_READ)) return buffer
      const one = { size: wanted.size, destroyed: false }
      made.push(one)
      const { destroy } = buffer
      buffer.destroy = () => {
        one.destroyed = true
        destroy.call(buffer)
      }
      return buffer
    }
    return { made, end: () => Object.assign(device, { createBuffer }) }
  }

  it('keeps small buffers to copy into and destroys large ones', async () => {
    const watched = watchTargets()
    const large = tf.tidy(() => tf.neg(tf.fill([2 ** 19], -1)))
    const small = tf.tidy(() => tf.neg(tf.fill([1000], -1)))
    for (let i = 0; i < 3; i++) {
      expect((await large.data())[2 ** 19 - 1]).toBe(1)
      expect((await small.data())[999]).toBe(1)
    }
    watched.end()
    const kinds = watched.made.map(({ size, destroyed }) => [size, destroyed])
    expect(kinds).toEqual([
      [2 ** 21, true],
      [4096, false],
      [2 ** 21, true],
      [2 ** 21, true],
    ])
    tf.dispose([large, small])
  })

  it('splits what is read in one turn among buffers that the device can have', async () => {
    const watched = watchTargets()
    const all = [1, 2, 3].map((i) => tf.tidy(() => tf.neg(tf.fill([2 ** 23], -i))))
    const read = await Promise.all(all.map((one) => one.data()))
    watched.end()
    expect(read.map((numbers) => [numbers[0], numbers[2 ** 23 - 1]])).toEqual([1, 2, 3].map((i) => [i, i]))
    expect(watched.made).toEqual([2 ** 26, 2 ** 25].map((size) => ({ size, destroyed: true })))
    tf.dispose(all)
  })
})
