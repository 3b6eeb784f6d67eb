import { lowerGraph } from '../../../../src/engine/onnx/computer.ts'
import { DeviceComputer } from '../../../../src/engine/onnx/cuda/computer.ts'
import { fitToCuda } from '../../../../src/engine/onnx/cuda/forms.ts'
import { lacksKernel, nameOf, resultType, sharedType, typesOf } from '../../../../src/engine/onnx/cuda/kernels.ts'
import { packageLibrary } from '../../../../src/engine/onnx/cuda/libraries.ts'
import { DeviceRuntime, onProcessor } from '../../../../src/engine/onnx/cuda/runtime.ts'
import type { Model } from '../../../../src/engine/onnx/emitter.ts'
import { traces } from '../../../../src/engine/onnx/kernels/index.ts'
import { type RecordingEngine, startRecording } from '../../../../src/engine/recording/index.ts'
import type { Plan } from '../../../../src/engine/recording/keys.ts'
import type { Value } from '../../../../src/engine/recording/record.ts'

/** Every operator of a graph with the type of its operands: 'Add float32'. */
export function operatorsOf(model: Model): { text: string; lacks: boolean }[] {
  const types = typesOf(model)
  return model.nodes.map((node) => {
    const found = { text: `${nameOf(node)} ${sharedType(node, types)}`, lacks: lacksKernel(node, types) }
    for (const [i, name] of node.outputs.entries()) types.set(name, resultType(node, types, i))
    return found
  })
}

/** The engine for CUDA with the processor as its device: graphs, calls and values as on CUDA, kernels as anywhere. */
export interface Listed {
  engine: RecordingEngine
  computer: DeviceComputer
  /** Operators of all graphs that were compiled, with their types, and how often. */
  operators: Map<string, number>
  /** Those of them that CUDA has no kernel for. */
  lacking: Map<string, number>
}

export async function startListing({ threads }: { threads: number }): Promise<Listed> {
  const operators = new Map<string, number>()
  const lacking = new Map<string, number>()
  class Listing extends DeviceComputer {
    override compile(plan: Plan, roots: readonly Value[]) {
      const { model } = lowerGraph(plan, roots, { blockSize: 0, forCuda: true })
      for (const { text, lacks } of operatorsOf(fitToCuda(model))) {
        operators.set(text, (operators.get(text) ?? 0) + 1)
        if (lacks) lacking.set(text, (lacking.get(text) ?? 0) + 1)
      }
      return super.compile(plan, roots)
    }
  }
  const runtime = new DeviceRuntime(packageLibrary(), threads, onProcessor)
  const computer = new Listing(runtime, { onElsewhere: () => {} })
  const engine = await startRecording({ name: 'onnx-cuda', traces, computer, onFallback: () => {} })
  return { engine, computer, operators, lacking }
}
