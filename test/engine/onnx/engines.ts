import { startMachine, whyNotHere } from '../../../src/engine/machine/index.ts'
import { type OnnxEngine, startOnnx } from '../../../src/engine/onnx/index.ts'

interface Options {
  threads: number
  onFallback?(kernel: string): void
}

/** What records kernels of tfjs and computes graphs, by the name of its backend; of machine code where it runs. */
export const engines: readonly (readonly [name: string, start: (options: Options) => Promise<OnnxEngine>])[] = [
  ['onnx', startOnnx],
  ...(whyNotHere() ? [] : [['machine', startMachine] as const]),
]
