import { Assembler } from './assembler.ts'
import { at, type Label, type Memory, r12, r13, r14, r15, rax, rbp, rbx, rdi, rdx, rsi, rsp } from './operands.ts'
import { writeBarrier } from './threads.ts'

/**
 * Where numbers lie: in the program's own memory, `offset` bytes from its begin, or `offset` bytes into what is handed
 * to each run as number `external`.
 */
export interface Place {
  external?: number
  offset: number
}

export const moved = (place: Place, bytes: number): Place => ({ ...place, offset: place.offset + bytes })

/** The table that a program is called with: the threads' block, its own memory, then what is handed to each run. */
export const tableHead = 2

const frame = 256

/** Kept throughout a program; the others are free for each stage. */
export const [memory, table, thread8] = [rbp, r15, r14]

/**
 * Writes a program: f(table, thread), run by all threads at once. Stages follow each other; where a stage needs what
 * other threads make, there is a barrier before it.
 */
export class Writer {
  readonly a = new Assembler()
  readonly threads: number
  /** Numbers and indices that the code reads, at the begin of the program's own memory. */
  readonly constants: number[] = []
  private readonly known = new Map<string, number>()
  private readonly barrier: Label
  readonly entry: number

  constructor(threads: number) {
    this.threads = threads
    this.barrier = writeBarrier(this.a, threads)
    this.entry = this.a.length
    const { a } = this
    for (const register of [rbx, rbp, r12, r13, r14, r15]) a.push(register)
    a.subNumber(rsp, frame)
    a.mov(table, rdi)
    a.mov(thread8, rsi)
    a.shl(thread8, 3)
    a.mov(memory, at(table, 8))
  }

  /** Ends the program; all threads have finished when it returns. */
  end(): Uint8Array {
    const { a } = this
    this.sync()
    a.addNumber(rsp, frame)
    for (const register of [r15, r14, r13, r12, rbp, rbx]) a.pop(register)
    a.vzeroupper()
    a.ret()
    return a.finish()
  }

  /** All threads wait for each other. */
  sync(): void {
    if (this.threads === 1) return
    this.a.mov(rdx, at(table, 0))
    this.a.call(this.barrier)
  }

  /** A number of this stage on the stack. */
  slot(i: number): Memory {
    if (i < 0 || 8 * i >= frame) throw new Error('a stage has too many counters')
    return at(rsp, 8 * i)
  }

  slots(...places: number[]): Memory[] & [Memory, Memory, Memory, Memory, Memory, Memory, Memory, Memory] {
    return places.map((i) => this.slot(i)) as never
  }

  /** The lesser of what is on the stack and a number. */
  least(to: number, of: Memory, most: number): void {
    const few = this.a.label()
    this.a.mov(to, of)
    this.a.cmpNumber(to, most)
    this.a.jump('le', few)
    this.a.movNumber(to, most)
    this.a.bind(few)
  }

  /** Words of 32 bits that lie somewhere in the program's memory, at a multiple of their size in all; the place. */
  words(values: readonly number[]): number {
    const key = values.join(' ')
    let place = this.known.get(key)
    if (place === undefined) {
      const unit = values.length >= 16 ? 16 : values.length > 1 ? 2 : 1
      while (this.constants.length % unit !== 0) this.constants.push(0)
      place = 4 * this.constants.length
      this.constants.push(...values)
      this.known.set(key, place)
    }
    return place
  }

  /** A float32 as an operand that repeats it in all lanes. */
  float(value: number): Memory {
    return at(memory, this.words([new Int32Array(Float32Array.of(value).buffer)[0]!]))
  }

  integer(value: number): Memory {
    return at(memory, this.words([value | 0]))
  }

  /** The address of a place. */
  address(to: number, { external, offset }: Place): void {
    if (external === undefined) this.a.lea(to, at(memory, offset))
    else {
      this.a.mov(to, at(table, 8 * (tableHead + external)))
      this.a.addNumber(to, offset)
    }
  }

  /** This thread's part of `count` things, in pieces of `unit`: from `first` (a register) to before `end`. */
  range(first: number, end: number, count: number, unit = 1): void {
    const pieces = Math.ceil(count / unit)
    const bounds: number[] = []
    for (let t = 0; t <= this.threads; t++)
      bounds.push(Math.min(count, Math.floor((pieces * t) / this.threads) * unit), 0)
    const place = this.words(bounds)
    this.a.mov(first, at(memory, place, thread8))
    this.a.mov(end, at(memory, place + 8, thread8))
  }

  /** A number for each thread, as an operand. */
  byThread(number: (thread: number) => number): Memory {
    const values = Array.from({ length: this.threads }, (_, thread) => [number(thread), 0]).flat()
    return at(memory, this.words(values), thread8)
  }

  /** Only thread 0 goes on; the others jump. */
  alone(others: Label): void {
    if (this.threads === 1) return
    this.a.cmpNumber(thread8, 0)
    this.a.jump('ne', others)
  }

  /** Repeats the body `count` times, counting down in a register or on the stack. */
  repeat(counter: number | Memory, count: number, body: () => void): void {
    if (count <= 0) return
    if (count === 1) {
      body()
      return
    }
    if (typeof counter === 'number') this.a.movNumber(counter, count)
    else this.a.movNumberTo(counter, count)
    this.repeatCounted(counter, body)
  }

  /** Repeats the body as often as the counter says, at least once. */
  repeatCounted(counter: number | Memory, body: () => void): void {
    const again = this.a.here()
    body()
    this.a.dec(counter)
    this.a.jump('ne', again)
  }

  /** The mask of the lower lanes. */
  laneMask(mask: number, lanes: number): void {
    this.a.movNumber(rax, 2 ** lanes - 1)
    this.a.kmov(mask, rax)
  }
}
