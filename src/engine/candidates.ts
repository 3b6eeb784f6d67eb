import { Unavailable } from '../errors.ts'
import { tf } from '../tf.ts'
import type { EngineName, EngineSettings, GpuChoice } from './choice.ts'
import { startNative } from './native.ts'
import { processor, type Started } from './started.ts'
import { startWasm } from './wasm.ts'

/** A row of the table. */
export interface Candidate {
  /** Unique; what logs and `gestalt doctor` call it. */
  name: string
  /** What GESTALT_ENGINE calls it. */
  engine: Exclude<EngineName, 'auto'>
  /** Whether it can store activations in half precision. */
  half?: true
  /** Makes tfjs compute on it. Throws Unavailable, with the cure, where it cannot. */
  start(settings: EngineSettings): Promise<Started>
}

const anyGpu: GpuChoice = { choice: undefined, software: false }

/** Loaded where it is tried, as the next ones: the others do without. */
async function startGpu({ gpu = anyGpu, half }: EngineSettings): Promise<Started> {
  const { startWebGpu } = await import('./webgpu/index.ts')
  const engine = await startWebGpu({ ...gpu, half: half ? 'native' : undefined })
  const { version, name, driver, software, features } = engine.gpu
  const abilities = { ...(software ? {} : { gpu: true }), ...(features.half ? { half: true } : {}) }
  return { version, threads: 1, device: name, driver, ...abilities, dispose: () => engine.dispose() }
}

async function startOnnxRuntime({ threads }: EngineSettings): Promise<Started> {
  const { startOnnx } = await import('./onnx/index.ts')
  const engine = await startOnnx({ threads })
  return { version: engine.version, threads: engine.threads, device: processor(), dispose: () => engine.dispose() }
}

async function startOnnxOnCuda({ threads, places = {} }: EngineSettings): Promise<Started> {
  const { startOnnxCuda } = await import('./onnx/cuda/index.ts')
  const { engine, device, deviceBytes } = await startOnnxCuda({ threads, libraries: places.onnxRuntime })
  const { version, dispose } = engine
  return { version, threads, device, gpu: true, gpuMemory: deviceBytes, dispose }
}

async function startMachineCode({ threads }: EngineSettings): Promise<Started> {
  const { startMachine } = await import('./machine/index.ts')
  const engine = await startMachine({ threads })
  return { version: engine.version, threads: engine.threads, device: processor(), dispose: () => engine.dispose() }
}

async function startWebAssembly(): Promise<Started> {
  const started = await startWasm().catch((cause: unknown) => {
    throw new Unavailable(`WebAssembly does not start: ${(cause as Error).message}`, 'reinstall the packages: npm ci')
  })
  if (!started)
    throw new Unavailable('its WebAssembly does not start on this machine', 'reinstall the packages: npm ci')
  return { version: tfjsVersion, threads: 1, device: processor() }
}

async function startJavaScript(): Promise<Started> {
  await tf.setBackend('cpu')
  return { version: tfjsVersion, threads: 1, device: processor() }
}

const tfjsVersion = tf.version['tfjs-core'] ?? tf.version_core

/** The fastest first. An engine more is a row more. */
export const candidates: readonly Candidate[] = [
  { name: 'tensorflow-gpu', engine: 'tensorflow', start: ({ threads }) => startNative({ threads, device: 'GPU' }) },
  { name: 'webgpu', engine: 'webgpu', half: true, start: startGpu },
  { name: 'onnx-cuda', engine: 'onnx-cuda', start: startOnnxOnCuda },
  { name: 'machine', engine: 'machine', start: startMachineCode },
  { name: 'onnx', engine: 'onnx', start: startOnnxRuntime },
  { name: 'tensorflow', engine: 'tensorflow', start: ({ threads }) => startNative({ threads, device: 'CPU' }) },
  { name: 'wasm', engine: 'wasm', start: startWebAssembly },
  { name: 'cpu', engine: 'cpu', start: startJavaScript },
]
