import { type Halo, type Node, NotWritten, rowStrides } from '../graph/node.ts'
import { paddedStrides, type Schedule, type Stage, scheduleGraph } from '../graph/plan.ts'
import { arrays } from '../recording/backend.ts'
import type { Compiled } from '../recording/computer.ts'
import type { Plan } from '../recording/keys.ts'
import { type Dtype, known, type Numbers, type Value } from '../recording/record.ts'
import { sizeOf } from '../recording/shape.ts'
import { isSmall, writeLoopStage } from './loops.ts'
import { lowerings } from './lower.ts'
import { mapRegion, openSystem, placeCode, type Region, unmapRegion } from './memory.ts'
import { at, rax, rdx } from './operands.ts'
import type { Block, Pool } from './pool.ts'
import type { MachineSpecial, Stored } from './special.ts'
import type { Threads } from './threads.ts'
import { memory as memoryRegister, moved, type Place, tableHead, Writer } from './writer.ts'

/** Up to so many numbers are copied into the program's memory, and out of it; more stay where they are. */
const [fewIn, fewOut] = [256, 16]
const constantBytes = 2 ** 18
const manyBytes = 2 ** 18
/** Of one stage; more would not find registers. */
const [mostArrays, mostOutputs] = [8, 6]
const largestMemory = 2 ** 31 - 2 ** 24

const widthOf = (dtype: Dtype) => (dtype === 'bool' ? 1 : 4)
const aligned = (bytes: number) => Math.ceil(bytes / 64) * 64

/** Places in the program's memory, taken and freed as the stages go. */
class Layout {
  private readonly holes: { from: number; to: number }[] = []
  end: number

  constructor(begin: number) {
    this.end = begin
  }

  take(bytes: number): number {
    const size = aligned(bytes)
    let best = -1
    for (const [i, { from, to }] of this.holes.entries())
      if (to - from >= size && (best < 0 || to - from < this.holes[best]!.to - this.holes[best]!.from)) best = i
    if (best < 0) {
      this.end += size
      return this.end - size
    }
    const hole = this.holes[best]!
    const { from } = hole
    hole.from += size
    if (hole.from === hole.to) this.holes.splice(best, 1)
    return from
  }

  give(from: number, bytes: number): void {
    let own = { from, to: from + aligned(bytes) }
    for (let i = this.holes.length - 1; i >= 0; i--) {
      const hole = this.holes[i]!
      if (hole.to !== own.from && hole.from !== own.to) continue
      own = { from: Math.min(own.from, hole.from), to: Math.max(own.to, hole.to) }
      this.holes.splice(i, 1)
    }
    this.holes.push(own)
  }
}

interface Span {
  from: number
  to: number
  external: number
  written: boolean
}

/** Where everything lies. */
class Memory {
  readonly places = new Map<Node, Stored>()
  /** Bytes by node, with what surrounds its numbers. */
  private readonly extents = new Map<Node, { place: Place; bytes: number }>()
  bytes: number
  externals = 0

  constructor({ stages, leaves, roots, halos }: Schedule) {
    const inputs = new Layout(constantBytes)
    const own = (node: Node, offset: number, halo?: Halo) => this.put(node, { offset }, halo)
    const outside = (node: Node) => this.put(node, { external: this.externals++, offset: 0 })
    const bytesOf = (node: Node) => sizeOf(node.shape) * widthOf(node.dtype)
    const given = new Set(roots)
    for (const node of [...leaves, ...roots]) {
      if (!node || this.places.has(node)) continue
      if (sizeOf(node.shape) > (given.has(node) ? fewOut : fewIn)) outside(node)
      else own(node, inputs.take(bytesOf(node)))
    }
    // Zeros around images are there once and for all, so these share their memory with nothing.
    for (const [node, halo] of halos) own(node, inputs.take(paddedBytes(node, halo)), halo)
    const scratch = new Layout(inputs.end)
    const lastUse = new Map<Node, number>()
    for (const [i, { reads }] of stages.entries()) for (const node of reads) lastUse.set(node, i)
    for (const [i, stage] of stages.entries()) {
      for (const node of stage.nodes) if (!this.places.has(node)) own(node, scratch.take(bytesOf(node)))
      for (const node of [...new Set([...stage.reads, ...stage.nodes])]) {
        const extent = this.extents.get(node)
        const shared = extent && extent.place.external === undefined && extent.place.offset >= inputs.end
        if (shared && (lastUse.get(node) ?? i) === i) scratch.give(extent.place.offset, extent.bytes)
      }
    }
    this.bytes = scratch.end
    if (this.bytes > largestMemory) throw new NotWritten('graphs of more than 2 GB')
  }

  private put(node: Node, place: Place, halo?: Halo): void {
    const padded = halo && paddedStrides(node.shape, halo)
    const strides = padded ? padded.strides : rowStrides(node.shape)
    const bytes = halo ? paddedBytes(node, halo) : sizeOf(node.shape) * widthOf(node.dtype)
    this.extents.set(node, { place, bytes })
    this.places.set(node, { place: moved(place, padded ? 4 * padded.offset : 0), strides, dtype: node.dtype })
  }

  span(node: Node, written: boolean): Span | undefined {
    const extent = this.extents.get(node)
    if (!extent) return undefined
    const { place, bytes } = extent
    return { from: place.offset, to: place.offset + bytes, external: place.external ?? -1, written }
  }
}

const paddedBytes = ({ shape }: Node, halo: Halo) => 4 * paddedStrides(shape, halo).size

const overlap = (a: Span, b: Span) =>
  a.external === b.external && a.from < b.to && b.from < a.to && (a.written || b.written)

/** Knows after which stages threads have to wait for each other. */
class Order {
  private since: { spans: Span[]; alone: boolean }[] = []

  /** Whether a stage has to wait for those since the last barrier. */
  mustWait(spans: Span[], alone: boolean): boolean {
    const must = this.since.some(
      (earlier) => !(alone && earlier.alone) && earlier.spans.some((a) => spans.some((b) => overlap(a, b))),
    )
    if (must) this.since = []
    this.since.push({ spans, alone })
    return must
  }
}

function writeStage(w: Writer, stage: Stage, memory: Memory, finished: Schedule['finished']): void {
  const stored = (node: Node): Stored => {
    const found = memory.places.get(node)
    if (found) return found
    if (node.kind === 'table')
      return { place: { offset: w.words(node.words) }, strides: rowStrides(node.shape), dtype: node.dtype }
    throw new Error(`a ${node.kind} is read that is not in memory`)
  }
  if (stage.kind === 'loops') {
    writeLoopStage(w, stage.loops, stored)
    return
  }
  const { instead, node } = stage
  const own = (each: Node) => finished.get(each) ?? each
  const special = node.special as MachineSpecial
  special.write({ w, stored: (each) => stored(instead.get(own(each)) ?? own(each)) })
}

/** Where a profiled program notes when each stage began: the processor's clock. */
const stampPlace = constantBytes / 2

function stamp(w: Writer, i: number): void {
  const { a } = w
  const others = a.label()
  w.alone(others)
  a.rdtsc()
  a.shl(rdx, 32)
  a.add(rax, rdx)
  a.mov(at(memoryRegister, stampPlace + 8 * i), rax)
  a.bind(others)
}

function nameOf(stage: Stage): string {
  const shaped = (node: Node) => `[${node.shape}]`
  if (stage.kind === 'special') {
    const { special } = stage.node
    return `${special.name} ${shaped(stage.node)} of ${special.inputs.map(({ node }) => shaped(node)).join(' ')}`
  }
  const names = stage.nodes.map((node) => `${node.kind === 'map' ? node.formula : node.kind}${shaped(node)}`)
  return `${names.join(' ')} over [${stage.loops.sides}]`
}

interface Copied {
  /** Leaf or root. */
  i: number
  numbers: Numbers
}

/** A graph in machine code: its code, its memory, and what each run is handed. */
export class Program implements Compiled {
  readonly kind = 'program'
  private readonly code: Region
  private readonly memory: Region
  private readonly entry: number
  private readonly table: BigInt64Array
  private readonly tableAddress: number
  private readonly copiedIn: Copied[] = []
  private readonly copiedOut: Copied[] = []
  private readonly givenIn: { i: number; slot: number }[] = []
  private readonly givenOut: { i: number; slot: number; bytes: number }[] = []
  private readonly threads: Threads
  private readonly pool: Pool
  /** Bytes of memory and code. */
  readonly bytes: number
  readonly stages: number
  readonly barriers: number
  /** What the stages do, by the order in which they do it. */
  readonly names: string[] = []

  constructor(plan: Plan, roots: readonly Value[], threads: Threads, pool: Pool, profiled = false) {
    this.threads = threads
    this.pool = pool
    const schedule = scheduleGraph(plan, roots, { lowerings, threads: threads.count, mostArrays, mostOutputs })
    const memory = new Memory(schedule)
    const w = new Writer(threads.count)
    const order = new Order()
    let barriers = 0
    for (const stage of schedule.stages) {
      const spans = [
        ...stage.reads.map((node) => memory.span(node, false)),
        ...stage.nodes.map((node) => memory.span(node, true)),
      ]
      const alone = stage.kind === 'loops' && isSmall(stage.loops)
      if (
        order.mustWait(
          spans.filter((span) => span !== undefined),
          alone,
        )
      ) {
        w.sync()
        barriers++
      }
      if (profiled) stamp(w, this.names.length)
      this.names.push(nameOf(stage))
      writeStage(w, stage, memory, schedule.finished)
    }
    if (profiled) stamp(w, this.names.length)
    this.barriers = barriers
    this.stages = schedule.stages.length
    const code = w.end()
    if (4 * w.constants.length > constantBytes) throw new NotWritten('so many known numbers')
    this.code = placeCode(code)
    this.entry = this.code.address + w.entry
    const tableBytes = 8 * (tableHead + memory.externals)
    this.memory = mapRegion(aligned(memory.bytes) + tableBytes)
    this.bytes = this.memory.bytes + this.code.bytes
    new Int32Array(this.memory.buffer, 0, w.constants.length).set(w.constants)
    this.tableAddress = this.memory.address + aligned(memory.bytes)
    this.table = new BigInt64Array(this.memory.buffer, aligned(memory.bytes), tableHead + memory.externals)
    this.table[0] = BigInt(threads.block.address)
    this.table[1] = BigInt(this.memory.address)
    this.wire(schedule, memory)
  }

  private wire({ leaves, roots }: Schedule, memory: Memory): void {
    const numbersAt = (node: Node, { offset }: Place): Numbers =>
      new arrays[node.dtype](this.memory.buffer, offset, sizeOf(node.shape))
    for (const [i, node] of leaves.entries()) {
      const { place } = memory.places.get(node!)!
      if (place.external === undefined) this.copiedIn.push({ i, numbers: numbersAt(node!, place) })
      else this.givenIn.push({ i, slot: tableHead + place.external })
    }
    for (const [i, node] of roots.entries()) {
      const { place } = memory.places.get(node)!
      const bytes = sizeOf(node.shape) * widthOf(node.dtype)
      if (place.external === undefined) this.copiedOut.push({ i, numbers: numbersAt(node, place) })
      else this.givenOut.push({ i, slot: tableHead + place.external, bytes })
    }
  }

  /** Computes the roots' numbers. */
  run(leaves: readonly Value[], roots: readonly Value[]): void {
    const { table, pool } = this
    for (const leaf of leaves) known(leaf)
    for (const { i, numbers } of this.copiedIn) numbers.set(leaves[i]!.data!)
    for (const { i, slot } of this.givenIn) table[slot] = BigInt(this.addressOf(leaves[i]!))
    for (const { i, slot, bytes } of this.givenOut) {
      const root = roots[i]!
      const block = pool.take(bytes)
      root.block = block
      table[slot] = BigInt(block.address)
    }
    this.threads.execute(this.entry, this.tableAddress)
    for (const { i, numbers } of this.copiedOut) roots[i]!.data = numbers.slice()
    for (const { i } of this.givenOut) {
      const root = roots[i]!
      const { buffer, offset } = root.block as Block
      root.data = new arrays[root.dtype](buffer, offset, sizeOf(root.shape))
    }
  }

  /**
   * Where a leaf's numbers lie. Many that JavaScript has are read there the first time, since most are a step's own and
   * not needed again; else they are copied, once, to where they lie better for the processor.
   */
  private addressOf(leaf: Value): number {
    if (leaf.block) return (leaf.block as Block).address
    const numbers = leaf.data!
    if (numbers.byteLength >= manyBytes && !leaf.lent) {
      leaf.lent = true
      return openSystem().addressOf(numbers)
    }
    const block = this.copyOf(numbers)
    leaf.block = block
    return block.address
  }

  private copyOf(numbers: Numbers): Block {
    const block = this.pool.take(numbers.byteLength)
    ;new (numbers.constructor as Float32ArrayConstructor)(block.buffer, block.offset, numbers.length).set(numbers)
    return block
  }

  /** Of a profiled program that has run: when each stage began, and when the last ended, by the processor's clock. */
  get stamps(): BigInt64Array {
    return new BigInt64Array(this.memory.buffer, stampPlace, this.names.length + 1)
  }

  close(): void {
    this.threads.settle()
    unmapRegion(this.memory)
    unmapRegion(this.code)
  }
}
