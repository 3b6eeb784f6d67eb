import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'
import { Unavailable } from '../errors.ts'
import { tf } from '../tf.ts'
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

interface NativeBackend {
  isUsingGpuDevice?: boolean
}

const cure =
  'this package is optional, and the library that it downloads while it is installed has not been served since August ' +
  "2026: build libtensorflow yourself and add it as the package's README says (build-addon-from-source)"

/** The file of a package beside ours, in the installation or above it; undefined where it is not installed. */
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

async function load(name: Package, file: string): Promise<NativeModule> {
  if (loaded?.name === name) return loaded.module
  if (loaded) throw new Error(`this process computes with ${loaded.name} already`)
  const { default: module } = (await import(pathToFileURL(file).href)) as { default: NativeModule }
  loaded = { name, module }
  return module
}

/** The package to load for a device: the one that is loaded already, or the first that is installed. */
function choose(device: Device, from: string): { name: Package; file: string } {
  const fitting: readonly [Package, ...Package[]] = packages[device]
  const names = fitting.filter((name) => name === loaded?.name).concat(fitting)
  for (const name of names) {
    const file = locate(name, from)
    if (file) return { name, file }
  }
  throw new Unavailable(`${fitting[0]} is not installed`, cure)
}

/**
 * Makes tfjs compute with TensorFlow's own library, through an optional package that is looked for beside `from`. The
 * package uses our copy of tfjs or one of its own; either way its backend and kernels go to the registry that all
 * copies in a process share. Throws Unavailable where it does not work, or finds no GPU where `device` asks for one.
 */
export async function startNative(
  { threads, device }: { threads: number; device: Device },
  from = import.meta.url,
): Promise<Started> {
  const { name, file } = choose(device, from)
  let module: NativeModule
  try {
    module = await load(name, file)
    if (!(await tf.setBackend('tensorflow'))) throw new Error("it registers no working backend 'tensorflow'")
  } catch (cause) {
    throw new Unavailable(`${name} does not load: ${(cause as Error).message.split('\n')[0]}`, cure, { cause })
  }
  const onGpu = (tf.backend() as NativeBackend).isUsingGpuDevice === true
  if (device === 'GPU' && !onGpu)
    throw new Unavailable(
      `${name} is installed and finds no GPU`,
      'install the CUDA and cuDNN libraries that its TensorFlow was built for, and see that nvidia-smi lists the GPU',
    )
  const version = module.version?.['tfjs-node'] ?? 'unknown'
  return { version, threads, device: onGpu ? 'GPU' : processor(), ...(onGpu ? { gpu: true } : {}) }
}
