import { afterEach, expect, it } from 'vitest'
import { type OnnxEngine, startOnnx } from '../../../src/engine/onnx/index.ts'
import { createMemoryContext, memoryBytes, type Recorded } from '../../../src/experiments/memory-context.ts'
import { perform } from '../../../src/experiments/perform.ts'
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

it.each(runs)(
  'an engine that gives numbers in promises only computes the same: $method on $net with $settings',
  async (run) => {
    expect(await outcome(inPromises, run)).toEqual(await outcome(startOnnx, run))
  },
)
