import { Unavailable } from '../errors.ts'
import { tf } from '../tf.ts'
import type { EngineName, GpuChoice } from './choice.ts'
import { startNative } from './native.ts'
import { processor, type Started } from './started.ts'
import { startWasm } from './wasm.ts'

/** A row of the table. */
export interface Candidate {
  /** Unique; what logs and `gestalt doctor` call it. */
  name: string
  /** What GESTALT_ENGINE calls it. */
  engine: Exclude<EngineName, 'auto'>
  /** Makes tfjs compute on it. Throws Unavailable, with the cure, where it cannot. */
  start(threads: number, gpu: GpuChoice): Promise<Started>
}

/** Loaded where it is tried, as the next ones: the others do without. */
async function startGpu(_threads: number, gpu: GpuChoice): Promise<Started> {
  const { startWebGpu } = await import('./webgpu/index.ts')
  const engine = await startWebGpu(gpu)
  const { version, name, software } = engine.gpu
  return { version, threads: 1, device: name, ...(software ? {} : { gpu: true }), dispose: () => engine.dispose() }
}

async function startOnnxRuntime(threads: number): Promise<Started> {
  const { startOnnx } = await import('./onnx/index.ts')
  const engine = await startOnnx({ threads })
  return { version: engine.version, threads: engine.threads, device: processor(), dispose: () => engine.dispose() }
}

async function startMachineCode(threads: number): Promise<Started> {
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
  { name: 'tensorflow-gpu', engine: 'tensorflow', start: (threads) => startNative({ threads, device: 'GPU' }) },
  { name: 'webgpu', engine: 'webgpu', start: startGpu },
  { name: 'machine', engine: 'machine', start: startMachineCode },
  { name: 'onnx', engine: 'onnx', start: startOnnxRuntime },
  { name: 'tensorflow', engine: 'tensorflow', start: (threads) => startNative({ threads, device: 'CPU' }) },
  { name: 'wasm', engine: 'wasm', start: startWebAssembly },
  { name: 'cpu', engine: 'cpu', start: startJavaScript },
]
