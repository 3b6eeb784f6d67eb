// One side of the WebGPU bench, our engine or the stock backend, told what to do by lines of JSON on standard input.
import { writeFileSync } from 'node:fs'
import { openGpu } from '../../src/engine/webgpu/device.ts'
import { startWebGpu } from '../../src/engine/webgpu/index.ts'
import { type Tensor, tf } from '../../src/tf.ts'
import { answerLines } from '../engine/answers.ts'
import { rows, tinyRows, type Work } from './rows.ts'

export type Command =
  | { command: 'hello' }
  | { command: 'prepare'; row: number; tiny: boolean; file: string }
  | { command: 'run'; count: number }
  | { command: 'count' }

const [side, choice] = process.argv.slice(2)
if (!choice) throw new Error('which GPU?')

/** The package that TensorFlow.js itself has for WebGPU, on the device that our engine would take. */
async function startStock() {
  const gpu = await openGpu({ choice })
  // It asks whether the browser has WebGPU.
  Object.defineProperty(globalThis, 'navigator', { value: { gpu: {}, userAgent: '' }, configurable: true })
  const { WebGPUBackend } = await import('@tensorflow/tfjs-backend-webgpu').catch((cause) => {
    throw new Error("the package @tensorflow/tfjs-backend-webgpu is not installed: 'npm ci' without --omit=dev", {
      cause,
    })
  })
  const { info } = gpu.device.adapterInfo ? { info: gpu.device.adapterInfo } : { info: undefined }
  const backend = new WebGPUBackend(gpu.device, info)
  tf.removeBackend('webgpu')
  tf.registerBackend('webgpu', () => backend)
  await tf.setBackend('webgpu')
  return { gpu, check: () => gpu.check() }
}

const { gpu } = side === 'ours' ? await startWebGpu({ choice }) : await startStock()
let work: Work | undefined

async function first({ row, tiny, file }: Extract<Command, { command: 'prepare' }>): Promise<object> {
  work?.dispose()
  work = (tiny ? tinyRows : rows)[row]!.prepare()
  const made = await work.run()
  const numbers = await Promise.all(made.map((tensor) => tensor.data()))
  tf.dispose(made)
  const all = Float32Array.from(numbers.flatMap((some) => [...some]))
  writeFileSync(file, new Uint8Array(all.buffer))
  return { lengths: numbers.map(({ length }) => length), whole: made.map(({ dtype }) => dtype !== 'float32') }
}

/** Waits until all is computed: one number of the first result is read, and the results are alive until then. */
async function settle(made: readonly Tensor[]): Promise<void> {
  const one = tf.tidy(() => tf.slice(tf.reshape(made[0]!, [-1]), [0], [1]))
  await one.data()
  tf.dispose([one, ...made])
}

async function time(count: number): Promise<object> {
  const began = performance.now()
  for (let i = 0; i < count; i++) await settle(await work!.run())
  const milliseconds = (performance.now() - began) / count
  gpu.check()
  return { milliseconds }
}

/** How many shaders the device is told to run for one more run. */
async function countDispatches(): Promise<object> {
  const { device } = gpu
  const create = device.createCommandEncoder
  let dispatches = 0
  device.createCommandEncoder = (descriptor) => {
    const encoder = create.call(device, descriptor)
    const begin = encoder.beginComputePass.bind(encoder)
    encoder.beginComputePass = (about) => {
      const pass = begin(about)
      const dispatch = pass.dispatchWorkgroups.bind(pass)
      pass.dispatchWorkgroups = (...groups) => {
        dispatches++
        dispatch(...groups)
      }
      return pass
    }
    return encoder
  }
  await settle(await work!.run())
  device.createCommandEncoder = create
  return { dispatches }
}

async function answer(message: Command): Promise<object> {
  if (message.command === 'hello') return { device: gpu.name, version: gpu.version }
  if (message.command === 'count') return countDispatches()
  return message.command === 'prepare' ? first(message) : time(message.count)
}

await answerLines(answer)
process.exit() // whatever the device still holds
