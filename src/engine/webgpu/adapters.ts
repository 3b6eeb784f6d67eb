import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { Unavailable } from '../../errors.ts'

/** What the package `webgpu` (Dawn for Node) shows of itself. */
export interface Dawn {
  create(flags: string[]): GPU
  version: string
  /** The file that was loaded. */
  file: string
}

/** What computes behind WebGPU, as Dawn lists it; the place in the list is the number that GESTALT_GPU takes. */
export interface Listed {
  index: number
  name: string
  backend: string
}

/** Names of what computes on the processor; where the driver calls itself a fallback, that counts as well. */
const softwareNames = /swiftshader|llvmpipe|lavapipe|softpipe|basic render driver|software adapter/i

const packageCure =
  "run 'npm ci' without --omit=optional; it brings libraries for Linux (glibc), macOS and Windows on x64 and arm64"

/** What to do where the package is there and does not load. */
function cureOf(line: string): string {
  const needed = /version `(GLIBC\w*_[\d.]+)' not found/.exec(line)?.[1]
  if (!needed) return packageCure
  return `this system is older than the library, which needs ${needed}: use a newer one (Debian 12, Ubuntu 22.04) or a container`
}

/** Our door to the package, looked for beside `from`. Throws Unavailable where it is missing or does not load. */
export async function loadDawn(from = import.meta.url): Promise<Dawn> {
  let file: string
  try {
    file = createRequire(from).resolve('webgpu')
  } catch (cause) {
    throw new Unavailable('the optional package webgpu is not installed', packageCure, { cause })
  }
  try {
    const { create, globals } = (await import(pathToFileURL(file).href)) as Dawn & { globals: object }
    // What the standard makes global: GPUBufferUsage and its like.
    for (const [name, value] of Object.entries(globals))
      if (!(name in globalThis)) Object.defineProperty(globalThis, name, { value, configurable: true, writable: true })
    const { version } = JSON.parse(readFileSync(join(dirname(file), 'package.json'), 'utf8')) as { version: string }
    return { create, version, file }
  } catch (cause) {
    const line = (cause as Error).message.split('\n')[0]!
    throw new Unavailable(`the package webgpu does not load: ${line}`, cureOf(line), { cause })
  }
}

/**
 * Dawn's instances by their flags, kept until the process ends: where one is collected as garbage, its threads work on
 * freed memory, and the process crashes or hangs. They do not keep the process from ending.
 */
const instances = new Map<string, GPU>()

function instanceOf(dawn: Dawn, flags: readonly string[]): GPU {
  const key = JSON.stringify([dawn.file, ...flags])
  const instance = instances.get(key) ?? dawn.create([...flags])
  instances.set(key, instance)
  return instance
}

/** No adapter has this in its name. */
const nobody = '\u0001'

/**
 * All adapters, those for speed first. Dawn has no call for it: its refusal of a name that nobody has lists those there
 * are; where there is none, it refuses nothing.
 */
export async function listAdapters(dawn: Dawn): Promise<Listed[]> {
  try {
    await instanceOf(dawn, [`adapter=${nobody}`]).requestAdapter({ powerPreference: 'high-performance' })
    return []
  } catch (refusal) {
    const text = refusal instanceof Error ? refusal.message : String(refusal)
    const lines = [...text.matchAll(/^ \* backend: '([^']*)', name: '(.*)'$/gm)]
    return lines.map(([, backend, name], index) => ({ index, name: name!, backend: backend! }))
  }
}

/** Those that a choice means: one by its number, or all with the text in their names; all where nothing is chosen. */
export function chosenOf(all: readonly Listed[], choice: string | undefined): Listed[] {
  if (choice === undefined) return [...all]
  const found = /^\d+$/.test(choice)
    ? all.filter(({ index }) => index === Number(choice))
    : all.filter(({ name }) => name.toLowerCase().includes(choice.toLowerCase()))
  if (found.length > 0) return found
  const there = all.map(({ index, name }) => `${index} (${name})`).join(', ')
  throw new Unavailable(
    `there is no GPU '${choice}' here; there ${all.length === 1 ? 'is' : 'are'}: ${there}`,
    'set GESTALT_GPU to a number or a part of a name of these, or leave it out',
  )
}

export function isSoftware(name: string, info?: GPUAdapterInfo): boolean {
  return softwareNames.test(name) || info?.isFallbackAdapter === true
}

export interface Opened extends Listed {
  adapter: GPUAdapter
  software: boolean
}

/** The adapter itself. Dawn finds it by its name alone, so of several with one name only the first can be had. */
export async function openAdapter(
  dawn: Dawn,
  wanted: Listed,
  all: readonly Listed[],
  flags: readonly string[],
): Promise<Opened> {
  const first = all.find(({ name }) => name.includes(wanted.name))
  if (first?.index !== wanted.index)
    throw new Unavailable(
      `GPU ${wanted.index} (${wanted.name}) cannot be told from GPU ${first?.index}, whose name is alike`,
      'give each worker a container with one GPU (NVIDIA_VISIBLE_DEVICES, or --gpus device=N)',
    )
  const instance = instanceOf(dawn, [`adapter=${wanted.name}`, ...flags])
  const adapter = await instance.requestAdapter({ powerPreference: 'high-performance' })
  if (!adapter) throw new Unavailable(`the GPU ${wanted.name} went away`, 'see that its driver works, then try again')
  return { ...wanted, adapter, software: isSoftware(wanted.name, adapter.info) }
}
