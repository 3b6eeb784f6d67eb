import { createWriteStream, existsSync } from 'node:fs'
import { rename, rm, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { pipeline } from 'node:stream/promises'
import type { Config } from '../config.ts'
import { NotFound } from '../errors.ts'
import { exitCodes, type Output, size } from './output.ts'
import { withClient } from './runs.ts'

export interface ExportOptions {
  as: string
  tap?: string[]
  names?: string
  output: string
}

/** Writes a checkpoint, or the last one of a run, to a file for use elsewhere. Returns the exit code. */
export async function exportFile(config: Config, output: Output, id: string, options: ExportOptions): Promise<number> {
  const query = new URLSearchParams({ as: options.as, ...(options.names ? { names: options.names } : {}) })
  for (const tap of options.tap ?? []) query.append('tap', tap)
  const path = (kind: string) => `/v1/${kind}/${encodeURIComponent(id)}/export?${query}`
  const folder = dirname(options.output)
  // Before the server begins: an export takes its time.
  if (!existsSync(folder))
    throw new NotFound(`there is no folder ${folder}`, 'make it first, or name another file with -o')
  return withClient(config, async (client) => {
    const bytes = await client.download(path('runs')).catch((error: unknown) => {
      if (error instanceof NotFound) return client.download(path('checkpoints'))
      throw error
    })
    // Whole under its name, or not at all.
    const partial = `${options.output}.part`
    try {
      await pipeline(bytes, createWriteStream(partial))
      await rename(partial, options.output)
    } catch (error) {
      await rm(partial, { force: true })
      throw error
    }
    const made = { file: options.output, size: (await stat(options.output)).size }
    output.result(made, (it) => `${it.file}, ${size(it.size)}`)
    return exitCodes.done
  })
}
