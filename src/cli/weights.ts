import { createReadStream } from 'node:fs'
import { open, stat } from 'node:fs/promises'
import type { Config } from '../config.ts'
import { InvalidDefinition, NotFound } from '../errors.ts'
import { readNameMap } from '../experiments/name-map.ts'
import { exitCodes, type Output, size, table } from './output.ts'
import { withClient } from './runs.ts'
import { readText } from './submit.ts'

interface Listed {
  name: string
  source: string
  size: number
  sha256: string
  createdAt: string
  tensors: readonly unknown[]
}

/** A safetensors file whose metadata say a name map, without touching its numbers: their places count from the header. */
async function* withMap(file: string, map: string): AsyncGenerator<Uint8Array> {
  const handle = await open(file)
  try {
    const first = Buffer.alloc(8)
    await handle.read(first, 0, 8, 0)
    const length = Number(first.readBigUInt64LE(0))
    if (length > 2 ** 27) throw new SyntaxError('its header has no end')
    const header = Buffer.alloc(length)
    await handle.read(header, 0, length, 8)
    const { __metadata__: meta = {}, ...tensors } = JSON.parse(header.toString('utf8')) as Record<string, object>
    const json = Buffer.from(JSON.stringify({ __metadata__: { ...meta, 'gestalt.map': map }, ...tensors }))
    const head = Buffer.alloc(8 + 8 * Math.ceil(json.length / 8), ' ')
    head.writeBigUInt64LE(BigInt(head.length - 8), 0)
    json.copy(head, 8)
    yield head
    yield* createReadStream(file, { start: 8 + length, highWaterMark: 2 ** 20 })
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error
    const detail = `is no safetensors file: ${error.message}`
    throw new InvalidDefinition([{ pointer: '', detail }], file)
  } finally {
    await handle.close()
  }
}

/** Sends a file of weights to the server. Returns the exit code. */
export async function addWeights(
  config: Config,
  output: Output,
  name: string,
  options: { from: string; map?: string; preset?: string },
): Promise<number> {
  const { from, map, preset } = options
  const found = await stat(from).catch(() => undefined)
  if (!found?.isFile()) throw new NotFound(`there is no file ${from}`, 'name a .safetensors file with --from')
  const text = map === undefined ? undefined : await readText(map)
  if (text !== undefined) readNameMap(text) // its faults are told before anything is sent
  const query = new URLSearchParams({ name, ...(preset === undefined ? {} : { preset }) })
  const bytes = text === undefined ? createReadStream(from, { highWaterMark: 2 ** 20 }) : withMap(from, text)
  return withClient(config, async (client) => {
    const added = await client.upload<Listed>(`/v1/weights?${query}`, 'application/octet-stream', bytes)
    output.result(
      added,
      (it) => `weights ${it.name}: ${it.tensors.length} tensors, ${size(it.size)}, sha256 ${it.sha256}`,
    )
    return exitCodes.done
  })
}

/** Returns the exit code. */
export async function listWeights(config: Config, output: Output): Promise<number> {
  return withClient(config, async (client) => {
    const { items } = await client.get<{ items: Listed[] }>('/v1/weights')
    const rows = () =>
      items.map((it) => [it.name, it.source, String(it.tensors.length), size(it.size), it.createdAt, it.sha256])
    output.result(items, () =>
      items.length === 0 ? 'no weights' : table(['name', 'names by', 'tensors', 'size', 'added', 'sha256'], rows()),
    )
    return exitCodes.done
  })
}

/** Returns the exit code. */
export async function removeWeights(config: Config, output: Output, name: string): Promise<number> {
  return withClient(config, async (client) => {
    await client.remove(`/v1/weights/${encodeURIComponent(name)}`)
    output.result({ removed: name }, () => `weights ${name} are removed`)
    return exitCodes.done
  })
}
