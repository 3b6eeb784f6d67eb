import type { Buffers, GpuBlock } from './buffers.ts'
import type { Gpu } from './device.ts'

interface Wanted {
  block: GpuBlock
  bytes: number
  resolve(bytes: ArrayBuffer): void
  reject(error: unknown): void
}

const aligned = (bytes: number) => Math.ceil(bytes / 8) * 8

/** Copies numbers to where JavaScript sees them: all that are wanted in one turn in one go. */
export class Reader {
  private readonly gpu: Gpu
  private readonly buffers: Buffers
  private wanted: Wanted[] = []
  /** Buffers to copy into, by size, that wait for the next. */
  private readonly idle = new Map<number, GPUBuffer[]>()

  constructor(gpu: Gpu, buffers: Buffers) {
    this.gpu = gpu
    this.buffers = buffers
  }

  read(block: GpuBlock, bytes: number): Promise<ArrayBuffer> {
    this.buffers.hold(block)
    return new Promise((resolve, reject) => {
      this.wanted.push({ block, bytes, resolve, reject })
      if (this.wanted.length === 1) process.nextTick(() => this.copyNow())
    })
  }

  /** Tells the device to copy all that is wanted, before whatever it is told next. */
  copyNow(): void {
    const wanted = this.wanted.splice(0)
    if (wanted.length > 0) void this.collect(wanted)
  }

  private async collect(wanted: readonly Wanted[]): Promise<void> {
    try {
      const places: number[] = []
      let size = 0
      for (const { bytes } of wanted) {
        places.push(size)
        size += aligned(bytes)
      }
      const target = this.target(size)
      const encoder = this.gpu.device.createCommandEncoder()
      for (const [i, { block, bytes }] of wanted.entries()) {
        encoder.copyBufferToBuffer(block.memory, 0, target, places[i]!, Math.ceil(bytes / 4) * 4)
        this.buffers.letGo(block)
      }
      this.gpu.device.queue.submit([encoder.finish()])
      await target.mapAsync(GPUMapMode.READ, 0, size)
      await this.buffers.settled()
      this.gpu.check()
      const mapped = target.getMappedRange(0, size)
      for (const [i, { bytes, resolve }] of wanted.entries()) resolve(mapped.slice(places[i]!, places[i]! + bytes))
      target.unmap()
      const list = this.idle.get(target.size)
      if (list) list.push(target)
      else this.idle.set(target.size, [target])
    } catch (error) {
      // What happened to the device says more than what it refused then.
      for (const { reject } of wanted) reject(this.gpu.failure ?? error)
    }
  }

  private target(bytes: number): GPUBuffer {
    const size = Math.max(256, 2 ** Math.ceil(Math.log2(bytes)))
    const known = size <= 2 ** 20 ? this.idle.get(size)?.pop() : undefined
    if (known) return known
    const usage = GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST
    return this.gpu.device.createBuffer({ size: size <= 2 ** 20 ? size : aligned(bytes), usage })
  }
}
