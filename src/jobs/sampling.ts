import { availableParallelism, freemem, loadavg, totalmem } from 'node:os'
import type { Usage } from '../store/rows.ts'

const seconds = 3

/** Samples this process every few seconds until the function returned is called. */
export function startSampling(sink: { sample(usage: Usage): void }): () => void {
  let before = { at: performance.now(), cpu: process.cpuUsage() }
  const timer = setInterval(() => {
    const now = { at: performance.now(), cpu: process.cpuUsage() }
    const used = now.cpu.user + now.cpu.system - before.cpu.user - before.cpu.system // microseconds
    sink.sample({
      time: new Date(),
      cpu: used / 1000 / (now.at - before.at),
      rss: process.memoryUsage.rss(),
      systemLoad: (loadavg()[0] ?? 0) / availableParallelism(),
      systemMemory: totalmem() - freemem(),
    })
    before = now
  }, seconds * 1000)
  return () => clearInterval(timer)
}
