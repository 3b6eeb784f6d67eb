import { startMachine, whyNotHere } from '../../../src/engine/machine/index.ts'
import { type OnnxEngine, startOnnx } from '../../../src/engine/onnx/index.ts'
import { loadPackage, openRuntime } from '../../../src/engine/onnx/runtime.ts'

interface Options {
  threads: number
  onFallback?(kernel: string): void
}

/** What records kernels of tfjs and computes graphs, by the name of its backend; of machine code where it runs. */
export const engines: readonly (readonly [name: string, start: (options: Options) => Promise<OnnxEngine>])[] = [
  ['onnx', startOnnx],
  ...(whyNotHere() ? [] : [['machine', startMachine] as const]),
]

/** ONNX Runtime, where it computes in promises only: as engines do whose numbers live on another device. */
export const inPromises = async ({ threads }: Options) =>
  startOnnx({ threads, runtime: await openRuntime(threads, { ...loadPackage(), SynchronousSession: undefined }) })

/** The same, and so far away that numbers are on their way until `arrives` resolves. */
export async function farAway({ threads }: Options, arrives: () => Promise<void>): Promise<OnnxEngine> {
  const published = loadPackage()
  const create = async (...args: Parameters<typeof published.InferenceSession.create>) => {
    const session = await published.InferenceSession.create(...args)
    const run = session.run.bind(session) as (...args: unknown[]) => Promise<unknown>
    const later = async (...args: unknown[]) => {
      const found = await run(...args)
      await arrives()
      return found
    }
    return Object.assign(session, { run: later })
  }
  const InferenceSession = { create } as unknown as typeof published.InferenceSession
  return startOnnx({
    threads,
    runtime: await openRuntime(threads, { ...published, InferenceSession, SynchronousSession: undefined }),
  })
}
