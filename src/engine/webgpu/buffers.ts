import { GpuFull, gibibytes, TooLarge } from '../../errors.ts'
import type { Block } from '../recording/computer.ts'
import type { Gpu } from './device.ts'
import type { Traffic } from './traffic.ts'

/** Memory of the device. */
export interface GpuBlock extends Block {
  readonly memory: GPUBuffer
  /** Where in it, in bytes: a multiple of 256. */
  readonly offset: number
  /** Different for each buffer there ever was; parts of one have that of the whole. */
  readonly number: number
  /** Of which block it is a part. */
  readonly within: GpuBlock | undefined
  /** How many parts of it have not been given back. */
  parts: number
  /** Copies out of it that have not been asked for yet: it is given back only then. */
  readers: number
  released: boolean
  /** Whether all tensors of this single number have it: nobody writes into it, and it is never given back. */
  shared: boolean
  /** Which of all that were given back it was, the last time. */
  since: number
}

/** Where in a block something lies, in bytes. */
export interface Part {
  offset: number
  bytes: number
}

/** What shaders are bound to: of a part of a buffer `span` bytes from its beginning on, by default its own. */
export const entriesOf = (blocks: readonly GpuBlock[], span?: number): GPUBindGroupEntry[] =>
  blocks.map(({ memory, within, offset, bytes }, binding) => ({
    binding,
    resource: within ? { buffer: memory, offset, size: span ?? bytes } : { buffer: memory },
  }))

/** So many single numbers stay on the device. */
const mostSingles = 256

const unused = () => ({ offset: 0, parts: 0, readers: 0, released: false, shared: false, since: 0 })

const bitsOf = ({ buffer, byteOffset }: Float32Array | Int32Array) => new Int32Array(buffer, byteOffset, 1)[0]!

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
  /** Of its numbers; empty where it is no tensor. */
  shape: readonly number[]
}

/** What is asked for. */
export interface Wanted {
  bytes: number
  what: Purpose
}

/** So much may lie idle in any case; above it, as much as is in use. */
const mostIdle = 2 ** 28

const exact = (bytes: number) => gibibytes(bytes, 2)
const total = (wanted: readonly Wanted[]) => wanted.reduce((sum, { bytes }) => sum + bytes, 0)
const largestOf = (wanted: readonly Wanted[]) => wanted.reduce((a, b) => (b.bytes > a.bytes ? b : a))

/** What to do where a share of the batch has room; `batch` is undefined where it is not known, or not to blame. */
function cureFor(batch: number | undefined, share: number): string {
  const general =
    'take a smaller batch, smaller images or a smaller net, half precision (training.precision) or another GPU'
  const most = batch && share < 1 ? Math.floor(batch * share) : 0
  return most < 1 ? general : `a batch of at most ${most} in place of ${batch} would fit; or ${general}`
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
  private given = 0
  /** Bytes of all buffers, and of those that are in use. */
  bytes = 0
  usedBytes = 0
  /** How often buffers were destroyed: what binds buffers of before may name some that are no more. */
  cleared = 0

  constructor(gpu: Gpu, traffic: Traffic) {
    this.gpu = gpu
    this.traffic = traffic
  }

  /**
   * All that is wanted, or nothing. Throws TooLarge where the device has no buffers of that size, GpuFull where its
   * memory does not suffice; both say for what, and with a batch that would fit where `batch` is told and tensors whose
   * first side it is are to blame.
   */
  async take(wanted: readonly Wanted[], batch?: number): Promise<GpuBlock[]> {
    if (wanted.length === 0) return []
    this.refuseLarge(largestOf(wanted), batch)
    const blocks = wanted.map(({ bytes }) => this.free.get(roundedSize(bytes))?.pop())
    for (const block of blocks) if (block) this.use(block)
    const missing = () => wanted.filter((_, i) => !blocks[i])
    const make = () =>
      Promise.all(wanted.map(async ({ bytes }, i) => (blocks[i] ??= await this.make(roundedSize(bytes)))))
    if (missing().length > 0) {
      this.destroyIdle(Math.max(mostIdle, this.usedBytes + total(missing())))
      await make()
    }
    for (let again = 0; again < 2 && missing().length > 0; again++) {
      await this.clear()
      await make()
    }
    const lacking = missing()
    if (lacking.length > 0) for (const block of blocks) if (block) this.give(block)
    this.gpu.check()
    if (lacking.length > 0) throw this.noRoom(wanted, lacking, batch)
    return blocks as GpuBlock[]
  }

  private refuseLarge({ bytes, what }: Wanted, batch: number | undefined): void {
    const most = this.largest
    if (bytes <= most) return
    throw new TooLarge(
      `${what.name} takes ${exact(bytes)}; ${this.gpu.name} takes up to ${exact(most)} in one piece`,
      cureFor(what.shape[0] === batch ? batch : undefined, most / bytes),
    )
  }

  /** Only tensors whose first side is the batch would be smaller with it. */
  private noRoom(wanted: readonly Wanted[], lacking: readonly Wanted[], batch: number | undefined): GpuFull {
    const { bytes, what } = largestOf(lacking)
    const scaling = total(wanted.filter(({ what: { shape } }) => shape[0] === batch))
    return new GpuFull(
      `the memory of ${this.gpu.name} ran out: ${what.name} needs ${exact(bytes)}, ` +
        `of ${exact(total(wanted))} that are wanted at once beside ${exact(this.usedBytes)} in use`,
      cureFor(scaling > 0 ? batch : undefined, 1 - total(lacking) / scaling),
    )
  }

  /** Bytes of the largest buffer that a shader can be handed. */
  get largest(): number {
    const { maxBufferSize, maxStorageBufferBindingSize } = this.gpu.limits
    return Math.min(maxBufferSize, maxStorageBufferBindingSize)
  }

  /** Undefined where there is no room. */
  private async make(size: number): Promise<GpuBlock | undefined> {
    const { device } = this.gpu
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST
    device.pushErrorScope('out-of-memory')
    const memory = device.createBuffer({ size: Math.min(size, Math.floor(this.largest / 16) * 16), usage })
    this.traffic.buffers++
    // Where the device is lost that is told elsewhere.
    if (await this.gpu.rest.until(device.popErrorScope()).catch(() => null)) return undefined
    this.bytes += size
    this.usedBytes += size
    return { memory, bytes: size, number: this.count++, within: undefined, ...unused() }
  }

  private use(block: GpuBlock): void {
    block.released = false
    this.usedBytes += block.bytes
  }

  /** Destroys what is idle until it is no more than so many bytes, what was used last at last. */
  private destroyIdle(most: number): void {
    if (this.bytes - this.usedBytes <= most) return
    const idle = [...this.free.values()].flat().sort((a, b) => a.since - b.since)
    for (const block of idle) {
      if (this.bytes - this.usedBytes <= most) break
      const list = this.free.get(block.bytes)!
      list.splice(list.indexOf(block), 1)
      block.memory.destroy()
      this.bytes -= block.bytes
      this.cleared++
    }
  }

  /** Gives all that is idle back to the driver: Dawn does so once something has been done that was submitted later. */
  async clear(): Promise<void> {
    const { device } = this.gpu
    this.destroyIdle(0)
    device.queue.submit([device.createCommandEncoder().finish()])
    await this.gpu.rest.until(device.queue.onSubmittedWorkDone()).catch(() => {})
  }

  /** Blocks within one, at these bytes; it is given back when all of them have been. */
  divide(within: GpuBlock, at: readonly Part[]): GpuBlock[] {
    within.parts = at.length
    const { memory, number } = within
    return at.map(({ offset, bytes }) => ({ memory, number, bytes, within, ...unused(), offset }))
  }

  /** Copies words into a block. */
  write({ memory, offset }: GpuBlock, words: Float32Array | Int32Array | Uint32Array): void {
    this.gpu.device.queue.writeBuffer(memory, offset, words as Float32Array<ArrayBuffer>)
    this.traffic.uploads++
    this.traffic.uploadedBytes += words.byteLength
  }

  /**
   * The block that all tensors of this single number have. A step has dozens of them, which are mostly the same each time,
   * and to bring one there costs as much as a small dispatch: one that comes a second time stays.
   */
  single(words: Float32Array | Int32Array): GpuBlock | undefined {
    return this.singles.get(bitsOf(words))
  }

  /** A single number has been brought there. */
  keepSingle(words: Float32Array | Int32Array, block: GpuBlock): void {
    const bits = bitsOf(words)
    if (this.seen.has(bits) && !this.singles.has(bits) && this.singles.size < mostSingles) {
      block.shared = true
      this.singles.set(bits, block)
    }
    if (this.seen.size >= mostSingles) this.seen.clear()
    this.seen.add(bits)
  }

  give(block: GpuBlock): void {
    if (block.shared) return
    block.released = true
    if (block.readers > 0) return
    if (block.within) {
      if (--block.within.parts === 0) this.give(block.within)
      return
    }
    block.since = this.given++
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
