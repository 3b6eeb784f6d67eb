import type { Config } from '../config.ts'
import { parseDefinition } from '../experiments/definition.ts'
import { planExperiment } from '../experiments/plan.ts'
import { openDatasetBytes } from './dataset.ts'
import { type Output, size } from './output.ts'
import { readDefinition } from './submit.ts'

/** Plans a definition on this machine. Returns the exit code. */
export async function plan(config: Config, output: Output, file: string): Promise<number> {
  const definition = parseDefinition(await readDefinition(file))
  const stages = (it: { name: string; epochs: number }[]) =>
    it.length > 1 ? `; epochs: ${it.map(({ name, epochs }) => `${name} ${epochs}`).join(', ')}` : ''
  const planned = await planExperiment(definition, openDatasetBytes(config))
  output.result(planned, (it) =>
    [
      `${definition.name}: ${definition.method.name} on ${definition.dataset.name}, net ${definition.net.name}`,
      `  runs             ${it.runs}`,
      `  images           ${it.images.train} to train, ${it.images.test} to test, ${it.imageShape.join(' x ')}`,
      `  steps            ${it.steps} (${it.stepsPerEpoch} an epoch${stages(it.stages)})`,
      `  weights          ${it.weights.toLocaleString('en')}`,
      `  multiply-adds    ${it.multiplyAddsPerImage.toLocaleString('en')} an image, forward`,
      `  memory           about ${size(it.memoryBytes)}`,
      `  disk             about ${size(it.diskBytes)}`,
    ].join('\n'),
  )
  return 0
}
