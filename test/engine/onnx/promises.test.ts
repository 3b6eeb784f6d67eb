import { afterEach, describe, expect, it } from 'vitest'
import { type OnnxEngine, startOnnx } from '../../../src/engine/onnx/index.ts'
import { createMemoryContext, memoryBytes, type Recorded } from '../../../src/experiments/memory-context.ts'
import { perform } from '../../../src/experiments/perform.ts'
import { rollDice } from '../../../src/models/dice.ts'
import { type KMeansOptions, kMeans } from '../../../src/models/math/kmeans.ts'
import { tf } from '../../../src/tf.ts'
import { inPromises } from './engines.ts'
import { definitionOf, runs } from './runs.ts'

let engine: OnnxEngine | undefined

afterEach(() => {
  engine?.dispose()
  engine = undefined
})

/** All that a run finds on an engine, but for times. */
async function outcome(start: typeof inPromises, run: (typeof runs)[number]) {
  engine = await start({ threads: 1 })
  const tensors = tf.memory().numTensors
  const { recorded, ...context } = createMemoryContext(memoryBytes())
  await perform(definitionOf(run, 1), context)
  expect(tf.memory().numTensors).toBe(tensors)
  engine.dispose()
  engine = undefined
  const told = recorded.metrics.flatMap(({ step, values }) =>
    Object.entries(values).map(([name, value]) => ({ step, name, value })),
  )
  const { findings, checkpoints } = recorded as Recorded
  return {
    metrics: told.filter(({ name }) => !['imagesPerSecond', 'waitShare'].includes(name)),
    findings,
    tensors: checkpoints.map(({ checkpoint }) => checkpoint.tensors),
  }
}

type Outcome = Awaited<ReturnType<typeof outcome>>

/**
 * Of what is clustered: points that are on another device are summed there, in single precision; those that JavaScript
 * has it sums in double. So sums, and the centroids made of them, may differ in their last digits.
 */
function expectNearly(got: Outcome, wanted: Outcome): void {
  const nearly = (value: number, largest: number) => expect.closeTo(value, 6 - Math.log10(2 * largest || 1))
  expect(got.findings).toEqual(wanted.findings)
  expect(got.metrics).toEqual(
    wanted.metrics.map((told) =>
      told.name === 'inertia' ? { ...told, value: nearly(told.value, Math.abs(told.value)) } : told,
    ),
  )
  expect(got.tensors.map(Object.keys)).toEqual(wanted.tensors.map(Object.keys))
  for (const [i, tensors] of wanted.tensors.entries())
    for (const [name, { data, ...kind }] of Object.entries(tensors)) {
      const { data: found, ...kindFound } = got.tensors[i]![name]!
      const values = Array.from(data as ArrayLike<number>)
      const largest = Math.max(...values.map(Math.abs))
      expect(kindFound).toEqual(kind)
      expect(Array.from(found as ArrayLike<number>)).toEqual(values.map((value) => nearly(value, largest)))
    }
}

it.each(runs)(
  'an engine that gives numbers in promises only computes the same: $method on $net with $settings',
  async (run) => {
    const [got, wanted] = [await outcome(inPromises, run), await outcome(startOnnx, run)]
    if (run.method === 'kmeans-patches') expectNearly(got, wanted)
    else expect(got).toEqual(wanted)
  },
)

describe('k-means on an engine that gives numbers in promises only', () => {
  // Two blocks of points around three places.
  const count = 70_000
  const dice = rollDice(2)
  const data = Float32Array.from({ length: 2 * count }, (_, i) => 5 * (Math.floor(i / 2) % 3) + dice.normal())
  const start = { data: data.slice(0, 6), width: 2 }
  const cluster = (given: Partial<KMeansOptions> = {}) =>
    kMeans({ data, width: 2 }, { k: 3, iterations: 4, start, dice: rollDice(1), ...given })

  it('finds the same, and brings the points there once', async () => {
    engine = await startOnnx({ threads: 1 })
    const wanted = await cluster()
    engine.dispose()
    engine = await inPromises({ threads: 1 })
    const before = tf.memory().numTensors
    const tensors: number[] = []
    const found = await cluster({ onProgress: () => void tensors.push(tf.memory().numTensors - before) })
    expect([...found.assignments]).toEqual([...wanted.assignments])
    found.inertia.forEach((value, i) => {
      expect(value / wanted.inertia[i]!).toBeCloseTo(1, 5)
    })
    // When the last block was looked at: the points in two blocks, the centroids in two tensors.
    expect(tensors.at(-1)).toBe(4)
    expect(tf.memory().numTensors).toBe(before)
  })

  it('leaves no tensor behind when it is stopped', async () => {
    engine = await inPromises({ threads: 1 })
    const before = tf.memory().numTensors
    await expect(cluster({ stop: AbortSignal.abort(new Error('enough')) })).rejects.toThrow('enough')
    const stop = new AbortController()
    const stopping = { onProgress: () => stop.abort(new Error('enough')), stop: stop.signal }
    await expect(cluster(stopping)).rejects.toThrow('enough')
    expect(tf.memory().numTensors).toBe(before)
  })
})
