import { readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { openDatasetBytes } from '../../src/cli/dataset.ts'
import { readConfig } from '../../src/config.ts'
import { startMachine } from '../../src/engine/machine/index.ts'
import { processor } from '../../src/engine/started.ts'
import { startWebGpu } from '../../src/engine/webgpu/index.ts'
import { parseDefinition } from '../../src/experiments/definition.ts'
import { createMemoryContext, type Recorded } from '../../src/experiments/memory-context.ts'
import { perform } from '../../src/experiments/perform.ts'
import { startRounding } from './computer.ts'
import type { Options } from './options.ts'

export type Precision = 'single' | 'half'

/** What a run found. */
export interface Found {
  precision: Precision
  seed: number
  /** Of the training set; null: as many as the recipe says. */
  images: number | null
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
  /** On the processor, in half precision: how many values of all graphs are rounded where they are read. */
  rounded?: number
}

interface Started {
  device: string
  software: boolean
  /** Asked when all is computed. */
  rounded?(): number
}

async function startOnGpu({ gpu: choice, native }: Options, precision: Precision): Promise<Started> {
  const half = precision === 'single' ? undefined : native ? 'native' : 'rounded'
  const { gpu } = await startWebGpu({ choice: choice || undefined, half })
  return { device: gpu.name, software: gpu.software }
}

/** Throws where something was not computed as on a GPU. */
async function startOnProcessor(precision: Precision): Promise<Started> {
  const threads = availableParallelism()
  const started = { device: processor(), software: false }
  if (precision === 'single') {
    await startMachine({ threads, onFallback: () => {} })
    return started
  }
  const { rounded } = await startRounding(threads)
  const count = () => {
    if (rounded.others > 0) throw new Error(`a GPU rounds ${rounded.others} results within operations besides`)
    return rounded.values
  }
  return { ...started, rounded: count }
}

/** The recipe as it stands, but for what is asked for, and on SwiftShader a memory bank that starts at random. */
function definitionOf(
  { recipe: name, images, epochs, batch }: Options,
  precision: Precision,
  seed: number,
  slow: boolean,
) {
  const recipe = JSON.parse(readFileSync(new URL(`../../recipes/${name}.json`, import.meta.url), 'utf8'))
  const { dataset, method, training } = recipe
  return parseDefinition({
    ...{ ...recipe, seed, expected: [] },
    dataset: { ...dataset, ...(images ? { limit: Number(images) } : {}) },
    // The bank's first features are a hundred passes before the first step.
    method: method.bankStart && slow ? { ...method, bankStart: 'random' } : method,
    training: {
      ...training,
      ...(epochs ? { epochs: Number(epochs) } : {}),
      ...(batch ? { batchSize: Number(batch) } : {}),
      ...{ precision, checkpointEverySteps: 1_000_000 },
    },
    // No GPU is looked for: half precision is refused without.
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

/** Trains a recipe in this process, and evaluates it. */
export async function runOne(options: Options, precision: Precision, seed: number): Promise<Found> {
  const { device, software, rounded } =
    options.engine === 'machine' ? await startOnProcessor(precision) : await startOnGpu(options, precision)
  const definition = definitionOf(options, precision, seed, software)
  const context = createMemoryContext(openDatasetBytes(readConfig({})))
  const began = performance.now()
  const report = context.metrics.report
  context.metrics.report = (step, values) => {
    report(step, values)
    if (step % (software ? 20 : 500) === 0 && values.loss !== undefined)
      console.error(`${precision}, step ${step}: loss ${values.loss.toFixed(4)}`)
  }
  await perform(definition, context)
  const told = context.recorded.metrics.filter(({ values }) => values.loss !== undefined)
  const losses = told.map(({ values }) => values.loss!)
  const last = told.at(-1)!.values
  const overflows = told.reduce((sum, { values }) => sum + (values.overflow ?? 0), 0)
  return {
    ...{ precision, seed, images: options.images ? Number(options.images) : null, steps: told.length },
    ...{ loss: losses.at(-1)!, lastLosses: mean(losses.slice(-10)) },
    ...{ lossScale: last.lossScale ?? null, overflows: precision === 'half' ? overflows : null },
    accuracies: accuraciesOf(context.recorded),
    ...{ seconds: Math.round((performance.now() - began) / 1000), device },
    ...(rounded ? { rounded: rounded() } : {}),
  }
}
