import { Unavailable } from '../../../errors.ts'
import type { Dtype, Numbers } from '../../recording/record.ts'
import { sizeOf } from '../../recording/shape.ts'
import { elementTypes, type Model } from '../emitter.ts'
import { encodeModel } from '../encode.ts'
import { explain } from '../runtime.ts'
import { Api, type Handle } from './api.ts'

/** Where sessions compute and values lie. */
export interface Place {
  /** What the runtime calls its memory. */
  memory: 'Cuda' | 'Cpu'
  provider: 'CUDAExecutionProvider' | 'CPUExecutionProvider'
  device: number
}

export const onProcessor: Place = { memory: 'Cpu', provider: 'CPUExecutionProvider', device: 0 }

/**
 * How the runtime uses a CUDA device. Sums and products are of single precision: TF32 would round factors to 11 bits. The
 * quickest form of a convolution is guessed, not measured: there are many shapes, and each would cost a second.
 */
const cudaOptions = {
  use_tf32: '0',
  cudnn_conv_algo_search: 'HEURISTIC',
  arena_extend_strategy: 'kSameAsRequested',
}

const onlyFatal = 4
const allOptimisations = 99

/** What a session computed, by the place of its node, where that is not the place that was asked for. */
export interface Elsewhere {
  provider: string
  node: string
  operator: string
}

/** A compiled model whose results stay where they are made. */
export interface DeviceSession {
  /** Nodes that the provider has no kernel for. */
  readonly elsewhere: readonly Elsewhere[]
  /** Feeds values wherever they lie. Whoever asks for results releases them all. */
  run(feeds: Iterable<readonly [name: string, value: Handle]>, outputs: readonly Wanted[]): Handle[]
  close(): void
}

/** A result by its name, made on the device; or a value that is filled with it. */
export type Wanted = string | readonly [name: string, filled: Handle]

/** y = x, of any shape: reads and writes the memory of a device. */
const copying = (dtype: Dtype): Model => ({
  nodes: [{ op: 'Identity', inputs: ['x'], outputs: ['y'], attributes: {}, domain: '', name: 'copy/Identity/0' }],
  inputs: [{ name: 'x', dtype, shape: undefined }],
  outputs: [{ name: 'y', dtype, shape: undefined }],
  constants: [],
})

const arrays = { float32: Float32Array, int32: Int32Array, bool: Uint8Array } as const

/** ONNX Runtime by its C API, with values that stay on one device. All is done within the calls. */
export class DeviceRuntime {
  readonly version: string
  readonly place: Place
  private readonly api: Api
  private readonly env: Handle
  private readonly host: Handle
  private readonly device: Handle
  private readonly options: Handle
  private readonly allocator: Handle
  private readonly copies = new Map<Dtype, DeviceSession>()
  private shared = false

  /** Throws what the library says where it does not load or has no such device. */
  constructor(file: string, threads: number, place: Place) {
    const api = new Api(file)
    this.api = api
    this.place = place
    this.version = api.version
    this.env = api.make('CreateEnv', onlyFatal, 'gestalt')
    this.allocator = api.make('GetAllocatorWithDefaultOptions')
    this.host = api.make('CreateMemoryInfo', 'Cpu', 0, 0, 0)
    this.device = api.make('CreateMemoryInfo', place.memory, 0, place.device, 0)
    this.options = api.make('CreateSessionOptions')
    api.do('SetIntraOpNumThreads', this.options, threads)
    api.do('SetInterOpNumThreads', this.options, 1)
    api.do('SetSessionGraphOptimizationLevel', this.options, allOptimisations)
    api.do('SetSessionLogSeverityLevel', this.options, onlyFatal)
    api.do('DisableMemPattern', this.options)
    api.do('AddSessionConfigEntry', this.options, 'session.record_ep_graph_assignment_info', '1')
    if (place.provider === 'CUDAExecutionProvider') this.addCuda()
    this.shareMemory()
  }

  private addCuda(): void {
    const { api } = this
    const provider = api.make('CreateCUDAProviderOptions')
    try {
      const all = { device_id: String(this.place.device), ...cudaOptions }
      api.do('UpdateCUDAProviderOptions', provider, Object.keys(all), Object.values(all), Object.keys(all).length)
      api.do('SessionOptionsAppendExecutionProvider_CUDA_V2', this.options, provider)
    } finally {
      api.end('ReleaseCUDAProviderOptions', provider)
    }
  }

  /** Lets all sessions take memory from one pool: of those that are kept, one runs at a time. */
  private shareMemory(): void {
    const { api } = this
    const arena = api.make('CreateArenaCfg', 0, 1, -1, -1)
    try {
      api.do('CreateAndRegisterAllocatorV2', this.env, this.place.provider, this.device, arena, [], [], 0)
      api.do('AddSessionConfigEntry', this.options, 'session.use_env_allocators', '1')
      this.shared = true
    } catch {
      // Then each has its own, and more memory is taken.
    } finally {
      api.end('ReleaseArenaCfg', arena)
    }
  }

  /** Throws where the runtime cannot compute the model, with the kernel that it fails at. */
  open(model: Uint8Array): DeviceSession {
    const { api } = this
    try {
      const session = api.make('CreateSessionFromArray', this.env, model, BigInt(model.byteLength), this.options)
      const binding = api.make('CreateIoBinding', session)
      return {
        elsewhere: this.elsewhereIn(session),
        run: (feeds, outputs) => this.run(session, binding, feeds, outputs),
        close() {
          api.end('ReleaseIoBinding', binding)
          api.end('ReleaseSession', session)
        },
      }
    } catch (error) {
      throw explain(error, this.place.memory === 'Cuda')
    }
  }

  private elsewhereIn(session: Handle): Elsewhere[] {
    const { api } = this
    const all = api.list('Session_GetEpGraphAssignmentInfo', session).handles
    return all.flatMap((subgraph) => {
      const provider = api.text(api.make('EpAssignedSubgraph_GetEpName', subgraph))
      if (provider === this.place.provider) return []
      return api.list('EpAssignedSubgraph_GetNodes', subgraph).handles.map((node) => ({
        provider,
        node: api.text(api.make('EpAssignedNode_GetName', node)),
        operator: api.text(api.make('EpAssignedNode_GetOperatorType', node)),
      }))
    })
  }

  private run(
    session: Handle,
    binding: Handle,
    feeds: Iterable<readonly [string, Handle]>,
    outputs: readonly Wanted[],
  ): Handle[] {
    const { api } = this
    try {
      for (const [name, value] of feeds) api.do('BindInput', binding, name, value)
      // Bound anew each time: the runtime would write over the results of the last.
      for (const wanted of outputs)
        if (typeof wanted === 'string') api.do('BindOutputToDevice', binding, wanted, this.device)
        else api.do('BindOutput', binding, ...wanted)
      api.do('RunWithBinding', session, 0n, binding)
      const { at, handles } = api.list('GetBoundOutputValues', binding, this.allocator)
      if (handles.length > 0) api.do('AllocatorFree', this.allocator, at)
      return handles
    } catch (error) {
      throw explain(error, this.place.memory === 'Cuda')
    } finally {
      api.end('ClearBoundInputs', binding)
      api.end('ClearBoundOutputs', binding)
    }
  }

  /** Numbers as a value that a session takes; it must be released before the numbers go. */
  wrap(dtype: Dtype, numbers: Numbers, shape: readonly number[]): Handle {
    const sides = BigInt64Array.from(shape, BigInt)
    const bytes = BigInt(numbers.byteLength)
    const type = elementTypes[dtype]
    return this.api.make('CreateTensorWithDataAsOrtValue', this.host, numbers, bytes, sides, shape.length, type)
  }

  /** The same as a value on the device, which has numbers of its own. */
  upload(dtype: Dtype, numbers: Numbers, shape: readonly number[]): Handle {
    const value = this.wrap(dtype, numbers, shape)
    try {
      return this.copying(dtype).run([['x', value]], ['y'])[0]!
    } finally {
      this.release(value)
    }
  }

  /** The numbers of a value, wherever it lies. */
  download(dtype: Dtype, value: Handle, shape: readonly number[]): Numbers {
    const numbers = new arrays[dtype](sizeOf(shape))
    const filled = this.wrap(dtype, numbers, shape)
    try {
      for (const result of this.copying(dtype).run([['x', value]], [['y', filled]])) this.release(result)
      return numbers
    } finally {
      this.release(filled)
    }
  }

  private copying(dtype: Dtype): DeviceSession {
    const found = this.copies.get(dtype) ?? this.open(encodeModel(copying(dtype)))
    this.copies.set(dtype, found)
    return found
  }

  bytesOf(value: Handle): number {
    return Number(this.api.make('GetTensorSizeInBytes', value))
  }

  release(value: Handle): void {
    this.api.end('ReleaseValue', value)
  }

  /** Throws Unavailable where numbers that went to the device do not come back from a sum of theirs. */
  try(): void {
    const model: Model = {
      nodes: [{ op: 'Add', inputs: ['x', 'x'], outputs: ['y'], attributes: {}, domain: '', name: 'trial/Add/0' }],
      inputs: [{ name: 'x', dtype: 'float32', shape: [2] }],
      outputs: [{ name: 'y', dtype: 'float32', shape: [2] }],
      constants: [],
    }
    const session = this.open(encodeModel(model))
    const x = this.upload('float32', Float32Array.of(1, 2), [2])
    const [y] = session.run([['x', x]], ['y'])
    const [first, second] = this.download('float32', y!, [2])
    for (const value of [x, y!]) this.release(value)
    session.close()
    if (first === 2 && second === 4) return
    throw new Unavailable(`${this.place.provider} computes wrong numbers on this machine`, 'choose another engine')
  }

  /** Values that were not released must not be used any longer. */
  close(): void {
    const { api } = this
    for (const session of this.copies.values()) session.close()
    api.end('ReleaseSessionOptions', this.options)
    if (this.shared) api.do('UnregisterAllocator', this.env, this.device)
    api.end('ReleaseMemoryInfo', this.host)
    api.end('ReleaseMemoryInfo', this.device)
    api.end('ReleaseEnv', this.env)
  }
}
