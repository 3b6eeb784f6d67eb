import { availableParallelism, freemem, loadavg, totalmem } from 'node:os'

/** What a process and its machine use at a moment. */
export interface Sample {
  time: Date
  /** Processor time of the process per time passed: 1 is one core. */
  cpu: number
  /** Resident memory of the process, bytes. */
  rss: number
  /** One-minute load of the machine per core. */
  systemLoad: number
  /** Memory of the machine that is in use, bytes. */
  systemMemory: number
}

const seconds = 3

/** Samples this process every few seconds until the function returned is called. */
export function startSampling(sink: { sample(sample: Sample): void }): () => void {
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
