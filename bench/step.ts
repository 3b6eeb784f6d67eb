// A training step of recipes/npid-quick.json on each engine, through the real training loop.
// Rounds are interleaved and the median counts, since other processes disturb single timings.
import { readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { openDatasetBytes } from '../src/cli/dataset.ts'
import { readConfig } from '../src/config.ts'
import { chooseEngine } from '../src/engine/choose.ts'
import { type Definition, parseDefinition } from '../src/experiments/definition.ts'
import { createMemoryContext } from '../src/experiments/memory-context.ts'
import { perform } from '../src/experiments/perform.ts'

const rounds = 3
const recipe = JSON.parse(readFileSync(new URL('../recipes/npid-quick.json', import.meta.url), 'utf8'))

// The recipe's own images, those that are shipped.
const bytes = openDatasetBytes(readConfig({}))

function definition(batchSize: number): Definition {
  const method = { ...recipe.method, bankStart: 'random' }
  return parseDefinition({
    ...recipe,
    method,
    training: { ...recipe.training, batchSize },
    evaluations: [],
    expected: [],
  })
}

/** Milliseconds a step: from the first step after `warmUp` to the last. */
async function measure(
  engine: 'machine' | 'onnx' | 'wasm' | 'cpu',
  batchSize: number,
  steps: number,
  warmUp: number,
): Promise<number> {
  await chooseEngine(engine, { threads: availableParallelism() })
  const halt = new AbortController()
  const context = createMemoryContext(bytes, { stop: halt.signal })
  let [began, ended, taken] = [0, 0, 0]
  const report = context.metrics.report
  context.metrics.report = (step, values) => {
    report(step, values)
    if (values.loss === undefined) return
    taken++
    if (taken === warmUp) began = performance.now()
    if (taken === warmUp + steps) {
      ended = performance.now()
      halt.abort('cancelled')
    }
  }
  await perform(definition(batchSize), context)
  return (ended - began) / steps
}

const median = (values: number[]) => [...values].sort((a, b) => a - b)[values.length >> 1]!
const cases = [
  { engine: 'machine', batchSize: 128, steps: 60, warmUp: 10 },
  { engine: 'onnx', batchSize: 128, steps: 60, warmUp: 10 },
  { engine: 'wasm', batchSize: 128, steps: 20, warmUp: 5 },
  { engine: 'machine', batchSize: 8, steps: 60, warmUp: 10 },
  { engine: 'onnx', batchSize: 8, steps: 60, warmUp: 10 },
  { engine: 'wasm', batchSize: 8, steps: 10, warmUp: 3 },
  { engine: 'cpu', batchSize: 8, steps: 1, warmUp: 1 },
] as const
const times = cases.map((): number[] => [])
for (let round = 0; round < rounds; round++)
  for (const [i, { engine, batchSize, steps, warmUp }] of cases.entries())
    times[i]!.push(await measure(engine, batchSize, steps, warmUp))
const rows = cases.map(({ engine, batchSize }, i) => {
  const milliseconds = Math.round(median(times[i]!) * 10) / 10
  return { engine, batchSize, milliseconds, imagesPerSecond: Math.round((batchSize * 1000) / milliseconds) }
})
for (const row of rows)
  console.log(
    `${row.engine.padEnd(7)} batch ${String(row.batchSize).padStart(3)}  ${row.milliseconds} ms a step  ${row.imagesPerSecond} images/s`,
  )
const at = (engine: string, batchSize: number) =>
  rows.find((row) => row.engine === engine && row.batchSize === batchSize)!.milliseconds
const round = (value: number) => Math.round(value * 10) / 10
const machineOverWasm = round(at('wasm', 128) / at('machine', 128))
const onnxOverWasm = round(at('wasm', 128) / at('onnx', 128))
const wasmOverCpuAtBatch8 = Math.round(at('cpu', 8) / at('wasm', 8))
console.log(
  `machine is ${machineOverWasm} times as fast as wasm, onnx ${onnxOverWasm} times; wasm is ${wasmOverCpuAtBatch8} times as fast as plain JavaScript`,
)
console.log(JSON.stringify({ bench: 'step', rows, machineOverWasm, onnxOverWasm, wasmOverCpuAtBatch8 }))
