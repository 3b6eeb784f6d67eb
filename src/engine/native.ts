import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { Unavailable } from '../errors.ts'
import { tf } from '../tf.ts'
import type { NativeBackend } from './native/backend.ts'
import { installWindows } from './native/windows.ts'
import { processor, type Started } from './started.ts'

type Device = 'GPU' | 'CPU'
type Package = '@tensorflow/tfjs-node-gpu' | '@tensorflow/tfjs-node'

/** The one built for GPUs computes without one as well. */
const packages = {
  GPU: ['@tensorflow/tfjs-node-gpu'],
  CPU: ['@tensorflow/tfjs-node', '@tensorflow/tfjs-node-gpu'],
} as const satisfies Record<Device, readonly Package[]>

/** What the packages show of themselves. */
interface NativeModule {
  version?: Record<string, string>
}

/** Where `gestalt engine build-tensorflow` puts what it builds: apart from node_modules, which `npm ci` empties. */
export const builtFolder = fileURLToPath(new URL('../../engines/tensorflow/', import.meta.url))

/** The command that makes this engine work for a device. */
const buildFor = (device: Device) =>
  `npx gestalt engine build-tensorflow${device === 'GPU' ? ' --cuda' : ''} (docs/engines.md says what it needs)`

/** What has to be done where the package is there and does not load. */
function cureOf(message: string, device: Device): string {
  const needed = /version `(GLIBC\w*_[\d.]+)' not found/.exec(message)?.[1]
  if (needed) return `this system is older than the library, which needs ${needed}: use a newer one, or another engine`
  return `build it anew: ${buildFor(device)}`
}

/**
 * The file of a package in the folder of what was built here, or in the installation or above it; undefined where it is
 * not installed.
 */
function locate(name: Package, from: string): string | undefined {
  try {
    return createRequire(from).resolve(name)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'MODULE_NOT_FOUND') return undefined
    throw error
  }
}

/** Both packages register their backend as 'tensorflow', so a process can hold only the first it loads. */
let loaded: { name: Package; module: NativeModule } | undefined

/** The package asks for it; Node 24 has it no more, and those before warn of it. */
function supplyIsNullOrUndefined(): void {
  const util = createRequire(import.meta.url)('node:util') as Record<string, unknown>
  util.isNullOrUndefined = (value: unknown) => value === null || value === undefined
}

function load(name: Package, file: string): NativeModule {
  if (loaded?.name === name) return loaded.module
  if (loaded) throw new Error(`this process computes with ${loaded.name} already`)
  supplyIsNullOrUndefined()
  loaded = { name, module: createRequire(file)(file) as NativeModule }
  return loaded.module
}

/** The package to load for a device: the one that is loaded already, or the first that is installed. */
function choose(device: Device, from: string): { name: Package; file: string } {
  const fitting: readonly [Package, ...Package[]] = packages[device]
  const names = fitting.filter((name) => name === loaded?.name).concat(fitting)
  for (const name of names) {
    const file = locate(name, from)
    if (file) return { name, file }
  }
  throw new Unavailable(`${fitting[0]} is not installed`, `build it against TensorFlow's library: ${buildFor(device)}`)
}

/**
 * Makes tfjs compute with TensorFlow's own library, through an optional package that is looked for beside `from`. The
 * package uses our copy of tfjs or one of its own; either way its backend and kernels go to the registry that all
 * copies in a process share. Throws Unavailable where it does not work, or finds no GPU where `device` asks for one.
 */
export async function startNative(
  { threads, device }: { threads: number; device: Device },
  from = builtFolder,
): Promise<Started> {
  const { name, file } = choose(device, from)
  let module: NativeModule
  try {
    module = load(name, file)
    if (!(await tf.setBackend('tensorflow'))) throw new Error("it registers no working backend 'tensorflow'")
  } catch (cause) {
    const reason = (cause as Error).message.split('\n')[0]!
    throw new Unavailable(`${name} does not load: ${reason}`, cureOf(reason, device), { cause })
  }
  const backend = tf.backend() as unknown as NativeBackend
  // Stand-ins of tests have none.
  if (backend.binding) installWindows()
  const onGpu = backend.isUsingGpuDevice === true
  if (device === 'GPU' && !onGpu)
    throw new Unavailable(
      `${name} is installed and finds no GPU`,
      "see that nvidia-smi lists the GPU and that its driver knows CUDA 12 (525 or newer); 'nvidia-smi' in a container " +
        'needs the NVIDIA container toolkit; TensorFlow says more with TF_CPP_MIN_LOG_LEVEL=0',
    )
  const library = backend.binding?.TF_Version
  const version = `${module.version?.['tfjs-node'] ?? 'unknown'}${library ? ` (TensorFlow ${library})` : ''}`
  return { version, threads, device: onGpu ? 'GPU' : processor(), ...(onGpu ? { gpu: true } : {}) }
}
