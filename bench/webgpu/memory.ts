// Memory of our engine over many training steps of a small NPID run.
import { startWebGpu } from '../../src/engine/webgpu/index.ts'
import { parseDefinition } from '../../src/experiments/definition.ts'
import { createMemoryContext, memoryBytes } from '../../src/experiments/memory-context.ts'
import { perform } from '../../src/experiments/perform.ts'

/** Ten steps an epoch. */
const definition = (steps: number) => ({
  ...{ version: 1, name: 'memory', seed: 1 },
  dataset: { name: 'shapes', images: 320, testImages: 32, height: 16, width: 16 },
  net: { name: 'small', widths: [8, 16] },
  method: { name: 'npid', dimension: 32, negatives: 'all', bankStart: 'random' },
  training: { epochs: Math.ceil(steps / 10), batchSize: 32, checkpointEverySteps: 250 },
})

/** What there is after so many steps. */
interface Look {
  step: number
  loss: number
  /** Buffers that were made until now, and those of them that were destroyed. */
  created: number
  destroyed: number
  /** Of the device's memory: in use, and all that is held. */
  usedBytes: number
  heldBytes: number
  /** Of the process. */
  rssBytes: number
  heapBytes: number
}

/** Counts the buffers that are made and destroyed. */
function countBuffers(device: GPUDevice) {
  const counted = { created: 0, destroyed: 0 }
  const create = device.createBuffer.bind(device)
  device.createBuffer = (descriptor) => {
    counted.created++
    const buffer = create(descriptor)
    const destroy = buffer.destroy.bind(buffer)
    buffer.destroy = () => {
      counted.destroyed++
      destroy()
    }
    return buffer
  }
  return counted
}

export async function watchMemory(steps: number, choice: string | undefined) {
  const engine = await startWebGpu({ choice })
  const counted = countBuffers(engine.gpu.device)
  const looks: Look[] = []
  const wanted = new Set([10, 100, 500, 1000, 1500, steps])
  const stop = new AbortController()
  const context = createMemoryContext(memoryBytes(), { stop: stop.signal })
  const began = performance.now()
  context.metrics.report = (step, { loss }) => {
    if (loss === undefined || step > steps || !wanted.has(step)) return
    // What is garbage by now is none of the engine's.
    global.gc?.()
    const { used, all } = engine.memory()
    const { rss, heapUsed } = process.memoryUsage()
    const look = { step, loss, ...counted, usedBytes: used, heldBytes: all, rssBytes: rss, heapBytes: heapUsed }
    looks.push(look)
    const megabytes = (bytes: number) => `${(bytes / 2 ** 20).toFixed(1)} MiB`
    console.log(
      `step ${step}: ${counted.created} buffers made, ${counted.destroyed} destroyed, ${megabytes(all)} held, ` +
        `${megabytes(used)} in use, the process ${megabytes(rss)}, its heap ${megabytes(heapUsed)}`,
    )
    if (step === steps) stop.abort('cancelled')
  }
  context.progress = () => {}
  await perform(parseDefinition(definition(steps)), context)
  const seconds = Math.round((performance.now() - began) / 1000)
  return { device: engine.gpu.name, steps, seconds, memory: looks }
}
