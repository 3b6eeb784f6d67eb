import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { OnnxEngine } from '../../../src/engine/onnx/index.ts'
import type { RecordingBackend } from '../../../src/engine/recording/backend.ts'
import { Unavailable } from '../../../src/errors.ts'
import { type Tensor, type Tensor2D, tf, type Variable } from '../../../src/tf.ts'
import { engines, inPromises } from './engines.ts'
import { numbers as draw } from './parity.ts'

const [rows, width] = [50, 12]
const numbers = (count: number) => Float32Array.from(draw(count))

const newBank = (values = numbers(rows * width)) =>
  tf.tidy(() => tf.variable(tf.tensor2d(values, [rows, width]), false))

const placesOf = (indices: number[]) => tf.tensor2d(indices, [indices.length, 1], 'int32')
const readRows = (bank: Variable, indices: number[]) =>
  tf.gather(bank as unknown as Tensor2D, tf.tensor1d(indices, 'int32'))

/** Doubles some rows; their sum before. */
function double(bank: Variable, indices: number[]): Tensor {
  return tf.tidy(() => {
    const own = readRows(bank, indices)
    bank.assign(tf.tensorScatterUpdate(bank, placesOf(indices), tf.mul(own, 2)))
    return tf.sum(own)
  })
}

async function read(tensor: Tensor): Promise<number[]> {
  const found = [...(await tensor.data())]
  tensor.dispose()
  return found
}

/** What the rows are after some were doubled, one at a time. */
function doubled(values: Float32Array, ...indices: number[]): number[] {
  const wanted = values.slice()
  for (const row of indices) for (let c = 0; c < width; c++) wanted[row * width + c]! *= 2
  return [...wanted]
}

const sumOf = (values: ArrayLike<number>) => Array.from(values).reduce((a, b) => a + b, 0)
const arrayOf = ({ dataId }: Tensor) => (tf.backend() as RecordingBackend).data.get(dataId).value!.data

describe.each([...engines, ['onnx in promises', inPromises] as const])('updates of rows on %s', (name, start) => {
  let engine: OnnxEngine

  beforeAll(async () => {
    engine = await start({ threads: 2 })
  })

  beforeEach(() => engine.resetStats())

  afterEach(() => {
    tf.disposeVariables()
    expect(tf.memory().numTensors).toBe(0)
  })

  afterAll(() => engine.dispose())

  it('write the rows alone, step after step, with one graph', async () => {
    const values = numbers(rows * width)
    const bank = newBank(values)
    await read(double(bank, [3, 7]))
    const array = arrayOf(bank)
    for (const indices of [[1, 2], [7, 49], [0, 1]]) await read(double(bank, indices)) // biome-ignore format: pairs
    expect(arrayOf(bank)).toBe(array)
    const { runs, compiles, programRuns, fallbacks } = engine.stats()
    expect([runs, compiles, programRuns, fallbacks]).toEqual([4, 1, name === 'machine' ? 4 : 0, {}])
    expect([...(await bank.data())]).toEqual(doubled(values, 3, 7, 1, 2, 7, 49, 0, 1))
  })

  it('change no array that was written or read', async () => {
    const values = numbers(rows * width)
    const given = values.slice()
    const bank = newBank(given)
    await read(double(bank, [1, 2]))
    await read(double(bank, [1, 2]))
    const seen = await bank.data()
    const [before, view] = [[...seen], tf.slice(bank, [2, 0], [1, width])]
    await read(double(bank, [2, 3]))
    expect([...seen]).toEqual(before)
    expect(await read(view)).toEqual(before.slice(2 * width, 3 * width))
    expect([...given]).toEqual([...values])
    expect([...(await bank.data())]).toEqual(doubled(values, 1, 2, 1, 2, 2, 3))
  })

  it('come after all else that their graph reads of the rows before', async () => {
    const values = numbers(rows * width)
    const bank = newBank(values)
    await read(double(bank, [9]))
    const [sum, whole] = tf.tidy(() => {
      const before = tf.sum(bank)
      return [double(bank, [9]), tf.add(before, 0)]
    })
    const wanted = doubled(values, 9)
    expect((await read(sum!))[0]).toBeCloseTo(sumOf(wanted.slice(9 * width, 10 * width)), 3)
    expect((await read(whole!))[0]).toBeCloseTo(sumOf(wanted), 3)
    expect([...(await bank.data())]).toEqual(doubled(values, 9, 9))
  })

  it('leave what a tensor still stands for as it is', async () => {
    const values = numbers(rows * width)
    const bank = newBank(values)
    await read(double(bank, [4]))
    const [kept, twice] = [tf.clone(bank), tf.clone(bank)]
    await read(double(bank, [4, 5]))
    const [one, other] = tf.tidy(() => [
      tf.tensorScatterUpdate(twice, placesOf([0]), tf.zeros([1, width])),
      tf.tensorScatterUpdate(twice, placesOf([1]), tf.zeros([1, width])),
    ])
    tf.dispose(twice)
    const before = doubled(values, 4)
    const without = (row: number) => before.map((value, i) => (Math.floor(i / width) === row ? 0 : value))
    expect(await read(kept)).toEqual(before)
    expect([await read(one!), await read(other!)]).toEqual([without(0), without(1)])
    expect([...(await bank.data())]).toEqual(doubled(values, 4, 4, 5))
  })

  it('can follow each other and be read in one graph, and take known rows', async () => {
    const values = numbers(rows * width)
    const bank = newBank(values)
    const [first, second] = [double(bank, [1, 2]), double(bank, [2, 3])]
    tf.tidy(() => bank.assign(tf.tensorScatterUpdate(bank, placesOf([5]), tf.ones([1, width]))))
    const sums = [await read(first), await read(second)]
    const wanted = doubled(values, 1, 2, 2, 3).map((value, i) => (Math.floor(i / width) === 5 ? 1 : value))
    expect([...(await bank.data())]).toEqual(wanted)
    expect(sums[1]![0]).toBeCloseTo(sumOf(doubled(values, 2).slice(2 * width, 4 * width)), 3)
    // By themselves, without a graph.
    tf.tidy(() => bank.assign(tf.tensorScatterUpdate(bank, placesOf([6]), tf.ones([1, width]))))
    expect([...(await bank.data())].slice(6 * width, 7 * width)).toEqual(Array(width).fill(1))
  })

  it('say which row there is not', async () => {
    const bank = newBank()
    const wrong = tf.tidy(() => tf.tensorScatterUpdate(bank, placesOf([50]), tf.square(tf.ones([1, width]))))
    await expect(wrong.data()).rejects.toThrow(Unavailable)
    await expect(wrong.data()).rejects.toThrow('row 50 was to be updated, of 50')
    const after = tf.neg(wrong)
    await expect(after.data()).rejects.toThrow('of 50')
    tf.dispose([wrong, after])
  })
})
