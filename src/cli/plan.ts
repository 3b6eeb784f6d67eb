import type { Config } from '../config.ts'
import { type Definition, parseDefinition } from '../experiments/definition.ts'
import { type Plan, planExperiment } from '../experiments/plan.ts'
import { openDatasetBytes } from './dataset.ts'
import { describeError, exitCodeOf, exitCodes, explain, type Output, size } from './output.ts'
import { readDefinition } from './submit.ts'

/** What a definition starts from is known to its server alone. */
async function planAt(config: Config, written: unknown): Promise<Plan> {
  const { withClient } = await import('./runs.ts')
  return withClient(config, (client) => client.post<Plan>('/v1/experiments?dryRun=true', written))
}

function startLines({ start }: Pick<Plan, 'start'>): string[] {
  if (!start) return []
  const { taken, drawn, offered, skipped } = start
  const names = (list: readonly string[]) =>
    list.length > 6 ? `${list.slice(0, 6).join(', ')}, ...` : list.join(', ') || 'none'
  return [
    `  taken            ${taken.length} tensors of the net; drawn: ${names(drawn)}`,
    `  beside the net   where the method has the like: ${names(offered)}; left out: ${names(skipped)}`,
  ]
}

/** On this machine, or at the server where it starts from something that is kept there. */
async function planFile(config: Config, file: string): Promise<Plan> {
  const written = await readDefinition(file)
  const definition = parseDefinition(written)
  return definition.from ? planAt(config, written) : planExperiment(definition, openDatasetBytes(config))
}

const stages = (it: Plan['stages']) =>
  it.length > 1 ? `; epochs: ${it.map(({ name, epochs }) => `${name} ${epochs}`).join(', ')}` : ''

/** The taps of layers; those inside blocks are for programs. */
function tapsInWords(taps: Plan['taps']): string {
  const layers = Object.entries(taps).filter(([name]) => !name.includes('/'))
  return layers.map(([name, shape]) => `${name} ${shape.join('x')}`).join(', ')
}

/** What only some workers have; nothing where any will do. */
function resourceLines({ gpu, gpuMemory, engine, cores, memoryBytes }: Definition['resources']): string[] {
  const asked = [
    ...(gpu ? [`a GPU${gpuMemory === undefined ? '' : ` with ${size(gpuMemory)} left`}`] : []),
    ...(engine === 'any' ? [] : [`the engine ${engine}`]),
    ...(cores > 1 ? [`${cores} cores`] : []),
    ...(memoryBytes > 0 ? [`${size(memoryBytes)} of memory`] : []),
  ]
  return asked.length > 0 ? [`  asks for         ${asked.join(', ')}`] : []
}

function inWords({ definition, ...it }: Plan): string {
  return [
    `${definition.name}: ${definition.method.name} on ${definition.dataset.name}, net ${definition.net.name}`,
    `  runs             ${it.runs}`,
    `  images           ${it.images.train} to train, ${it.images.test} to test, ${it.imageShape.join(' x ')}`,
    `  steps            ${it.steps} (${it.stepsPerEpoch} an epoch${stages(it.stages)})`,
    `  weights          ${it.weights.toLocaleString('en')}`,
    `  multiply-adds    ${it.multiplyAddsPerImage.toLocaleString('en')} an image, forward`,
    `  memory           about ${size(it.memoryBytes)}`,
    `  disk             about ${size(it.diskBytes)}`,
    `  taps             ${tapsInWords(it.taps)}`,
    ...resourceLines(definition.resources),
    ...startLines(it),
  ].join('\n')
}

/** Plans several definitions: a list with each one's file, and in the place of a plan what is wrong with it. */
async function planAll(config: Config, output: Output, files: readonly string[]): Promise<number> {
  const planned: ({ file: string } & (Plan | { error: ReturnType<typeof describeError> }))[] = []
  let code: number = exitCodes.done
  for (const file of files)
    try {
      const plan = await planFile(config, file)
      planned.push({ file, ...plan })
      if (!output.json) output.say(`${inWords(plan)}\n`)
    } catch (error) {
      planned.push({ file, error: describeError(error) })
      code = exitCodeOf(error)
      if (!output.json) output.say(`${file}:`)
      if (!output.json) explain(error, false)
    }
  if (output.json) output.result(planned, () => '')
  return code
}

/** Plans definitions on this machine: of one file its plan, of several a list. Returns the exit code. */
export async function plan(config: Config, output: Output, files: readonly string[]): Promise<number> {
  if (files.length > 1) return planAll(config, output, files)
  output.result(await planFile(config, files[0]!), inWords)
  return exitCodes.done
}
