import { Unavailable } from '../../errors.ts'
import { type Largest, largestOfAll } from '../../tf.ts'
import { traces } from '../onnx/kernels/index.ts'
import type { Block, Compiled, Computer } from '../recording/computer.ts'
import { type RecordingEngine, startRecording } from '../recording/index.ts'
import type { Plan } from '../recording/keys.ts'
import type { Numbers, Value } from '../recording/record.ts'
import { sizeOf } from '../recording/shape.ts'
import type { Update } from '../recording/updates.ts'
import { Buffers, type GpuBlock } from './buffers.ts'
import { type Gpu, type GpuOptions, openGpu } from './device.ts'
import type { Half } from './half.ts'
import { Pipelines } from './pipelines.ts'
import { Profile } from './profile.ts'
import { numbersFrom, Program } from './program.ts'
import { Reader } from './reading.ts'
import type { Facts } from './shader.ts'
import { noTraffic, type Traffic } from './traffic.ts'
import { Updates } from './updates.ts'
import { Queued, type World } from './world.ts'
import { bringToDevice } from './writing.ts'

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
  /** Shaders count numbers in 31 bits; what the device has no buffer for is refused where it needs one. */
  readonly largestResult = 2 ** 33 - 4
  readonly world: World
  private readonly reader: Reader
  private readonly updates: Updates

  constructor(gpu: Gpu, { profiled = false, half, brief }: Pick<WebGpuOptions, 'profiled' | 'half' | 'brief'>) {
    const traffic = noTraffic()
    const buffers = new Buffers(gpu, traffic)
    const profile = profiled && gpu.features.timestamps ? new Profile(gpu) : undefined
    const shared = { pipelines: new Pipelines(gpu), queued: new Queued(gpu), profile, traffic }
    this.world = { gpu, facts: { ...factsOf(gpu), brief: brief ?? gpu.software }, buffers, ...shared, half }
    this.reader = new Reader(gpu, buffers, traffic)
    this.updates = new Updates(this.world, this.reader)
  }

  get largest(): Largest {
    const { gpu, buffers } = this.world
    return { bytes: Math.min(largestOfAll.bytes, buffers.largest), of: `the GPU ${gpu.name}` }
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

  /** What is not on the device yet is brought there first. */
  async putRows(update: Update): Promise<void> {
    await bringToDevice([update.base, update.rows], this.world)
    await this.updates.put(update)
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

export interface WebGpuOptions extends GpuOptions {
  onFallback?: ((kernel: string) => void) | undefined
  /** Whether dispatches are timed by the device's clock. */
  profiled?: boolean | undefined
  /** Whether activations and their gradients are stored in half precision; all is computed in single precision. */
  half?: Half | undefined
  /** Whether shaders are kept short, which compile sooner and run longer; by default on the processor. */
  brief?: boolean | undefined
}

export interface GpuEngine extends RecordingEngine {
  readonly gpu: Gpu
  /** Bytes of the device's memory that are in use, and those that are kept for the next besides. */
  memory(): { used: number; all: number }
  traffic(): Traffic
  /** Where dispatches are timed and the device has a clock. */
  readonly profile: Profile | undefined
}

/**
 * Makes tfjs compute on a GPU, by WebGPU. Throws Unavailable with reason and cure where that cannot be: the package, a
 * driver or a device is missing.
 */
export async function startWebGpu(options: WebGpuOptions = {}): Promise<GpuEngine> {
  const { onFallback, profiled, half, brief, ...wanted } = options
  const gpu = await openGpu(wanted)
  if (half === 'native' && !gpu.features.half) {
    gpu.close()
    throw new Unavailable(
      `${gpu.name} has no half precision (shader-f16)`,
      'train in single precision: training.precision "single", or on another GPU',
    )
  }
  try {
    const computer = new GpuComputer(gpu, { profiled, half, brief })
    const engine = await startRecording({ name: 'webgpu', traces, computer, onFallback })
    const { buffers, profile, traffic } = computer.world
    const memory = () => ({ used: buffers.usedBytes, all: buffers.bytes })
    return { ...engine, gpu, profile, memory, traffic: () => ({ ...traffic }) }
  } catch (error) {
    gpu.close()
    throw error
  }
}
