import { createRequire } from 'node:module'
import { NoRoom, Unavailable } from '../../errors.ts'

/** What is asked of the system, by libc. Addresses are numbers: they have at most 48 bits. */
export interface System {
  map(bytes: number): number
  /** Lets code be run that was written to mapped memory, which can be written no more. */
  makeExecutable(address: number, bytes: number): void
  unmap(address: number, bytes: number): void
  /** Where an array's numbers lie; as long as it is alive, they stay there. */
  addressOf(array: ArrayBufferView): number
  /** The memory as a buffer; it must not be used once it is unmapped. */
  view(address: number, bytes: number): ArrayBuffer
  /** Calls code: f(first, second). */
  call(address: number, first: number, second: number): void
  startThread(address: number, argument: number): void
}

const [read, write, execute] = [1, 2, 4]
const [anonymous, private_, lazily] = [0x20, 0x02, 0x4000]
const largePages = 14
export const largePage = 2 ** 21

interface Koffi {
  load(path: null): { func(declaration: string): (...values: unknown[]) => unknown }
  view(address: bigint, bytes: number): ArrayBuffer
  address(array: ArrayBufferView): bigint
  call(address: bigint, type: unknown, ...values: unknown[]): unknown
  proto(declaration: string): unknown
}

let system: System | undefined

/** The system's calls. Throws Unavailable where koffi does not load. */
export function openSystem(): System {
  system ??= bindSystem()
  return system
}

function bindSystem(): System {
  let koffi: Koffi
  try {
    koffi = createRequire(import.meta.url)('koffi') as Koffi
  } catch (error) {
    throw new Unavailable(`koffi does not load: ${(error as Error).message}`, 'install it with the others: npm ci', {
      cause: error,
    })
  }
  const libc = koffi.load(null)
  const mmap = libc.func('void *mmap(void *at, size_t bytes, int protection, int flags, int file, int64_t offset)')
  const munmap = libc.func('int munmap(void *at, size_t bytes)')
  const mprotect = libc.func('int mprotect(void *at, size_t bytes, int protection)')
  const madvise = libc.func('int madvise(void *at, size_t bytes, int advice)')
  const pthreadCreate = libc.func('int pthread_create(void *thread, void *attributes, void *start, void *argument)')
  const entry = koffi.proto('void GestaltEntry(void *first, int64_t second)')
  const failed = 2n ** 64n - 1n
  return {
    map(bytes) {
      const address = mmap(null, bytes, read | write, anonymous | private_ | lazily, -1, 0) as bigint
      if (address === failed || address === -1n || !address)
        throw new NoRoom(`memory ran out: ${bytes} bytes were wanted`, 'take smaller batches or smaller images')
      if (bytes >= largePage) madvise(address, bytes, largePages)
      return Number(address)
    },
    makeExecutable(address, bytes) {
      if (mprotect(BigInt(address), bytes, read | execute) !== 0)
        throw new Unavailable('the system does not let memory be run', 'allow it, or choose GESTALT_ENGINE=onnx')
    },
    unmap: (address, bytes) => void munmap(BigInt(address), bytes),
    addressOf: (array) => Number(koffi.address(array)),
    view: (address, bytes) => koffi.view(BigInt(address), bytes),
    call: (address, first, second) => void koffi.call(BigInt(address), entry, BigInt(first), second),
    startThread(address, argument) {
      const thread = new BigInt64Array(1)
      const code = pthreadCreate(thread, null, BigInt(address), BigInt(argument))
      if (code !== 0) throw new Unavailable(`a thread could not be started (error ${code})`, 'allow more threads')
    },
  }
}

/** A piece of memory that both sides see. */
export interface Region {
  address: number
  bytes: number
  buffer: ArrayBuffer
}

const roundUp = (bytes: number, to: number) => Math.ceil(bytes / to) * to

/** New memory, full of zeros, of which pages are taken only when they are written. */
export function mapRegion(bytes: number): Region {
  const own = openSystem()
  const size = roundUp(Math.max(bytes, 1), 4096)
  if (size < largePage) {
    const address = own.map(size)
    return { address, bytes: size, buffer: own.view(address, size) }
  }
  // Large pages lie at multiples of their size.
  const whole = roundUp(size, largePage) + largePage
  const start = own.map(whole)
  const address = roundUp(start, largePage)
  if (address > start) own.unmap(start, address - start)
  const end = address + roundUp(size, largePage)
  if (start + whole > end) own.unmap(end, start + whole - end)
  return { address, bytes: end - address, buffer: own.view(address, end - address) }
}

export function unmapRegion({ address, bytes }: Region): void {
  openSystem().unmap(address, bytes)
}

/** Code in memory where it can be run; the address of its first byte. */
export function placeCode(code: Uint8Array): Region {
  const region = mapRegion(code.length)
  new Uint8Array(region.buffer).set(code)
  openSystem().makeExecutable(region.address, region.bytes)
  return region
}
