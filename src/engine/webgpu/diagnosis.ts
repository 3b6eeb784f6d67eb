import { execFile } from 'node:child_process'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { Unavailable } from '../../errors.ts'

/** Why there is no adapter, and what to do. */
export interface Diagnosis {
  reason: string
  cure: string
}

/** Asks for adapters and says nothing itself: what Dawn and the Vulkan loader print is the answer. */
const script = "const { create } = await import(process.argv[1]); await create(['adapter=\\u0001']).requestAdapter()"

const driverPackages =
  "install the GPU's driver with its Vulkan part (NVIDIA: the driver's packages with libGLX_nvidia and nvidia_icd.json; " +
  'AMD and Intel: mesa-vulkan-drivers); in a container see docs/gpu.md'

/** What is printed, and what it means; the first that fits. The texts that are found are its groups. */
const meanings: readonly [RegExp, (...found: string[]) => Diagnosis][] = [
  [
    /Couldn't load Vulkan: ?(.*)/,
    (found) => ({
      reason: `the Vulkan loader cannot be loaded: ${found || 'there is no libvulkan.so.1'}`,
      cure: 'install it: libvulkan1 on Debian and Ubuntu, vulkan-loader on Fedora and Alpine',
    }),
  ],
  [
    /(\S+\.so\S*): (.*)\n.*Failed loading library associated with ICD JSON (\S+)\. /,
    (library, why, driver) =>
      library === driver
        ? { reason: `the driver's library ${driver} is named but does not load: ${why}`, cure: driverPackages }
        : {
            reason: `the driver's library ${driver} needs ${library}, which does not load: ${why}`,
            cure: "install the package that has it (NVIDIA's driver wants libxext6 and libegl1 of Debian and Ubuntu); in a container see docs/gpu.md",
          },
  ],
  [
    /(Vulkan API version .* was not at least [^\n]*|Vulkan [^\n]* required|Insufficient Vulkan limits[^\n]*)/,
    (found) => ({
      reason: `the driver is too old or too small for Dawn: ${found}`,
      cure: "install a current driver for the GPU (Vulkan 1.1 at least); 'vulkaninfo --summary' shows what there is",
    }),
  ],
  [
    /(Failed to CreateInstance in ICD[^\n]*|VK_ERROR_INITIALIZATION_FAILED|VK_ERROR_DEVICE_LOST|VK_ERROR_OUT_OF_\w+)/,
    (found) => ({
      reason: `the Vulkan driver is there and does not start: ${found}`,
      cure:
        'see that the GPU answers (nvidia-smi, or the files in /dev/dri) and that this account may use it: on AMD and ' +
        'Intel it must be in the group render',
    }),
  ],
  [
    /Failed to (?:parse|open|read) JSON file ([^\s,]+)/,
    (file) => ({
      reason: `the description of a Vulkan driver cannot be read: ${file}`,
      cure:
        'correct it or take it away; VK_DRIVER_FILES and VK_ICD_FILENAMES name such files where they are set, else ' +
        `they come with the driver: ${driverPackages}`,
    }),
  ],
  [
    /(Found no drivers|VK_ERROR_INCOMPATIBLE_DRIVER)/,
    () => ({ reason: 'the Vulkan loader finds no driver', cure: driverPackages }),
  ],
]

/** What the words that were printed say. */
export function explain(words: string): Diagnosis {
  for (const [pattern, diagnosis] of meanings) {
    const match = pattern.exec(words)
    if (match) return diagnosis(...match.slice(1).map((found) => found.trim()))
  }
  return {
    reason: 'no driver shows a GPU',
    cure:
      'see that the machine has one, and that this account may use it (in /dev/dri: the group render); in a container ' +
      'see docs/gpu.md',
  }
}

/**
 * Asks again in a process of its own, because the loader and Dawn say why only on standard error. `environment` stands
 * in for this process' own.
 */
export async function diagnose(file: string, environment: NodeJS.ProcessEnv = { ...process.env }): Promise<Diagnosis> {
  const words = await new Promise<string>((done) => {
    const args = ['--input-type=module', '--eval', script, pathToFileURL(file).href]
    // Of a description that it cannot read the loader speaks only where it is asked to.
    const env = { ...environment, VK_LOADER_DEBUG: 'error' }
    execFile(process.execPath, args, { env, timeout: 30_000 }, (_error, out, err) => done(`${err}${out}`))
  })
  return explain(words)
}

/** Where Linux shows programs a GPU. */
const deviceFiles = /^(nvidia\d+|dxg|renderD\d+)$/
const listed = (folder: string) => readdir(folder).catch(() => [])

/** The same where there cannot be a GPU, whatever the drivers say: that comes first then. */
export async function withoutCard({ reason, cure }: Diagnosis, devices = '/dev'): Promise<Diagnosis> {
  const found = [...(await listed(devices)), ...(await listed(join(devices, 'dri')))]
  if (process.platform !== 'linux' || found.some((name) => deviceFiles.test(name))) return { reason, cure }
  return {
    reason: `this machine shows no GPU (neither ${devices}/nvidia0 nor ${devices}/dri/renderD128 or the like); ${reason}`,
    cure: `see that the machine has a GPU and, in a container, that this is given it (docs/gpu.md); then ${cure}`,
  }
}

/** The error for a machine on which Dawn finds nothing at all. */
export async function nothingFound(file: string): Promise<Unavailable> {
  const { reason, cure } = await withoutCard(await diagnose(file))
  return new Unavailable(`no GPU was found: ${reason}`, cure)
}

/** The error for one on which only the processor computes behind WebGPU. */
export async function onlySoftware(file: string, name: string): Promise<Unavailable> {
  const { reason, cure } = await withoutCard(await diagnose(file))
  const word = /[a-z]+/i.exec(name)?.[0].toLowerCase() ?? name
  return new Unavailable(
    `only a software adapter was found (${name}, which computes on the processor): ${reason}`,
    `${cure}; to compute on it all the same, set GESTALT_ENGINE=webgpu and GESTALT_GPU=${word}`,
  )
}
