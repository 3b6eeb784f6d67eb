import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { RecordingBackend } from '../../../src/engine/recording/backend.ts'
import { Buffers } from '../../../src/engine/webgpu/buffers.ts'
import { type GpuEngine, startWebGpu } from '../../../src/engine/webgpu/index.ts'
import { Reader } from '../../../src/engine/webgpu/reading.ts'
import { noTraffic } from '../../../src/engine/webgpu/traffic.ts'
import { GpuFull, TooLarge } from '../../../src/errors.ts'
import { npid } from '../../../src/models/methods/npid.ts'
import { tf } from '../../../src/tf.ts'
import { buildTiny } from '../../models/tiny.ts'
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
    const summed = (rows = 20_000) =>
      tf.tidy(() => {
        const [a, b] = [tf.ones([rows, 1]), tf.ones([1, 20_000])]
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

    it('is refused by what the device has, not by what other engines can address', async () => {
      const sum = summed(30_000)
      await expect(sum.data()).rejects.toThrow(/\[30000, 20000\].* takes 2.24 GiB; SwiftShader.* up to 1.00 GiB/)
      sum.dispose()
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

  describe('that too many rows have no room in', () => {
    const sumOf = (rows: tf.Tensor) => {
      const many = tf.mul(rows.reshape([64, 1]), tf.ones([1, 6_250_000]))
      return tf.softmax(tf.add(many, tf.sin(rows.reshape([64, 1])))).sum()
    }
    const general = expect.stringMatching(/^take a smaller batch/)
    const smaller = expect.stringMatching(/^a batch of at most 42 in place of 64 would fit; or take/)

    it.each([
      ['names a batch that would fit where the images are as many', [64, 1, 1, 1], sumOf, smaller],
      ['names none where it is not known how many images there are', [64, 1], sumOf, general],
      [
        'does not take the rows of a filter for images',
        [64, 1, 1, 1],
        (filter: tf.Tensor) => {
          const slot = tf.zeros([64, 1, 1, 1])
          const seen = tf.conv2d(tf.ones<tf.Rank.R4>([1, 64, 1, 1]), filter as tf.Tensor4D, 1, 'valid')
          return tf.add(sumOf(tf.add(filter, slot)), seen.sum())
        },
        general,
      ],
    ] as const)('%s', async (_, shape, compute, cure) => {
      const rows = tf.ones([...shape])
      const sum = tf.tidy(() => compute(rows))
      await expect(sum.data()).rejects.toMatchObject({ code: 'too-large', cure })
      tf.dispose([rows, sum])
    })
  })

  it('is known not to suffice for a memory bank before that is drawn, with what would fit', () => {
    const train = { imageShape: [12, 12, 1], size: 3_000_000, classes: 4 }
    const build = () => buildTiny(npid, { dimension: 128 }, { train } as never)
    expect(build).toThrow(TooLarge)
    expect(build).toThrow(
      'the memory bank does not fit: 3000000 rows of 128 numbers take 1.43 GiB, ' +
        'and the GPU SwiftShader Device (Subzero) takes up to 1.00 GiB in one piece',
    )
    const cure =
      '89 numbers for each would fit, or at most 2097152 training images of 128 numbers; or take another GPU, or none'
    expect(build).toThrow(expect.objectContaining({ cure }))
  })

  it('says that memory ran out, and for what, and computes on', async () => {
    const sum = tf.tidy(() => {
      const [a, b] = [tf.ones([16_384, 1]), tf.ones([1, 16_384])]
      return tf.softmax(tf.add(tf.mul(a, b), tf.sin(a))).sum()
    })
    const error = await sum.data().catch((thrown) => thrown)
    expect(error).toBeInstanceOf(GpuFull)
    expect(error.message).toMatch(/ran out: .*\[16384, 16384\].* needs 1.00 GiB, of 2.00 GiB that are wanted at once/)
    expect(engine.gpu.failure).toBeUndefined()
    const two = tf.tidy(() => tf.neg(tf.tensor1d([-2])))
    expect([...(await two.data())]).toEqual([2])
    tf.dispose([sum, two])
  })

  it('is not asked for by steps like those before', async () => {
    const weights = tf.variable(tf.randomNormal([16, 8], 0, 1, 'float32', 3))
    const optimizer = tf.train.adam(0.01)
    const images = tf.randomNormal<tf.Rank.R2>([32, 16], 0, 1, 'float32', 4)
    const step = async () => {
      const loss = optimizer.minimize(() => tf.mean(tf.square(tf.matMul(images, weights as tf.Tensor2D))), true)!
      const [value] = await loss.data()
      loss.dispose()
      return value!
    }
    const first = await step()
    for (let i = 0; i < 5; i++) await step()
    const { device } = engine.gpu
    const { createBuffer } = device
    let made = 0
    device.createBuffer = (wanted) => {
      made++
      return createBuffer.call(device, wanted)
    }
    for (let i = 0; i < 5; i++) expect(await step()).toBeLessThan(first)
    Object.assign(device, { createBuffer })
    expect(made).toBe(0)
    tf.dispose([weights, images])
    optimizer.dispose()
  })

  describe('that is given back', () => {
    const of = (bytes: number, shape: number[] = []) => ({ bytes, what: { name: 'something', shape } })
    const sizes = Array.from({ length: 10 }, (_, i) => (28 + 4 * i) * 2 ** 20)

    it('is kept for the next up to a bound, the last used the longest, and all given up where memory runs out', async () => {
      const buffers = new Buffers(engine.gpu, noTraffic())
      for (const size of sizes) for (const block of await buffers.take([of(size)])) buffers.give(block)
      const kept = buffers.bytes
      expect(buffers.usedBytes).toBe(0)
      expect(kept).toBeGreaterThan(2 ** 27)
      expect(kept).toBeLessThanOrEqual(2 ** 28 + 64 * 2 ** 20)
      const last = await buffers.take(sizes.slice(-3).map((size) => of(size)))
      expect(buffers.bytes).toBe(kept)
      const { usedBytes } = buffers
      // A gibibyte is more than the driver has in one piece.
      await expect(buffers.take([of(2 ** 30, [8, 4]), of(2 ** 28, [8, 2])], 8)).rejects.toMatchObject({
        code: 'no-room',
        cure: expect.stringMatching(/^a batch of at most 1 in place of 8 would fit/),
      })
      expect(buffers.usedBytes).toBe(usedBytes)
      await expect(buffers.take([of(2 ** 30)])).rejects.toThrow(GpuFull)
      expect(buffers.bytes).toBe(usedBytes)
      for (const block of last) buffers.give(block)
    })

    /** Lets this process have so many more bytes of addresses than it has, as a full card would. */
    const limitTo = (more: number | undefined) => {
      const pages = Number(readFileSync('/proc/self/statm', 'utf8').split(' ')[0])
      const most = more === undefined ? 'unlimited' : String(pages * 4096 + more)
      execFileSync('prlimit', ['--pid', String(process.pid), `--as=${most}:`])
    }

    it('makes room for what has none', async () => {
      const buffers = new Buffers(engine.gpu, noTraffic())
      const [idle] = await buffers.take([of(240 * 2 ** 20)])
      buffers.give(idle!)
      limitTo(128 * 2 ** 20)
      const [block] = await buffers.take([of(256 * 2 ** 20)]).finally(() => limitTo(undefined))
      expect(buffers.bytes).toBe(2 ** 28)
      block!.memory.destroy()
    })

    it.each([true, false])(
      'makes room for numbers that are read, or says that there is none (some idle: %s)',
      async (idles) => {
        const buffers = new Buffers(engine.gpu, noTraffic())
        const reader = new Reader(engine.gpu, buffers, noTraffic())
        const bytes = 96 * 2 ** 20
        const [block, other] = await buffers.take([of(bytes), of(2 ** 28)])
        buffers.write(block!, Int32Array.of(1, 2, 3))
        const first = async (count: number) => [...new Int32Array(await reader.read(block!, count), 0, 3)]
        // What was destroyed before is given back to the driver only now.
        await buffers.clear()
        if (idles) buffers.give(other!)
        limitTo(64 * 2 ** 20)
        const found = await first(bytes)
          .catch((error) => error)
          .finally(() => limitTo(undefined))
        const refusal = { code: 'no-room', message: expect.stringMatching(/^there is no memory for 96.0 MiB/) }
        expect(found).toMatchObject(idles ? [1, 2, 3] : refusal)
        expect(engine.gpu.failure).toBeUndefined()
        // As often as is wanted.
        expect(await first(12)).toEqual([1, 2, 3])
        expect(block!.readers).toBe(0)
        block!.memory.destroy()
        if (!idles) other!.memory.destroy()
      },
    )
  })
})
