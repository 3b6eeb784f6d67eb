import { afterEach, describe, expect, it } from 'vitest'
import { type OnnxEngine, startOnnx } from '../../../src/engine/onnx/index.ts'
import { explain, type Feeds, loadPackage, openRuntime, type RuntimePackage } from '../../../src/engine/onnx/runtime.ts'
import { GpuFull, NoRoom, TooLarge, Unavailable } from '../../../src/errors.ts'
import { tf } from '../../../src/tf.ts'

const installed = loadPackage()

let engine: OnnxEngine | undefined

async function start(from: RuntimePackage): Promise<OnnxEngine> {
  engine = await startOnnx({ threads: 1, onFallback: () => {}, runtime: await openRuntime(1, from) })
  return engine
}

afterEach(() => {
  tf.disposeVariables()
  engine?.dispose()
  engine = undefined
})

type Native = NonNullable<RuntimePackage['SynchronousSession']>

/** The unpublished entry, with one method as it could become. */
function changed(method: string, behaviour: (...given: never[]) => unknown): Native {
  return class {
    constructor() {
      const session = new installed.SynchronousSession!()
      const target = { loadModel: session.loadModel.bind(session), run: session.run.bind(session), dispose() {} }
      Object.assign(this, target, { [method]: behaviour })
    }
  } as unknown as Native
}

const asynchronous: [string, RuntimePackage['SynchronousSession']][] = [
  ['is missing', undefined],
  ['wants other arguments', changed('loadModel', () => { throw new Error('no such model') })], // biome-ignore format: short
  ['gives a promise', changed('run', async () => ({}))],
  ['gives nothing', changed('run', () => undefined)],
]

describe('the runtime', () => {
  it('computes within the call with the version that is pinned', async () => {
    const runtime = await openRuntime(1, installed)
    expect(runtime.synchronous).toBe(true)
    expect([0, 4, 8, 16]).toContain(runtime.blockSize)
  })

  it.each(asynchronous)('computes in promises where the unpublished entry %s', async (_, SynchronousSession) => {
    const { stats } = await start({ ...installed, SynchronousSession })
    const x = tf.tensor1d([1, 2, 3])
    const y = tf.square(x)
    const z = tf.sum(y)
    expect(() => z.dataSync()).toThrow(Unavailable)
    expect(() => z.dataSync()).toThrow(/only in promises/)
    const [first, second] = await Promise.all([y.data(), z.data()])
    expect([...first, ...second]).toEqual([1, 4, 9, 14])
    expect(stats().runs).toBe(1)
    const more = tf.mul(z, y)
    const [later, latest] = [more.data(), tf.add(more, 1).data()]
    expect([...(await later), ...(await latest)]).toEqual([14, 56, 126, 15, 57, 127])
    tf.dispose([x, y, z, more])
  })

  it('computes steps one after the other where it gives promises, and tells what fails to whoever reads', async () => {
    const { stats } = await start({ ...installed, SynchronousSession: undefined })
    const weight = tf.variable(tf.tensor1d([1, 2]))
    const optimizer = tf.train.sgd(0.25)
    const step = () => optimizer.minimize(() => tf.sum(tf.square(weight)) as tf.Scalar)
    for (let i = 0; i < 4; i++) step()
    expect([...(await weight.data())]).toEqual([1 / 16, 2 / 16])
    expect(stats()).toMatchObject({ runs: 4, compiles: 1 })
    const wrong = tf.gather(tf.neg(weight), tf.tensor1d([7], 'int32'))
    const after = tf.neg(wrong)
    await expect(wrong.data()).rejects.toThrow(/in Gather/)
    await expect(after.data()).rejects.toThrow(/in Gather/)
    expect([...(await tf.neg(weight).data())]).toEqual([-1 / 16, -2 / 16])
  })

  it('gives a value that is known whatever becomes of graphs after it, where it gives promises', async () => {
    await start({ ...installed, SynchronousSession: undefined })
    const good = tf.neg(tf.tensor1d([1, 2]))
    const first = good.data()
    const wrong = tf.gather(tf.neg(tf.tensor1d([1, 2])), tf.tensor1d([7], 'int32')).data()
    // Asked for before the first graph has ended, while the latest one is the one that fails.
    const second = good.data()
    const outcomes = await Promise.allSettled([first, wrong, second])
    expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled'])
    expect([...(await second)]).toEqual([-1, -2])
  })

  it('refuses a package that computes wrong numbers', async () => {
    const session = { run: async () => ({ y: { data: [0, 0], dims: [2] } }), release() {} }
    const InferenceSession = { create: async () => session } as never
    const wrong = { ...installed, SynchronousSession: undefined, InferenceSession }
    await expect(openRuntime(1, wrong)).rejects.toThrow(Unavailable)
    await expect(openRuntime(1, wrong)).rejects.toThrow('wrong numbers')
  })
})

describe('an error of the runtime', () => {
  /** The package, with another way of running models; the runtime's own trial runs as it is. */
  const running = (change: (run: () => Feeds) => Feeds): RuntimePackage => ({
    ...installed,
    SynchronousSession: class extends (installed.SynchronousSession as new () => object) {
      run(...given: unknown[]) {
        const native = installed.SynchronousSession!.prototype.run as (...all: unknown[]) => Feeds
        const run = () => native.apply(this, given)
        return Object.keys(given[0] as object)[0] === 'x' ? run() : change(run)
      }
    } as never,
  })

  const failing = (message: string) =>
    running(() => {
      throw new Error(message)
    })

  it('names the kernel and the cure', async () => {
    await start(failing("Non-zero status code returned while running Mul node. Name:'Square/Mul/3' Status: no"))
    const y = tf.square(tf.tensor1d([1]))
    expect(() => y.dataSync()).toThrow(/in Square/)
    expect(() => y.dataSync(), 'the same again').toThrow(Unavailable)
    expect(() => tf.neg(y).dataSync(), 'what depends on it').toThrow(/in Square/)
  })

  it('says where memory ran out', async () => {
    await start(failing("Non-zero status code returned while running Conv node. Name:'Conv2D/Conv/1' std::bad_alloc"))
    const y = tf.square(tf.tensor1d([1]))
    expect(() => y.dataSync()).toThrow(NoRoom)
  })

  it('tells the memory of a GPU from that of the process', () => {
    const full = new Error("Name:'Conv2D/Conv/1' CUDA failure 2: out of memory ; GPU=0")
    expect(explain(full, true)).toBeInstanceOf(GpuFull)
    expect(explain(full, true).message).toMatch(/^the memory of the GPU ran out in Conv2D: .*CUDA failure 2/)
    for (const error of [explain(full), explain(new Error('std::bad_alloc'), true)]) {
      expect(error).toBeInstanceOf(NoRoom)
      expect(error).not.toBeInstanceOf(GpuFull)
    }
  })

  it('is told before it happens where a tensor would be too large', async () => {
    await start(installed)
    const x = tf.ones([1 << 15, 1])
    expect(() => tf.matMul(x as tf.Tensor2D, tf.transpose(x))).toThrow(TooLarge)
    expect(() => tf.matMul(x as tf.Tensor2D, tf.transpose(x))).toThrow('4.0 GiB')
    // Of 2 GiB less a byte.
    expect(() => tf.matMul(x as tf.Tensor2D, tf.transpose(x))).toThrow(
      expect.objectContaining({ cure: expect.stringContaining('where 32768 is the batch, one of at most 16383') }),
    )
    // A truth takes one byte.
    const longer = tf.ones([50_000, 1])
    expect(() => tf.greater(longer, tf.transpose(longer))).toThrow('2.3 GiB')
  })

  it('is told where a kernel refuses its numbers', async () => {
    await start(installed)
    const y = tf.gather(tf.neg(tf.tensor1d([1, 2, 3])), tf.tensor1d([7], 'int32'))
    expect(() => y.dataSync()).toThrow(/in Gather: .*out of data bounds/s)
    // Another engine would not help.
    expect(() => y.dataSync()).toThrow(expect.objectContaining({ cure: expect.stringContaining('indices') }))
  })

  it('is told where a result has not as many numbers as its shape says', async () => {
    const shortened = (results: Feeds) =>
      Object.entries(results).map(([name, { data, dims }]) => [name, { data: data.slice(1), dims }])
    await start(running((run) => Object.fromEntries(shortened(run()))))
    const y = tf.square(tf.tensor1d([1, 2, 3]))
    expect(() => y.dataSync()).toThrow(Unavailable)
  })
})
