import { GpuFull } from '../../errors.ts'
import type { Buffers, GpuBlock } from './buffers.ts'
import type { Gpu } from './device.ts'
import type { Traffic } from './traffic.ts'

interface Wanted {
  block: GpuBlock
  bytes: number
  resolve(bytes: ArrayBuffer): void
  reject(error: unknown): void
}

/** The largest buffer to copy into that is kept. */
const mostKept = 2 ** 20

/** What is wanted in one turn shares a buffer up to this size; more at once may be more than a buffer may have. */
const mostShared = 2 ** 26

const aligned = (bytes: number) => Math.ceil(bytes / 8) * 8

/** What shares a buffer to copy into; one that is larger than the others may be together has its own. */
function parcels(wanted: readonly Wanted[]): Wanted[][] {
  const made: Wanted[][] = []
  let room = 0
  for (const one of wanted) {
    const bytes = aligned(one.bytes)
    if (made.length === 0 || bytes > room) {
      made.push([])
      room = mostShared
    }
    made.at(-1)!.push(one)
    room -= bytes
  }
  return made
}

/** Gives everybody a copy of their part of what is mapped. */
function handOut(mapped: ArrayBuffer, wanted: readonly Wanted[]): void {
  let place = 0
  for (const { bytes, resolve } of wanted) {
    resolve(mapped.slice(place, place + bytes))
    place += aligned(bytes)
  }
}

/** Copies numbers to where JavaScript sees them: all that are wanted in one turn together. */
export class Reader {
  private readonly gpu: Gpu
  private readonly buffers: Buffers
  private readonly traffic: Traffic
  private wanted: Wanted[] = []
  /** Copies that the device has not been told of yet. */
  private readonly asking = new Set<Promise<void>>()
  /** Buffers to copy into, by size, that wait for the next. */
  private readonly idle = new Map<number, GPUBuffer[]>()

  constructor(gpu: Gpu, buffers: Buffers, traffic: Traffic) {
    this.gpu = gpu
    this.buffers = buffers
    this.traffic = traffic
  }

  read(block: GpuBlock, bytes: number): Promise<ArrayBuffer> {
    this.buffers.hold(block)
    return new Promise((resolve, reject) => {
      this.wanted.push({ block, bytes, resolve, reject })
      if (this.wanted.length === 1) process.nextTick(() => void this.copyNow())
    })
  }

  /** Tells the device to copy all that is wanted; when this resolves it may be told to write there. */
  copyNow(): Promise<unknown> {
    for (const some of parcels(this.wanted.splice(0))) {
      const told = this.copy(some).finally(() => this.asking.delete(told))
      this.asking.add(told)
    }
    return Promise.all(this.asking)
  }

  /** Resolves when the device has been told. */
  private async copy(wanted: readonly Wanted[]): Promise<void> {
    let target: GPUBuffer | undefined
    try {
      const size = wanted.reduce((sum, { bytes }) => sum + aligned(bytes), 0)
      target = await this.target(size)
      this.submit(wanted, target)
      void this.bring(wanted, target, size)
    } catch (error) {
      this.refuse(wanted, target, error)
    } finally {
      for (const { block } of wanted) this.buffers.letGo(block)
    }
  }

  private submit(wanted: readonly Wanted[], target: GPUBuffer): void {
    const encoder = this.gpu.device.createCommandEncoder()
    let place = 0
    for (const { block, bytes } of wanted) {
      encoder.copyBufferToBuffer(block.memory, block.offset, target, place, Math.ceil(bytes / 4) * 4)
      place += aligned(bytes)
    }
    this.gpu.device.queue.submit([encoder.finish()])
    this.traffic.submissions++
    this.traffic.reads++
    for (const { bytes } of wanted) this.traffic.readBytes += bytes
  }

  private async bring(wanted: readonly Wanted[], target: GPUBuffer, size: number): Promise<void> {
    try {
      await this.gpu.rest.until(target.mapAsync(GPUMapMode.READ, 0, size))
      this.gpu.check()
      handOut(target.getMappedRange(0, size), wanted)
      target.unmap()
      this.putAside(target)
    } catch (error) {
      this.refuse(wanted, target, error)
    }
  }

  private refuse(wanted: readonly Wanted[], target: GPUBuffer | undefined, error: unknown): void {
    target?.destroy()
    // What happened to the device says more than what it refused then.
    for (const { reject } of wanted) reject(this.gpu.failure ?? error)
  }

  /** Where there is no memory for it, what lies idle is given up. Throws GpuFull where that does not suffice. */
  private async target(bytes: number): Promise<GPUBuffer> {
    const size = Math.max(256, 2 ** Math.ceil(Math.log2(bytes)))
    const known = this.idle.get(size)?.pop()
    if (known) return known
    const wanted = size <= mostKept ? size : bytes
    const made = await this.make(wanted)
    if (made) return made
    for (const list of this.idle.values()) for (const buffer of list.splice(0)) buffer.destroy()
    // Drivers give back what was destroyed late: once is not always enough, as where buffers are taken.
    for (let again = 0; again < 2; again++) {
      await this.buffers.clear()
      const found = await this.make(wanted)
      if (found) return found
    }
    this.gpu.check()
    throw new GpuFull(
      `there is no memory for ${(wanted / 2 ** 20).toFixed(1)} MiB that are read from ${this.gpu.name}`,
      'let fewer runs share this machine and its GPU (GESTALT_CONCURRENCY, GESTALT_GPU_SLOTS), or take a smaller net',
    )
  }

  /** Undefined where there is no room. */
  private async make(size: number): Promise<GPUBuffer | undefined> {
    const { device } = this.gpu
    device.pushErrorScope('out-of-memory')
    const made = device.createBuffer({ size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST })
    this.traffic.buffers++
    // Where the device is lost that is told elsewhere.
    return (await this.gpu.rest.until(device.popErrorScope()).catch(() => null)) ? undefined : made
  }

  /** Small ones wait for the next; large ones would only hold memory. */
  private putAside(target: GPUBuffer): void {
    const list = this.idle.get(target.size)
    if (target.size > mostKept) target.destroy()
    else if (list) list.push(target)
    else this.idle.set(target.size, [target])
  }
}
