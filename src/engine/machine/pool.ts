import type { Block as AnyBlock } from '../recording/computer.ts'
import { mapRegion, type Region } from './memory.ts'

const regionBytes = 2 ** 26

/** Memory of the machine, and where JavaScript sees it. */
export interface Block extends AnyBlock {
  readonly address: number
  readonly buffer: ArrayBuffer
  readonly offset: number
}

/** Sizes of blocks: four to a doubling, so that at most a fifth of a block is left over. */
function roundedSize(bytes: number): number {
  let size = 1024
  while (size < bytes) size *= 2
  for (const part of [5 / 8, 3 / 4, 7 / 8]) if (bytes <= size * part) return size * part
  return size
}

/** Blocks of memory that are taken and given back, never returned to the system. */
export class Pool {
  private readonly free = new Map<number, Block[]>()
  private region: Region | undefined
  private used = 0
  /** Bytes that were ever taken from the system. */
  bytes = 0

  take(bytes: number): Block {
    const size = roundedSize(bytes)
    return this.free.get(size)?.pop() ?? this.carve(size)
  }

  give(block: Block): void {
    const list = this.free.get(block.bytes)
    if (list) list.push(block)
    else this.free.set(block.bytes, [block])
  }

  private carve(size: number): Block {
    if (!this.region || this.used + size > this.region.bytes) {
      this.region = mapRegion(Math.max(regionBytes, size))
      this.bytes += this.region.bytes
      this.used = 0
    }
    const { address, buffer } = this.region
    const block = { address: address + this.used, bytes: size, buffer, offset: this.used }
    this.used += size
    return block
  }
}
