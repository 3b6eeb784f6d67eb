import { tf } from '../../tf.ts'
import { OnnxBackend } from './backend.ts'
import { runOnCpu } from './fallback.ts'
import { installGradients } from './gradients.ts'
import type { Trace } from './kernel.ts'
import { lowerings, traces } from './kernels/index.ts'
import type { Programs } from './programs.ts'
import { openRuntime, type Runtime } from './runtime.ts'
import type { OnnxStats } from './stats.ts'

export type { OnnxStats } from './stats.ts'

export interface OnnxEngine {
  /** Of ONNX Runtime. */
  version: string
  threads: number
  stats(): OnnxStats
  resetStats(): void
  /** Ends the backend, and with it every tensor on it. */
  dispose(): void
}

export interface OnnxOptions {
  threads: number
  /** Hears of each kernel that the engine does not have, once; default: a warning on the console. */
  onFallback?(kernel: string): void
  runtime?: Runtime
  /** What tfjs calls the backend; default 'onnx'. */
  name?: string
  /** Another way to compute graphs, tried first. */
  programs?: Programs
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
    if (Object.keys(inputs).length > 0) (backend as OnnxBackend).countFallback(config.kernelName)
    return runOnCpu(config, inputs, attrs as tf.NamedAttrMap, backend as OnnxBackend)
  }
}

function tracedKernel(name: string, trace: Trace, fallback: tf.KernelFunc): tf.KernelFunc {
  const list = lists.has(name)
  return (call) => {
    const backend = call.backend as OnnxBackend
    if (isForFallback(call.inputs)) return fallback(call)
    const started = performance.now()
    const made = trace(call.inputs as never, (call.attrs ?? {}) as never, backend)
    backend.counts.traceMilliseconds += performance.now() - started
    if (made === undefined) return fallback(call)
    return !list && Array.isArray(made) && made.length === 1 ? made[0]! : made
  }
}

/** Gives a backend of that name every kernel that tfjs knows. */
export function registerKernels(backendName: string): void {
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
function computeAfterSteps(backend: OnnxBackend): () => void {
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

/**
 * Makes tfjs compute on ONNX Runtime. Throws Unavailable with reason and cure where that cannot be: the package is
 * missing, of another version, not made for this system, or computes wrong numbers.
 */
export async function startOnnx(options: OnnxOptions): Promise<OnnxEngine> {
  const { threads, onFallback = warn, runtime, name = 'onnx', programs } = options
  const opened = runtime ?? (await openRuntime(threads))
  const backend = new OnnxBackend(opened, lowerings, onFallback, programs)
  if (tf.findBackendFactory(name)) tf.removeBackend(name)
  registerKernels(name)
  tf.registerBackend(name, () => backend, 0)
  await tf.setBackend(name)
  const undo = [computeAfterSteps(backend), installGradients()]
  return {
    version: opened.version,
    threads,
    stats: () => backend.stats(),
    resetStats: () => backend.resetStats(),
    dispose() {
      for (const put of undo) put()
      tf.removeBackend(name)
    },
  }
}
