import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type GpuEngine, startWebGpu } from '../../../src/engine/webgpu/index.ts'
import { tf } from '../../../src/tf.ts'
import { hasSwiftShader, onlySwiftShader, swiftShaderChoice } from '../../swiftshader.ts'
import {
  type Case,
  distance,
  floats,
  given,
  integers,
  type Outcome,
  outcomesLater,
  outcomesOf,
} from '../onnx/parity.ts'

const { NaN: none } = Number

const last = (one: Case, change: (i: number, x: number) => number): Case => {
  const [first, ...rest] = one.operands
  return { ...one, operands: [{ ...first!, values: first!.values.map((x, i) => change(i, x)) }, ...rest] }
}

const sums = (rows: number, width: number, segments: number): Case => ({
  kernel: 'UnsortedSegmentSum',
  title: `${rows} rows of ${width} into ${segments} segments`,
  operands: [floats([rows, width]), integers([rows], segments, 0, 7)],
  compute: (x, ids) => tf.unsortedSegmentSum(x, ids as tf.Tensor1D, segments),
})

const place = (shape: number[], axis: number, kernel: 'ArgMax' | 'ArgMin' = 'ArgMax'): Case => ({
  kernel,
  title: `of [${shape}] along ${axis}`,
  operands: [floats(shape, (x) => Math.round(x * 100))],
  compute: (x) => (kernel === 'ArgMax' ? tf.argMax : tf.argMin)(x, axis),
  bound: 0,
})

/** tfjs looks through all rows for each segment. */
function summed({ operands: [x, ids] }: Case, segments: number): Outcome {
  const width = x!.shape[1]!
  const values = new Float32Array(segments * width)
  const rows = Float32Array.from(x!.values)
  for (const [row, id] of ids!.values.entries())
    for (let c = 0; c < width; c++) values[id * width + c]! += rows[row * width + c]!
  return { shape: [segments, width], dtype: 'float32', values }
}

/** What the table of kernels is too small for: the other ways in which shaders do the same. */
const large: Case[] = [
  place([2, 20_000], 1),
  place([2, 20_000], 1, 'ArgMin'),
  place([3, 300, 2], 1),
  last({ ...place([2, 300], 1), title: 'that begins with what is no number' }, (i, x) => (i % 300 === 0 ? none : x)),
  {
    kernel: 'TopK',
    title: 'many of many, some of them equal',
    operands: [floats([2, 1000], (x) => Math.round(x * 20))],
    compute: (x) => Object.values(tf.topk(x, 300)) as tf.Tensor[],
    bound: 0,
  },
  ...[false, true].map(
    (exclusive): Case => ({
      kernel: 'Cumsum',
      title: `of many, exclusive ${exclusive}`,
      operands: [floats([2, 700])],
      compute: (x) => tf.cumsum(x, 1, exclusive, exclusive),
    }),
  ),
  {
    kernel: 'Concat',
    title: 'of more parts than a shader may have buffers',
    operands: Array.from({ length: 13 }, (_, i) => floats([3, 4 * (i % 3) + 4], undefined, i + 1)),
    compute: (...parts) => tf.concat(parts, 1),
    bound: 0,
  },
  {
    kernel: 'OneHot',
    title: 'of many classes',
    operands: [given([3, 19_999, -1], [3], 'int32')],
    compute: (x) => tf.sum(tf.oneHot(x, 20_000, 1, 0, 'float32'), 0),
  },
  {
    kernel: 'MaxPoolGrad',
    title: 'of what has a relu',
    operands: [floats([2, 6, 6, 4])],
    compute: (x) => tf.maxPool(tf.relu(x) as tf.Tensor4D, 2, 2, 'valid'),
    gradient: true,
  },
  {
    kernel: 'MaxPoolGrad',
    title: 'of what has a relu, where windows overlap',
    operands: [floats([2, 7, 7, 4])],
    compute: (x) => tf.maxPool(tf.relu(x) as tf.Tensor4D, 3, 2, 'same'),
    gradient: true,
  },
  {
    kernel: 'Reverse',
    title: 'of a sum, summed',
    operands: [floats([5, 6])],
    compute: (x) => tf.sum(tf.mul(tf.reverse(tf.add(x, 1), 1), [[1, 2, 3, 4, 5, 6]]), 0),
  },
]

/**
 * Rows for places, of which some are there twice: the last of them stays. Written in the place of what they replace, and
 * by the graph, where that computes with all of it.
 */
function updates(rows: number): Case[] {
  const at = Array.from({ length: rows }, (_, i) => (i * 7) % 50)
  const update: Case = {
    kernel: 'TensorScatterUpdate',
    title: `${rows} rows`,
    operands: [floats([60, 3]), given(at, [rows, 1], 'int32'), floats([rows, 3], undefined, 4)],
    compute: (x, places, values) => tf.tensorScatterUpdate(x, places, values),
    bound: 0,
  }
  const negated: Case['compute'] = (...operands) => tf.neg(update.compute(...operands) as tf.Tensor)
  return [update, { ...update, title: `${rows} rows, negated`, compute: negated }]
}

describe.runIf(hasSwiftShader)('operations on WebGPU', () => {
  let engine: GpuEngine

  beforeAll(async () => {
    onlySwiftShader()
    engine = await startWebGpu({ choice: swiftShaderChoice, onFallback: () => {} })
  })

  afterAll(() => engine.dispose())

  it.each([...large, ...updates(100), ...updates(4200)].map((one) => [`${one.kernel} ${one.title}`, one] as const))(
    'compute %s as tfjs does',
    async (_, one) => {
      await tf.setBackend('cpu')
      const wanted = outcomesOf(one)
      await tf.setBackend('webgpu')
      const got = await outcomesLater(one)
      for (const [i, outcome] of wanted.entries())
        expect(distance(got[i]!, outcome), `result ${i}`).toBeLessThanOrEqual(one.bound ?? 5e-6)
    },
  )

  it('put a number in the place of another and leave alone what else holds that one', async () => {
    const updated = () =>
      tf.tidy(() => tf.tensorScatterUpdate(tf.tensor1d([7]), tf.tensor2d([0], [1, 1], 'int32'), tf.tensor1d([3])))
    for (let i = 0; i < 3; i++) {
      const all = [updated(), tf.tidy(() => tf.neg(tf.tensor1d([7])))]
      expect(await Promise.all(all.map(async (x) => [...(await x.data())]))).toEqual([[3], [-7]])
      const after = tf.tidy(() => tf.neg(tf.tensor1d([7])))
      expect([...(await after.data())]).toEqual([-7])
      tf.dispose([...all, after])
    }
  })

  it.each([
    [5000, 3, 6000],
    [5000, 70, 300],
    [200, 3, 9000],
  ])('sum %d rows of %d into %d segments', async (rows, width, segments) => {
    const one = sums(rows, width, segments)
    const [got] = await outcomesLater(one)
    expect(distance(got!, summed(one, segments))).toBeLessThanOrEqual(5e-6)
  })

  it('sum segments to the same bits each time', async () => {
    const one = sums(5000, 3, 6000)
    const [first] = await outcomesLater(one)
    for (let i = 0; i < 3; i++) expect((await outcomesLater(one))[0]!.values).toEqual(first!.values)
  })
})
