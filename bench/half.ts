// A quick recipe in single precision and in half, side by side:
//   npm run bench -- half [--recipe NAME] [--images N] [--epochs N] [--batch N] [--seeds N,...] [--gpu NAME] [--native]
//     [--precision single|half] [--save]
// Half precision is 'rounded' by default: numbers are stored in 32 bits, rounded to what 16 can hold, which any GPU can.
// --native stores them in 16, where the GPU has shader-f16. Each run computes in a process of its own; --precision takes
// one only.
import { spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { openDatasetBytes } from '../src/cli/dataset.ts'
import { readConfig } from '../src/config.ts'
import type { Half } from '../src/engine/webgpu/half.ts'
import { startWebGpu } from '../src/engine/webgpu/index.ts'
import { parseDefinition } from '../src/experiments/definition.ts'
import { createMemoryContext, type Recorded } from '../src/experiments/memory-context.ts'
import { perform } from '../src/experiments/perform.ts'

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url))

const { values: given } = parseArgs({
  args: process.argv.slice(3),
  options: {
    recipe: { type: 'string', default: 'npid-quick' },
    images: { type: 'string' },
    epochs: { type: 'string' },
    batch: { type: 'string' },
    seeds: { type: 'string', default: '7' },
    gpu: { type: 'string', default: readConfig(process.env).gpu.choice ?? '' },
    native: { type: 'boolean', default: false },
    precision: { type: 'string', default: 'single,half' },
    save: { type: 'boolean', default: false },
    child: { type: 'string' },
  },
})

type Precision = 'single' | 'half'

interface Found {
  precision: Precision
  seed: number
  images: number
  steps: number
  /** Of the last step, and the mean of the last ten. */
  loss: number
  lastLosses: number
  /** The last loss scale, and steps that were skipped; none in single precision. */
  lossScale: number | null
  overflows: number | null
  /** What the evaluations found, 'nearest-neighbours/accuracy' and so on. */
  accuracies: Record<string, number>
  seconds: number
  device: string
}

/** The recipe as it stands, but for what is asked for, and a memory bank that starts at random. */
function definitionOf(precision: Precision, seed: number) {
  const recipe = JSON.parse(readFileSync(new URL(`../recipes/${given.recipe}.json`, import.meta.url), 'utf8'))
  const { dataset, method, training } = recipe
  return parseDefinition({
    ...{ ...recipe, seed, expected: [] },
    dataset: { ...dataset, ...(given.images ? { limit: Number(given.images) } : {}) },
    // The bank's first features take a hundred passes before the first step, which says nothing here.
    method: method.bankStart ? { ...method, bankStart: 'random' } : method,
    training: {
      ...training,
      ...(given.epochs ? { epochs: Number(given.epochs) } : {}),
      ...(given.batch ? { batchSize: Number(given.batch) } : {}),
      ...{ precision, checkpointEverySteps: 1_000_000 },
    },
    resources: { gpu: true },
  })
}

/** Scores of the evaluations, by 'evaluation/score'. */
const accuraciesOf = ({ findings }: Recorded): Record<string, number> =>
  Object.fromEntries(
    findings.flatMap(({ evaluation, findings: { scores } }) =>
      Object.entries(scores).map(([name, value]) => [`${evaluation}/${name}`, value]),
    ),
  )

const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length

async function runOne(precision: Precision, seed: number): Promise<Found> {
  const half: Half | undefined = precision === 'single' ? undefined : given.native ? 'native' : 'rounded'
  const { gpu } = await startWebGpu({ choice: given.gpu || undefined, half })
  const definition = definitionOf(precision, seed)
  const context = createMemoryContext(openDatasetBytes(readConfig({})))
  const began = performance.now()
  const report = context.metrics.report
  context.metrics.report = (step, values) => {
    report(step, values)
    if (step % 20 === 0 && values.loss !== undefined)
      console.error(`${precision}, step ${step}: loss ${values.loss.toFixed(4)}`)
  }
  await perform(definition, context)
  const told = context.recorded.metrics.filter(({ values }) => values.loss !== undefined)
  const losses = told.map(({ values }) => values.loss!)
  const last = told.at(-1)!.values
  const overflows = told.reduce((sum, { values }) => sum + (values.overflow ?? 0), 0)
  return {
    ...{ precision, seed, images: Number(given.images ?? 0), steps: told.length },
    ...{ loss: losses.at(-1)!, lastLosses: mean(losses.slice(-10)) },
    ...{ lossScale: last.lossScale ?? null, overflows: half ? overflows : null },
    accuracies: accuraciesOf(context.recorded),
    ...{ seconds: Math.round((performance.now() - began) / 1000), device: gpu.name },
  }
}

function runChild(precision: string, seed: string): Found {
  const words = [...process.execArgv, process.argv[1]!, ...process.argv.slice(2), '--child', `${precision},${seed}`]
  const { status, stdout } = spawnSync(process.execPath, words, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  if (status !== 0) throw new Error(`the run in ${precision} precision ended with exit code ${status}`)
  return JSON.parse(stdout.trimEnd().split('\n').at(-1)!)
}

function line({ precision, seed, steps, lastLosses, accuracies, seconds, overflows }: Found): string {
  const shares = Object.entries(accuracies).map(([name, value]) => `${name} ${value.toFixed(4)}`)
  const skipped = overflows === null ? '' : `, ${overflows} steps skipped`
  return `${precision}, seed ${seed}: ${steps} steps, mean of the last ten losses ${lastLosses.toFixed(4)}${skipped}, ${shares.join(', ')}; ${seconds} s`
}

if (given.child) {
  const [precision, seed] = given.child.split(',') as [Precision, string]
  console.log(JSON.stringify(await runOne(precision, Number(seed))))
  process.exit() // whatever the engine still holds
}

const found: Found[] = []
for (const seed of given.seeds.split(','))
  for (const precision of given.precision.split(',')) {
    found.push(runChild(precision, seed))
    console.log(line(found.at(-1)!))
  }
const { recipe, native } = given
const result = { bench: 'half', recipe, device: found[0]!.device, half: native ? 'native' : 'rounded', rows: found }
if (given.save) {
  const date = new Date().toISOString()
  const command = `npm run bench -- half ${process.argv.slice(3).join(' ')}`
  mkdirSync(here('results'), { recursive: true })
  const file = here(`results/half-${given.recipe}-${date.slice(0, 10)}.json`)
  writeFileSync(file, `${JSON.stringify({ date, command, ...result }, null, 2)}\n`)
}
console.log(JSON.stringify(result))
