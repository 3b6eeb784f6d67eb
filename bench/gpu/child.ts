// The process that measures one row, so that what it breaks ends with it: each result is a line of JSON.
import type { EngineName } from '../../src/engine/choice.ts'
import { chooseEngine } from '../../src/engine/choose.ts'
import { openGpu } from '../../src/engine/webgpu/device.ts'
import { GestaltError } from '../../src/errors.ts'
import type { Row } from './rows.ts'
import { measureClustering, measureMatmul, prepareTraining } from './training.ts'

export interface Task {
  /** What is to be measured: the card itself, or a row. */
  what: 'rates' | Row
  engine: EngineName
  gpu: string | undefined
  tiny: boolean
  threads: number
}

const tell = (result: object) => process.stdout.write(`${JSON.stringify(result)}\n`)

/** A larger batch that brings less than this more is the last. */
const worthwhile = 1.02

/** GB/s read and written where a buffer is copied in the card's memory. */
async function measureCopy(choice: string | undefined, bytes: number): Promise<number> {
  const gpu = await openGpu({ choice })
  const usage = GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST
  const [from, to] = [0, 1].map(() => gpu.device.createBuffer({ size: bytes, usage })) as [GPUBuffer, GPUBuffer]
  const copies = 20
  let best = Number.POSITIVE_INFINITY
  for (let trial = 0; trial < 4; trial++) {
    const encoder = gpu.device.createCommandEncoder()
    for (let i = 0; i < copies; i++) encoder.copyBufferToBuffer(i % 2 ? to : from, 0, i % 2 ? from : to, 0, bytes)
    const began = performance.now()
    gpu.device.queue.submit([encoder.finish()])
    await gpu.device.queue.onSubmittedWorkDone()
    best = Math.min(best, performance.now() - began)
  }
  gpu.check()
  gpu.close()
  return (2 * bytes * copies) / best / 1e6
}

/** Each is told as soon as it is found: on a slow card all of it takes longer than a silent process may live. */
async function measureRates({ engine, gpu, tiny }: Task) {
  if (engine === 'webgpu') tell({ copyGBs: await measureCopy(gpu, tiny ? 2 ** 20 : 2 ** 30) })
  const found = tiny ? measureMatmul(64, 2) : measureMatmul(8192, 8)
  for await (const matmulTflops of found) tell({ matmulTflops })
}

async function measureRow(row: Row, { tiny }: Task) {
  if (row.kind === 'clustering') return tell(await measureClustering(row))
  const training = prepareTraining(row)
  let fastest = 0
  for (const batch of row.batches) {
    const found = await training.measure(batch, tiny ? { steps: 2, seconds: 0 } : { steps: 5, seconds: 3 })
    tell(found)
    if (!tiny && found.imagesPerSecond < worthwhile * fastest) break
    fastest = Math.max(fastest, found.imagesPerSecond)
  }
  training.dispose()
}

export async function runChild(task: Task): Promise<void> {
  try {
    const { engine } = await chooseEngine(task.engine, {
      ...{ threads: task.threads, gpu: { choice: task.gpu, software: true } },
    })
    tell({ engine })
    if (task.what === 'rates') await measureRates(task)
    else await measureRow(task.what, task)
  } catch (error) {
    const cure = error instanceof GestaltError ? ` (${error.cure})` : ''
    tell({ error: `${(error as Error).message}${cure}` })
  }
}
