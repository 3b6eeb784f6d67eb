import { createRequire } from 'node:module'
import { dirname, sep } from 'node:path'
import { type BackendWasm, setWasmPaths } from '@tensorflow/tfjs-backend-wasm'
import { tf } from '../tf.ts'
import type { Attributes, Heap, Info, Inputs, Kernel } from './kernel.ts'
import { batchMatMul, identity, sum, unsortedSegmentSum } from './kernels/algebra.ts'
import { conv2DBackpropFilter, conv2DBackpropInput } from './kernels/convolution.ts'
import { maxPoolGrad } from './kernels/pooling.ts'

/** Kernels that the wasm backend lacks, or has in a form too slow for training, composed from those it has. */
const kernels: Record<string, Kernel> = {
  BatchMatMul: batchMatMul,
  Conv2DBackpropFilter: conv2DBackpropFilter,
  Conv2DBackpropInput: conv2DBackpropInput,
  Identity: identity,
  MaxPoolGrad: maxPoolGrad,
  Sum: sum,
  UnsortedSegmentSum: unsortedSegmentSum,
}

const stockKernels = new Map<string, tf.KernelConfig>()

function heapOf(backend: BackendWasm): Heap {
  return {
    allocate: (shape, dtype = 'float32') => backend.makeOutput([...shape], dtype) as Info,
    floats: (info) => backend.typedArrayFromHeap(info as never) as Float32Array,
    integers: (info) => backend.typedArrayFromHeap(info as never) as Int32Array,
    stock(name, inputs, attributes = {}) {
      const kernel = stockKernels.get(name) ?? tf.getKernel(name, 'wasm')
      return kernel.kernelFunc({ inputs: inputs as never, attrs: attributes as never, backend }) as Info
    },
    share(info, shape) {
      backend.incRef(info.dataId)
      return { ...info, shape: [...shape] }
    },
    free(info) {
      backend.disposeData(info.dataId)
    },
  }
}

function install(name: string, kernel: Kernel): void {
  const stock = tf.getKernel(name, 'wasm')
  if (stock) {
    stockKernels.set(name, stock)
    tf.unregisterKernel(name, 'wasm')
  }
  tf.registerKernel({
    ...stock,
    kernelName: name,
    backendName: 'wasm',
    kernelFunc: ({ inputs, attrs, backend }) =>
      kernel(inputs as unknown as Inputs, (attrs ?? {}) as Attributes, heapOf(backend as BackendWasm)) as never,
  })
}

/** Emscripten rethrows every unhandled error of the whole process from listeners of its own: keep ours only. */
function withoutProcessListeners<Result>(start: () => Promise<Result>): Promise<Result> {
  const events = ['uncaughtException', 'unhandledRejection'] as const
  const before = events.map((event) => new Set<unknown>(process.listeners(event as 'uncaughtException')))
  return start().finally(() => {
    for (const [i, event] of events.entries())
      for (const listener of process.listeners(event as 'uncaughtException'))
        if (!before[i]!.has(listener)) process.removeListener(event, listener)
  })
}

let installed = false

/**
 * Makes tfjs compute on its wasm backend, with the files that are in the installed package and the kernels that
 * training needs beside its own. True where it works on this machine.
 */
export async function startWasm(): Promise<boolean> {
  if (!installed) {
    const entry = createRequire(import.meta.url).resolve('@tensorflow/tfjs-backend-wasm')
    setWasmPaths(dirname(entry) + sep)
    for (const [name, kernel] of Object.entries(kernels)) install(name, kernel)
    installed = true
  }
  return withoutProcessListeners(() => tf.setBackend('wasm'))
}
