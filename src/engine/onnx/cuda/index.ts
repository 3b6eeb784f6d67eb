import { Unavailable } from '../../../errors.ts'
import { type RecordingEngine, startRecording } from '../../recording/index.ts'
import { traces } from '../kernels/index.ts'
import { DeviceComputer } from './computer.ts'
import { openDevice } from './driver.ts'
import { cure, findLibraries, preload } from './libraries.ts'
import { DeviceRuntime, type Place } from './runtime.ts'

export interface OnnxCudaEngine extends RecordingEngine {
  /** Of ONNX Runtime. */
  version: string
  threads: number
  /** Bytes of the values that are kept on the device. */
  memoryBytes(): number
  /** Operators that the device's provider had no kernel for. */
  readonly elsewhere: readonly string[]
}

export interface DeviceEngineOptions {
  threads: number
  /** Hears of each kernel that the engine does not have, once; default: a warning on the console. */
  onFallback?(kernel: string): void
}

const device = 0

/** Why there can be no CUDA here; undefined where there can. */
export function whyNotHere(platform: string = process.platform, arch: string = process.arch): string | undefined {
  if (platform === 'linux' && arch === 'x64') return undefined
  return `ONNX Runtime is driven on CUDA on Linux on x86-64 only, and this is ${platform} ${arch}`
}

/** What the runtime said without where in its sources it said it. */
const wordsOf = (error: unknown) => (error as Error).message.replace(/^.*(with error: |\[ONNXRuntimeError\] : )/s, '')

/** An error of the provider as one that says what is missing and how it is had. */
export function explainStart(cause: unknown): Unavailable {
  if (cause instanceof Unavailable && !/lib(cu|nv)\w+\.so/.test(cause.message)) return cause
  const words = wordsOf(cause)
  const provider = /(libonnxruntime_providers_\w+\.so)/.exec(words)?.[1]
  if (provider) return new Unavailable(`ONNX Runtime's library ${provider} does not load: ${words}`, cure, { cause })
  const missing = /(lib(?:cu|nv)\w+\.so[.\d]*)/.exec(words)?.[1]
  if (missing) {
    const system = `, or install CUDA and cuDNN 9 and name their folders in LD_LIBRARY_PATH`
    return new Unavailable(`CUDA's library ${missing} does not load: ${words}`, cure + system, { cause })
  }
  const driver = "install a driver of NVIDIA's that is as new as the CUDA of the libraries (580 or later for CUDA 13)"
  const old = /driver version is insufficient|unsupported toolchain|CUDA failure (35|803)/.test(words)
  if (old) return new Unavailable(`the driver is too old for ONNX Runtime's CUDA provider: ${words}`, driver, { cause })
  return new Unavailable(
    `ONNX Runtime's CUDA provider does not start: ${words}`,
    "see that nvidia-smi lists the GPU and that it is one that the libraries' CUDA still knows; or choose another engine",
    { cause },
  )
}

/** Makes tfjs compute on a runtime whose values stay where they are made. */
export async function startOnDevice(
  runtime: DeviceRuntime,
  { threads, onFallback }: DeviceEngineOptions,
): Promise<OnnxCudaEngine> {
  const elsewhere: string[] = []
  const onElsewhere = (operator: string) => {
    elsewhere.push(operator)
    console.warn(`CUDA has no kernel for ${operator}; the processor computes it`)
  }
  const computer = new DeviceComputer(runtime, { onElsewhere })
  const engine = await startRecording({ name: 'onnx-cuda', traces, computer, onFallback })
  return { ...engine, version: runtime.version, threads, elsewhere, memoryBytes: () => computer.memoryBytes() }
}

function openRuntime(libraries: string | undefined, threads: number): DeviceRuntime {
  const { runtime: file, cuda } = findLibraries(libraries)
  preload(cuda)
  const place: Place = { memory: 'Cuda', provider: 'CUDAExecutionProvider', device }
  try {
    const runtime = new DeviceRuntime(file, threads, place)
    runtime.try()
    return runtime
  } catch (error) {
    throw explainStart(error)
  }
}

/**
 * Makes tfjs compute on ONNX Runtime's CUDA provider, from the libraries in a folder or beside the npm package's own.
 * Throws Unavailable with reason and cure where that cannot be: another system, no driver, no GPU, a library that is
 * missing or does not fit, wrong numbers.
 */
export async function startOnnxCuda(options: DeviceEngineOptions & { libraries?: string | undefined }) {
  const reason = whyNotHere()
  if (reason) throw new Unavailable(reason, 'GESTALT_ENGINE=auto finds what runs here')
  const { name, memoryBytes } = openDevice(device)
  const engine = await startOnDevice(openRuntime(options.libraries, options.threads), options)
  return { engine, device: name, deviceBytes: memoryBytes }
}
