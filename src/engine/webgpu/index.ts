import { Unavailable } from '../../errors.ts'
import { traces } from '../onnx/kernels/index.ts'
import type { Block, Compiled, Computer } from '../recording/computer.ts'
import { type RecordingEngine, startRecording } from '../recording/index.ts'
import type { Plan } from '../recording/keys.ts'
import type { Numbers, Value } from '../recording/record.ts'
import { sizeOf } from '../recording/shape.ts'
import { Buffers, type GpuBlock } from './buffers.ts'
import { type Gpu, type GpuOptions, openGpu } from './device.ts'
import { Pipelines } from './pipelines.ts'
import { numbersFrom, Program } from './program.ts'
import { Reader } from './reading.ts'
import type { Facts } from './shader.ts'
import { Queued, type World } from './world.ts'

function factsOf({ limits, features }: Gpu): Facts {
  return {
    subgroups: features.subgroups,
    invocations: limits.maxComputeInvocationsPerWorkgroup,
    shared: limits.maxComputeWorkgroupStorageSize,
    buffers: limits.maxStorageBuffersPerShaderStage,
  }
}

/** Compiles recorded graphs to shaders and lets a GPU run them; results stay in its memory until they are read. */
class GpuComputer implements Computer {
  readonly synchronous = false
  readonly world: World
  private readonly reader: Reader

  constructor(gpu: Gpu) {
    const buffers = new Buffers(gpu)
    this.world = { gpu, facts: factsOf(gpu), buffers, pipelines: new Pipelines(gpu), queued: new Queued(gpu) }
    this.reader = new Reader(gpu, buffers)
  }

  refusal(): Unavailable {
    return new Unavailable(
      'the numbers are on the GPU, and one is wanted at once',
      'read tensors with `await tensor.data()`, or choose another engine: GESTALT_ENGINE=machine',
    )
  }

  compile(plan: Plan, roots: readonly Value[]): Promise<Compiled> {
    return Program.compile(plan, roots, this.world)
  }

  async fetch(value: Value): Promise<Numbers> {
    const words = await this.reader.read(value.block as GpuBlock, Math.max(4, 4 * sizeOf(value.shape)))
    return numbersFrom(words, value)
  }

  release(block: Block): void {
    this.world.buffers.give(block as GpuBlock)
  }

  close(): void {
    this.world.gpu.close()
  }
}

export interface GpuEngine extends RecordingEngine {
  readonly gpu: Gpu
  /** Bytes of the device's memory that are in use, and those that are kept for the next besides. */
  memory(): { used: number; all: number }
}

/**
 * Makes tfjs compute on a GPU, by WebGPU. Throws Unavailable with reason and cure where that cannot be: the package, a
 * driver or a device is missing.
 */
export async function startWebGpu(
  options: GpuOptions & { onFallback?(kernel: string): void } = {},
): Promise<GpuEngine> {
  const { onFallback, ...wanted } = options
  const gpu = await openGpu(wanted)
  const computer = new GpuComputer(gpu)
  const engine = await startRecording({ name: 'webgpu', traces, computer, onFallback })
  const { buffers } = computer.world
  return { ...engine, gpu, memory: () => ({ used: buffers.usedBytes, all: buffers.bytes }) }
}
