import { type Arg, type Finish, type Node, type Nodes, rowStrides } from '../graph/node.ts'
import { sizeOf } from '../recording/shape.ts'
import { at, compare, r11, rax, rbx, rcx, rdx, rsp } from './operands.ts'
import { fits, tileCycles } from './tile.ts'
import type { Writer } from './writer.ts'

/** How many rows and vectors a tile of a product has. */
export interface Blocking {
  rows: number
  vectors: number
}

export const vectorsFor = (columns: number) => Math.ceil(columns / 16)

/** Bytes of the left side that stay in a core's second cache beside what they are multiplied with. */
export const cacheShare = 768 * 1024

/** Cycles for one step of the sum of all tiles. */
export function cyclesFor(rowCount: number, columnVectors: number, { rows, vectors }: Blocking): number {
  // Results are loaded and stored besides.
  const cost = (r: number, v: number) => tileCycles(r, v) + 0.15 * r * v
  let total = 0
  for (const [v, blocks] of [
    [vectors, Math.floor(columnVectors / vectors)],
    [columnVectors % vectors, 1],
  ] as const) {
    if (v === 0) continue
    total += blocks * (Math.floor(rowCount / rows) * cost(rows, v) + (rowCount % rows ? cost(rowCount % rows, v) : 0))
  }
  return total
}

export function chooseBlocking(rowCount: number, columnVectors: number, mostRows = 30): Blocking {
  let best: Blocking = { rows: 1, vectors: 1 }
  let least = Number.POSITIVE_INFINITY
  for (let vectors = 1; vectors <= Math.min(4, columnVectors); vectors++)
    for (let rows = 1; rows <= Math.min(mostRows, rowCount); rows++) {
      if (!fits(rows, vectors)) continue
      // Of equals the larger tile, which reads its operands less often.
      const cycles = cyclesFor(rowCount, columnVectors, { rows, vectors }) - 1e-6 * rows * vectors
      if (cycles >= least) continue
      least = cycles
      best = { rows, vectors }
    }
  return best
}

/** Columns that tiles of one kind make, one block after the other. */
export interface Columns {
  vectors: number
  /** Lanes of the last vector. */
  lanes: number
  count: number
  /** Of all columns, the first. */
  first: number
}

/** Columns in blocks of some vectors, then what is left. */
export function cutColumns(columns: number, vectors: number): Columns[] {
  const width = 16 * vectors
  const count = Math.floor(columns / width)
  const rest = columns - count * width
  const cut: Columns[] = []
  if (count > 0) cut.push({ vectors, lanes: 16, count, first: 0 })
  const lanes = rest % 16 === 0 ? 16 : rest % 16
  if (rest > 0) cut.push({ vectors: vectorsFor(rest), lanes, count: 1, first: count * width })
  return cut
}

/** Blocks of the right side of a product, [inner, columns], as tiles read them. */
export interface Block extends Columns {
  node: Node
  /** Bytes from the node's begin to the first block, from one block to the next and from one row to the next. */
  offset: number
  step: number
  row: number
}

/** More is put in the order in which it is read, block by block: its rows would lie too far apart for the caches. */
const largestAsItLies = 2 ** 16

/** Reads numbers [...sides, columns] by their strides in blocks of `vectors` vectors. */
export function rightSide(nodes: Nodes, arg: Arg, sides: readonly number[], columns: number, vectors: number): Block[] {
  const inner = sizeOf(sides)
  const shape = [...sides, columns]
  const plain = rowStrides(shape)
  const asItLies = arg.offset === 0 && plain.every((stride, i) => stride === arg.strides[i] || shape[i] === 1)
  const cut = cutColumns(columns, vectors)
  if ((cut.length === 1 && cut[0]!.count === 1) || (asItLies && 4 * inner * columns <= largestAsItLies)) {
    const node = asItLies ? arg.node : nodes.map('copy', [arg], shape, 'float32')
    return cut.map((own) => ({ ...own, node, row: 4 * columns, step: 64 * vectors, offset: 4 * own.first }))
  }
  const last = arg.strides.at(-1)!
  return cut.map((own) => {
    const width = own.count > 1 ? 16 * vectors : columns - own.first
    const wide = own.count === 1 && own.lanes === 16 ? 16 * own.vectors : width
    const strides = [last * wide, ...arg.strides.slice(0, -1), last]
    const piece: Arg = { node: arg.node, offset: arg.offset + own.first * last, strides }
    const node = nodes.map('copy', [piece], [own.count, ...sides, wide], 'float32')
    return { ...own, node, row: 4 * wide, step: 4 * wide * inner, offset: 0 }
  })
}

export const sumMask = 1
/** Where the place of the bias of the block that is made is kept. */
export const biasSlot = 9

/** `whereAt` says for each row of a tile how far from r11 what decides on it lies. */
export function finisher(
  w: Writer,
  { bias, relu, where }: Finish,
  { lanes, vectors }: Columns,
  whereAt: readonly number[],
) {
  if (!bias && !relu && !where) return undefined
  return (register: number, row: number, vector: number) => {
    const { a } = w
    const masked = lanes < 16 && vector === vectors - 1 ? { mask: sumMask, zero: true } : {}
    if (bias) {
      // The tile is a subroutine: the stack has grown by one address.
      a.mov(rax, at(rsp, 8 * biasSlot + 8))
      a.v('addps', register, register, at(rax, 64 * vector), masked)
    }
    const [one, zero] = [31, 30]
    if (relu) {
      a.v('pxord', zero, zero, zero)
      a.v('maxps', register, zero, register)
    }
    if (!where) return
    // A factor: 1 or 0, or not a number where this is not.
    a.v1('movups', one, at(r11, whereAt[row]! + 64 * vector), masked)
    a.v('pxord', zero, zero, zero)
    a.vcmp('cmpps', 2, one, zero, compare.gt)
    a.v('maxps', one, zero, one)
    a.v1('broadcastss', one, w.float(1), { mask: 2 })
    a.v('mulps', register, register, one)
  }
}

/** Writes code around which execution passes. */
export function aside(w: Writer, write: () => void): void {
  const over = w.a.label()
  w.a.jmp(over)
  write()
  w.a.bind(over)
}

/** Sets numbers from rbx on to zero: all of a thread's own part; or of what threads share its share, and waits. */
export function clear(w: Writer, size: number, own: boolean): void {
  const { a } = w
  const full = Math.floor(size / 16)
  a.v('pxord', 0, 0, 0)
  a.mov(rdx, rbx)
  if (own || w.threads === 1) a.movNumber(rcx, full)
  else {
    w.range(rcx, rax, full)
    a.mov(rdx, rcx)
    a.shl(rdx, 6)
    a.add(rdx, rbx)
    a.sub(rax, rcx)
    a.mov(rcx, rax)
  }
  const none = a.label()
  a.cmpNumber(rcx, 0)
  a.jump('e', none)
  w.repeatCounted(rcx, () => {
    a.vstore('movups', at(rdx), 0)
    a.addNumber(rdx, 64)
  })
  a.bind(none)
  if (size % 16 !== 0) {
    w.laneMask(2, size % 16)
    a.vstore('movups', at(rbx, 64 * full), 0, { mask: 2 })
  }
  if (!own) w.sync()
}
