import { tf } from '../../tf.ts'
import { RecordingBackend } from './backend.ts'
import type { Computer } from './computer.ts'
import { runOnCpu } from './fallback.ts'
import { installGradients } from './gradients.ts'
import type { RecordingStats } from './stats.ts'
import type { Trace } from './trace.ts'

export type { RecordingStats } from './stats.ts'

/** An engine that records kernels and computes whole graphs of them. */
export interface RecordingEngine {
  stats(): RecordingStats
  resetStats(): void
  /** Ends the backend, and with it every tensor on it. */
  dispose(): void
}

export interface RecordingOptions {
  /** What tfjs calls the backend. */
  name: string
  /** By the name that tfjs gives the kernel. */
  traces: Readonly<Record<string, Trace>>
  computer: Computer
  /** Hears of each kernel that the engine does not have, once; default: a warning on the console. */
  onFallback?: ((kernel: string) => void) | undefined
}

/** Kernels whose result is a list even where it has one element. */
const lists = new Set(['SplitV', 'Unpack'])

function isForFallback(inputs: tf.NamedTensorInfoMap): boolean {
  for (const name in inputs) {
    const dtype = inputs[name]?.dtype
    if (dtype === 'string' || dtype === 'complex64') return true
  }
  return false
}

/** The kernel of the cpu backend, visibly: it cuts the graph and computes slowly. */
function fallbackKernel(config: tf.KernelConfig): tf.KernelFunc {
  return ({ inputs, attrs, backend }) => {
    // Without operands nothing is cut, and what is made is a leaf.
    if (Object.keys(inputs).length > 0) (backend as RecordingBackend).countFallback(config.kernelName)
    return runOnCpu(config, inputs, attrs as tf.NamedAttrMap, backend as RecordingBackend)
  }
}

function tracedKernel(name: string, trace: Trace, fallback: tf.KernelFunc): tf.KernelFunc {
  const list = lists.has(name)
  return (call) => {
    const backend = call.backend as RecordingBackend
    if (isForFallback(call.inputs)) return fallback(call)
    const started = performance.now()
    const made = trace(call.inputs as never, (call.attrs ?? {}) as never, backend)
    backend.counts.traceMilliseconds += performance.now() - started
    if (made === undefined) return fallback(call)
    return !list && Array.isArray(made) && made.length === 1 ? made[0]! : made
  }
}

/** Gives a backend of that name every kernel that tfjs knows. */
export function registerKernels(backendName: string, traces: Readonly<Record<string, Trace>>): void {
  for (const config of tf.getKernelsForBackend('cpu')) {
    const { kernelName } = config
    const fallback = fallbackKernel(config)
    const trace = traces[kernelName]
    const kernelFunc = trace ? tracedKernel(kernelName, trace, fallback) : fallback
    if (!tf.getKernel(kernelName, backendName)) tf.registerKernel({ kernelName, backendName, kernelFunc })
  }
}

/**
 * Optimisers of tfjs end a step without reading a number: it is computed there, or the recorded steps would pile up and
 * be cut into graphs that are all different. Gives back what undoes it.
 */
function computeAfterSteps(backend: RecordingBackend): () => void {
  const { prototype } = tf.Optimizer
  const { minimize } = prototype
  prototype.minimize = function (...given) {
    const cost = minimize.apply(this, given)
    if (tf.backend() === backend) backend.endStep()
    return cost
  }
  return () => {
    prototype.minimize = minimize
  }
}

const warn = (kernel: string) =>
  console.warn(`the engine does not have the kernel ${kernel}; tfjs computes it, slowly, on one core`)

/** Makes tfjs record its kernels and let a computer compute them. */
export async function startRecording(options: RecordingOptions): Promise<RecordingEngine> {
  const { name, traces, computer, onFallback = warn } = options
  const backend = new RecordingBackend(computer, onFallback)
  if (tf.findBackendFactory(name)) tf.removeBackend(name)
  registerKernels(name, traces)
  tf.registerBackend(name, () => backend, 0)
  const undo: (() => void)[] = []
  try {
    await tf.setBackend(name)
    undo.push(computeAfterSteps(backend), installGradients())
  } catch (error) {
    tf.removeBackend(name)
    throw error
  }
  return {
    stats: () => backend.stats(),
    resetStats: () => backend.resetStats(),
    dispose() {
      for (const put of undo) put()
      tf.removeBackend(name)
    },
  }
}
