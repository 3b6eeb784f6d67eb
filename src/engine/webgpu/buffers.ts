import { NoRoom, TooLarge } from '../../errors.ts'
import type { Block } from '../recording/computer.ts'
import type { Gpu } from './device.ts'
import type { Traffic } from './traffic.ts'

/** Memory of the device. */
export interface GpuBlock extends Block {
  readonly memory: GPUBuffer
  /** Different for each buffer there ever was. */
  readonly number: number
  /** Copies out of it that have not been asked for yet: it is given back only then. */
  readers: number
  released: boolean
  /** Whether all tensors of this single number have it: nobody writes into it, and it is never given back. */
  shared: boolean
}

/** So many single numbers stay on the device. */
const mostSingles = 256

/** Sizes of buffers: eight to a doubling, so that at most an eighth of a buffer is left over. */
export function roundedSize(bytes: number): number {
  if (bytes <= 256) return 256
  const step = 2 ** (Math.ceil(Math.log2(bytes)) - 4)
  return Math.ceil(bytes / Math.max(256, step)) * Math.max(256, step)
}

/** What a buffer is for, to be told where there is no room for it. */
export interface Purpose {
  /** 'convolution [128, 32, 32, 64]' */
  name: string
  /** Of its numbers; the first side is most often the batch. */
  shape: readonly number[]
}

const gigabytes = (bytes: number) => `${(bytes / 2 ** 30).toFixed(2)} GiB`

/** Which batch would fit where so many bytes have room of those that a whole one needs. */
function smallerBatch({ shape }: Purpose, room: number, needed: number): string {
  const [rows = 1] = shape
  const most = Math.floor((rows * room) / needed)
  if (rows < 2 || most < 1) return 'take smaller images or a smaller net'
  return `a batch of at most ${most} in place of ${rows} would fit; or take smaller images or a smaller net`
}

/**
 * Buffers that are taken and given back. What is given back can be taken at once: the device does what it is told in
 * order, so that whoever writes next does so after everybody has read.
 */
export class Buffers {
  private readonly gpu: Gpu
  private readonly traffic: Traffic
  private readonly free = new Map<number, GpuBlock[]>()
  /** Single numbers that stay, and those that came once of late, by their bits. */
  private readonly singles = new Map<number, GpuBlock>()
  private readonly seen = new Set<number>()
  private count = 0
  /** Bytes of all buffers, and of those that are in use. */
  bytes = 0
  usedBytes = 0
  private failure: Error | undefined
  private readonly asked = new Set<Promise<void>>()

  constructor(gpu: Gpu, traffic: Traffic) {
    this.gpu = gpu
    this.traffic = traffic
  }

  /** Throws TooLarge where the device has no buffers of that size; `what` is told then, and where memory runs out, with a batch that would fit. */
  take(bytes: number, what: Purpose): GpuBlock {
    const size = roundedSize(bytes)
    const block = this.free.get(size)?.pop() ?? this.make(size, bytes, what)
    block.released = false
    this.usedBytes += size
    return block
  }

  private make(size: number, bytes: number, what: Purpose): GpuBlock {
    const { device } = this.gpu
    const { maxBufferSize, maxStorageBufferBindingSize } = device.limits
    const most = Math.min(maxBufferSize, maxStorageBufferBindingSize)
    if (bytes > most)
      throw new TooLarge(
        `${what.name} takes ${gigabytes(bytes)}; ${this.gpu.name} takes up to ${gigabytes(most)} in one piece`,
        smallerBatch(what, most, bytes),
      )
    device.pushErrorScope('out-of-memory')
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST
    const memory = device.createBuffer({ size: Math.min(size, Math.floor(most / 16) * 16), usage })
    this.traffic.buffers++
    const before = this.bytes
    const told = device.popErrorScope().then(
      (error) => {
        if (error)
          this.failure ??= new NoRoom(
            `the memory of ${this.gpu.name} ran out: ${what.name} needs ${gigabytes(bytes)} beside ${gigabytes(before)} that are in use or kept`,
            smallerBatch(what, before, before + bytes),
          )
      },
      () => {}, // the device is lost, which is told elsewhere
    )
    this.asked.add(told)
    void told.finally(() => this.asked.delete(told))
    this.bytes += size
    return { memory, bytes: size, number: this.count++, readers: 0, released: false, shared: false }
  }

  /** Throws where memory ran out for anything that was taken until now. */
  async settled(): Promise<void> {
    await Promise.all(this.asked)
    if (this.failure) throw this.failure
  }

  /** A block with these words. */
  upload(words: Float32Array | Int32Array | Uint32Array, what: Purpose): GpuBlock {
    const block = this.take(words.byteLength, what)
    this.gpu.device.queue.writeBuffer(block.memory, 0, words as Float32Array<ArrayBuffer>)
    this.traffic.uploads++
    this.traffic.uploadedBytes += words.byteLength
    return block
  }

  /**
   * The block of a single number. A step has dozens of them, which are mostly the same each time, and to bring one there
   * costs as much as a small dispatch: one that comes a second time stays.
   */
  single(words: Float32Array | Int32Array, what: Purpose): GpuBlock {
    const [bits] = new Int32Array(words.buffer, words.byteOffset, 1) as unknown as [number]
    const known = this.singles.get(bits)
    if (known) return known
    const block = this.upload(words, what)
    if (this.seen.has(bits) && this.singles.size < mostSingles) {
      block.shared = true
      this.singles.set(bits, block)
    }
    if (this.seen.size >= mostSingles) this.seen.clear()
    this.seen.add(bits)
    return block
  }

  give(block: GpuBlock): void {
    if (block.shared) return
    block.released = true
    if (block.readers > 0) return
    this.usedBytes -= block.bytes
    const list = this.free.get(block.bytes)
    if (list) list.push(block)
    else this.free.set(block.bytes, [block])
  }

  /** Keeps a block from being taken by others until `read` is over. */
  hold(block: GpuBlock): void {
    block.readers++
  }

  letGo(block: GpuBlock): void {
    block.readers--
    if (block.released && block.readers === 0) this.give(block)
  }
}
