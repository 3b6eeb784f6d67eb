import { parseArgs } from 'node:util'
import { readConfig } from '../../src/config.ts'

/** What was asked for on the command line. */
export function parseOptions(words: string[]) {
  const { values } = parseArgs({
    args: words,
    options: {
      recipe: { type: 'string', default: 'npid-quick' },
      images: { type: 'string' },
      epochs: { type: 'string' },
      batch: { type: 'string' },
      seeds: { type: 'string', default: '7' },
      gpu: { type: 'string', default: readConfig(process.env).gpu.choice ?? '' },
      engine: { type: 'string' },
      native: { type: 'boolean', default: false },
      precision: { type: 'string', default: 'single,half' },
      save: { type: 'boolean', default: false },
      child: { type: 'string' },
    },
  })
  const engine = values.engine ?? (values.gpu || values.native ? 'webgpu' : 'machine')
  if (engine !== 'machine' && engine !== 'webgpu') throw new Error(`--engine '${engine}' is neither machine nor webgpu`)
  if (values.native && engine === 'machine') throw new Error('--native needs a GPU: --engine webgpu')
  return { ...values, engine } as const
}

export type Options = ReturnType<typeof parseOptions>
