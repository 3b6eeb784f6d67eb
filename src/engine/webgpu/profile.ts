import type { Gpu } from './device.ts'

/** What one dispatch of a graph took so far. */
export interface Timing {
  label: string
  runs: number
  milliseconds: number
}

/** Notes when dispatches begin and end, by the device's clock. */
export class Profile {
  private readonly gpu: Gpu
  private readonly byLabel = new Map<string, Timing>()
  private readonly asked = new Set<Promise<void>>()

  constructor(gpu: Gpu) {
    this.gpu = gpu
  }

  /** For a graph of so many dispatches: how the pass of each is begun, and what to do when all are encoded and submitted. */
  begin(labels: readonly string[]) {
    const { device } = this.gpu
    const count = 2 * labels.length
    const querySet = device.createQuerySet({ type: 'timestamp', count })
    const resolved = device.createBuffer({
      size: 8 * count,
      usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC,
    })
    const target = device.createBuffer({ size: 8 * count, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST })
    const read = async () => {
      await target.mapAsync(GPUMapMode.READ)
      const stamps = new BigInt64Array(target.getMappedRange())
      for (const [i, label] of labels.entries()) {
        const timing = this.byLabel.get(label) ?? { label, runs: 0, milliseconds: 0 }
        timing.runs++
        timing.milliseconds += Number(stamps[2 * i + 1]! - stamps[2 * i]!) / 1e6
        this.byLabel.set(label, timing)
      }
      target.unmap()
      for (const one of [querySet, resolved, target]) one.destroy()
    }
    return {
      pass: (i: number): GPUComputePassDescriptor => ({
        timestampWrites: { querySet, beginningOfPassWriteIndex: 2 * i, endOfPassWriteIndex: 2 * i + 1 },
      }),
      encoded: (encoder: GPUCommandEncoder) => {
        encoder.resolveQuerySet(querySet, 0, count, resolved, 0)
        encoder.copyBufferToBuffer(resolved, 0, target, 0, 8 * count)
      },
      submitted: () => {
        const told = read().catch(() => {})
        this.asked.add(told)
        void told.finally(() => this.asked.delete(told))
      },
    }
  }

  /** The dearest first; all that was submitted until now. */
  async timings(): Promise<Timing[]> {
    await Promise.all(this.asked)
    return [...this.byLabel.values()].sort((a, b) => b.milliseconds - a.milliseconds)
  }

  reset(): void {
    this.byLabel.clear()
  }
}
