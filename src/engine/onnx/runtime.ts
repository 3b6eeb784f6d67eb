import { createRequire } from 'node:module'
import type { InferenceSession, Tensor } from 'onnxruntime-node'
import { GpuFull, NoRoom, Unavailable } from '../../errors.ts'
import type { Dtype, Numbers } from '../recording/record.ts'
import type { Model } from './emitter.ts'
import { encodeModel } from './encode.ts'

/** The only version whose unpublished parts are known here. */
export const runtimeVersion = '1.30.0'

export type Feeds = Record<string, Tensor>

/** A compiled model. Where the runtime is not synchronous, what `run` gives is a promise. */
export interface Session {
  run(feeds: Feeds, outputs: readonly string[]): Feeds | Promise<Feeds>
  close(): void
}

export interface Runtime {
  readonly version: string
  /** Whether models are loaded and run within the call. */
  readonly synchronous: boolean
  /** How many channels the runtime's fastest convolutions keep side by side; 0 where it has none. */
  readonly blockSize: number
  tensor(dtype: Dtype, numbers: Numbers, shape: readonly number[]): Tensor
  open(model: Uint8Array): Session | Promise<Session>
}

/** What the package does not publish: sessions that load and run within the call. */
interface SynchronousSession {
  loadModel(buffer: ArrayBufferLike, offset: number, length: number, options: object): void
  run(feeds: Feeds, fetches: Record<string, null>, options: object): Feeds
  dispose(): void
}

/** The parts of the package that are used here. */
export interface RuntimePackage {
  version: string
  Tensor: typeof Tensor
  InferenceSession: typeof InferenceSession
  SynchronousSession?: new () => SynchronousSession
}

const cure = `install it with the others: npm ci (onnxruntime-node ${runtimeVersion}; it has no files for every system)`

/** Loads the package. Throws Unavailable with the cure where it is missing, of another version or not for this system. */
export function loadPackage(): RuntimePackage {
  const require = createRequire(import.meta.url)
  let published: { Tensor: typeof Tensor; InferenceSession: typeof InferenceSession }
  let version: string
  try {
    version = (require('onnxruntime-node/package.json') as { version: string }).version
    published = require('onnxruntime-node')
  } catch (error) {
    const missing = (error as { code?: string }).code === 'MODULE_NOT_FOUND'
    const system = `${process.platform} ${process.arch}`
    const reason = missing
      ? `onnxruntime-node is not installed, or has no files for ${system}`
      : `onnxruntime-node does not load on ${system}: ${(error as Error).message}`
    throw new Unavailable(reason, cure, { cause: error })
  }
  if (version !== runtimeVersion)
    throw new Unavailable(`onnxruntime-node is ${version} where ${runtimeVersion} is needed`, cure)
  return { version, ...published, SynchronousSession: synchronousSession(require) }
}

function synchronousSession(require: NodeJS.Require): RuntimePackage['SynchronousSession'] {
  try {
    const entry = require('onnxruntime-node/dist/binding.js') as {
      binding?: { InferenceSession?: new () => SynchronousSession }
      initOrt?(): void
    }
    entry.initOrt?.()
    return entry.binding?.InferenceSession
  } catch {
    return undefined
  }
}

/**
 * How models are loaded. The arena would keep each session's peak memory. Threads wait awake for the next operation, of
 * which there are hundreds in some milliseconds, but for 200 us at most and not between runs: others compute here too.
 * What goes wrong is told by errors, not on the console.
 */
function sessionOptions(threads: number) {
  return {
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    graphOptimizationLevel: 'all' as const,
    enableCpuMemArena: false,
    enableMemPattern: false,
    executionMode: 'sequential' as const,
    logSeverityLevel: 4 as const,
    extra: { session: { intra_op: { allow_spinning: '1', spin_duration_us: '200' }, force_spinning_stop: '1' } },
  }
}

const smaller = 'take smaller batches or smaller images'

/** An error of the runtime as one that says which kernel failed and what can be done. */
export function explain(error: unknown, onGpu = false): Error {
  const message = error instanceof Error ? error.message : String(error)
  const kernel = /[Nn]ame:\s*'([^/']+)\//.exec(message)?.[1] ?? /\(([A-Za-z0-9_]+)\/[A-Za-z]+\/\d+\)/.exec(message)?.[1]
  const place = kernel ? ` in ${kernel}` : ''
  if (/bad[ _]alloc|[Ff]ailed to allocate|out of memory/i.test(message))
    return onGpu && !/bad[ _]alloc/.test(message)
      ? new GpuFull(`the memory of the GPU ran out${place}: ${message}`, `${smaller}, or a GPU with more memory`, {
          cause: error,
        })
      : new NoRoom(`memory ran out while the engine computed${place}`, `${smaller}, or give the process more memory`, {
          cause: error,
        })
  // A fault of the numbers: it would be one on every engine.
  if (/out of (data )?bounds|out of range/i.test(message))
    return new Unavailable(
      `an index lies outside of its tensor${place}: ${message}`,
      'see that indices and labels are whole numbers from 0 to below the number of rows or classes',
      { cause: error },
    )
  return new Unavailable(
    `the engine cannot compute this${place}: ${message}`,
    'choose another engine: GESTALT_ENGINE=wasm',
    { cause: error },
  )
}

type Open = (model: Uint8Array) => Session | Promise<Session>

function opensWithin(Native: new () => SynchronousSession, options: object): Open {
  return (model) => {
    try {
      const session = new Native()
      session.loadModel(model.buffer, model.byteOffset, model.byteLength, options)
      return {
        run(feeds, outputs) {
          try {
            return session.run(feeds, Object.fromEntries(outputs.map((name) => [name, null])), {})
          } catch (error) {
            throw explain(error)
          }
        },
        close: () => session.dispose(),
      }
    } catch (error) {
      throw explain(error)
    }
  }
}

function opensLater(Public: typeof InferenceSession, options: InferenceSession.SessionOptions): Open {
  const fail = (error: unknown): never => {
    throw explain(error)
  }
  return async (model) => {
    const session = await Public.create(model, options).catch(fail)
    return {
      run: (feeds, outputs) => session.run(feeds, [...outputs]).catch(fail),
      close: () => void session.release(),
    }
  }
}

/** y = x + 1, for two numbers. */
const trial: Model = {
  nodes: [{ op: 'Add', inputs: ['x', 'one'], outputs: ['y'], attributes: {}, domain: '', name: 'trial/Add/0' }],
  inputs: [{ name: 'x', dtype: 'float32', shape: [2] }],
  outputs: [{ name: 'y', dtype: 'float32', shape: [2] }],
  constants: [{ name: 'one', dtype: 'float32', shape: [], values: [1] }],
}

async function computes(open: Open, tensor: Runtime['tensor']): Promise<boolean> {
  const session = await open(encodeModel(trial))
  const { y } = await session.run({ x: tensor('float32', Float32Array.of(1, 2), [2]) }, ['y'])
  session.close()
  const [first, second] = y!.data as Float32Array
  return first === 2 && second === 3
}

/** Whether the unpublished entry still does what is relied on: it loads and runs within the call. */
async function runsWithin(open: Open, tensor: Runtime['tensor']): Promise<boolean> {
  try {
    return await computes(open, tensor)
  } catch {
    return false
  }
}

/** The runtime is asked by letting it put a single channel vector in blocks. */
async function blockSizeOf(open: Open, tensor: Runtime['tensor']): Promise<number> {
  const reorder = { op: 'ReorderInput', domain: 'com.microsoft.nchwc' as const, attributes: {} }
  const model: Model = {
    nodes: [{ ...reorder, inputs: ['x'], outputs: ['y'], name: 'trial/ReorderInput/0' }],
    inputs: [{ name: 'x', dtype: 'float32', shape: [1, 4, 1, 1] }],
    outputs: [{ name: 'y', dtype: 'float32', shape: [] }],
    constants: [],
  }
  try {
    const session = await open(encodeModel(model))
    const { y } = await session.run({ x: tensor('float32', new Float32Array(4), [1, 4, 1, 1]) }, ['y'])
    session.close()
    return y!.dims[1]!
  } catch {
    return 0
  }
}

/**
 * The runtime, tried. It computes within the call where the package's unpublished entry allows, else only in promises.
 * Throws Unavailable where it does not compute.
 */
export async function openRuntime(threads: number, from: RuntimePackage = loadPackage()): Promise<Runtime> {
  const { version, Tensor, InferenceSession, SynchronousSession } = from
  const options = sessionOptions(threads)
  const tensor: Runtime['tensor'] = (dtype, numbers, shape) => new Tensor(dtype, numbers as never, shape) as never
  const within = SynchronousSession && opensWithin(SynchronousSession, options)
  const synchronous = within !== undefined && (await runsWithin(within, tensor))
  const open = synchronous ? within : opensLater(InferenceSession, options)
  if (!synchronous && !(await computes(open, tensor)))
    throw new Unavailable('onnxruntime-node computes wrong numbers on this machine', cure)
  return { version, synchronous, blockSize: await blockSizeOf(open, tensor), tensor, open }
}
