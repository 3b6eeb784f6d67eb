import { type RecordingEngine, startRecording } from '../recording/index.ts'
import { OnnxComputer } from './computer.ts'
import { traces } from './kernels/index.ts'
import { openRuntime, type Runtime } from './runtime.ts'

export interface OnnxEngine extends RecordingEngine {
  /** Of ONNX Runtime. */
  version: string
  threads: number
}

export interface OnnxOptions {
  threads: number
  /** Hears of each kernel that the engine does not have, once; default: a warning on the console. */
  onFallback?(kernel: string): void
  runtime?: Runtime
}

/**
 * Makes tfjs compute on ONNX Runtime. Throws Unavailable with reason and cure where that cannot be: the package is
 * missing, of another version, not made for this system, or computes wrong numbers.
 */
export async function startOnnx({ threads, onFallback, runtime }: OnnxOptions): Promise<OnnxEngine> {
  const opened = runtime ?? (await openRuntime(threads))
  const engine = await startRecording({ name: 'onnx', traces, computer: new OnnxComputer(opened), onFallback })
  return { ...engine, version: opened.version, threads }
}
