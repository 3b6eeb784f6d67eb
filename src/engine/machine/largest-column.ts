import type { Arg, Node } from '../graph/node.ts'
import { aside, type Block, biasSlot, cacheShare, sumMask } from './blocks.ts'
import { at, compare, type Label, type Memory, r12, r13, rax, rbx, rcx, rdi, rdx, rsi, rsp } from './operands.ts'
import type { Writing } from './special.ts'
import { writeTile } from './tile.ts'
import { memory, moved, thread8, type Writer } from './writer.ts'

/** Of each row of a product: the largest number in each lane, then in which column it was. */
export const bestBytes = 128

/** What is compared, and how the tiles lie. */
interface Best extends Writing {
  left: Arg
  blocks: readonly Block[]
  bias: Node | undefined
  rowCount: number
  inner: number
  /** Of a tile. */
  rows: number
}

/** Where the first column of the block that is made is kept, and the turn's first. */
const columnSlot = 8
/** Bytes of left rows that pass by one block after the other, from the second cache. */
const panelBytes = 256 * 1024

/** Writes the code that leaves in `made` a best for each lane of each row of a product. */
export function writeBest(best: Best, made: Node): void {
  const { w, stored, left, blocks, bias, rowCount, inner, rows } = best
  const { a } = w
  const leftRow = 4 * left.strides[1]!
  const rowTiles = Math.floor(rowCount / rows)
  const restRows = rowCount % rows
  const tiles = writeTiles(best, restRows)
  const partial = blocks.find(({ lanes }) => lanes < 16)
  if (partial) w.laneMask(sumMask, partial.lanes)
  const [blocksLeft, rowCounter, rightAt, firstColumn, biasAt, inTurn, turnCounter] = w.slots(1, 2, 3, 4, 5, 6, 7)
  const [columnHere, biasHere] = w.slots(columnSlot, biasSlot)
  const [leftAt, resultAt, ownTiles, tilesLeft, inPanel] = w.slots(10, 11, 12, 13, 14)
  const copy = (to: Memory, from: Memory) => {
    a.mov(rax, from)
    a.mov(to, rax)
  }
  w.range(rcx, rax, rowTiles)
  a.sub(rax, rcx)
  a.mov(ownTiles, rax)
  w.address(rdx, moved(stored(left.node).place, 4 * left.offset))
  a.imul(rax, rcx, rows * leftRow)
  a.add(rdx, rax)
  a.mov(leftAt, rdx)
  w.address(rdx, stored(made).place)
  a.imul(rax, rcx, rows * bestBytes)
  a.add(rdx, rax)
  a.mov(resultAt, rdx)

  /** Tiles of so many rows from r12 on, their best from r13 on, against the blocks of this turn; moves both on. */
  const panel = (block: Block, count: number) => {
    copy(columnHere, firstColumn)
    copy(biasHere, biasAt)
    copy(turnCounter, inTurn)
    a.mov(rbx, rightAt)
    w.repeatCounted(turnCounter, () => {
      a.mov(rcx, r12)
      a.mov(rdx, r13)
      copy(rowCounter, inPanel)
      w.repeatCounted(rowCounter, () => {
        a.mov(rsi, rcx)
        a.mov(rdi, rbx)
        a.call(tiles.get(keyOf(block, count))!)
        a.addNumber(rcx, count * leftRow)
        a.addNumber(rdx, count * bestBytes)
      })
      a.addNumber(rbx, block.step)
      a.addNumber(columnHere, 16 * block.vectors)
      a.addNumber(biasHere, 64 * block.vectors)
    })
    a.mov(r12, rcx)
    a.mov(r13, rdx)
  }
  const mostTiles = Math.max(1, Math.floor(panelBytes / (4 * inner * rows)))
  const allRows = (block: Block) => {
    const [none, others] = [a.label(), a.label()]
    a.mov(r12, leftAt)
    a.mov(r13, resultAt)
    copy(tilesLeft, ownTiles)
    a.cmpNumber(tilesLeft, 0)
    a.jump('e', none)
    const again = a.here()
    w.least(rax, tilesLeft, mostTiles)
    a.mov(inPanel, rax)
    panel(block, rows)
    a.mov(rax, tilesLeft)
    a.sub(rax, inPanel)
    a.mov(tilesLeft, rax)
    a.jump('g', again)
    a.bind(none)
    if (restRows === 0) return
    // What is left of the rows is the last thread's, whose own come just before.
    a.cmpNumber(thread8, 8 * (w.threads - 1))
    a.jump('ne', others)
    a.movNumberTo(inPanel, 1)
    panel(block, restRows)
    a.bind(others)
  }
  begin(w, { ownTiles, resultAt, rowCounter }, rows, restRows)
  for (const block of blocks) {
    a.movNumberTo(blocksLeft, block.count)
    a.movNumberTo(firstColumn, block.first)
    w.address(rax, moved(stored(block.node).place, block.offset))
    a.mov(rightAt, rax)
    if (bias) {
      w.address(rax, moved(stored(bias).place, 4 * block.first))
      a.mov(biasAt, rax)
    }
    // So many blocks at once as stay in a core's second cache while all rows pass by.
    const most = Math.max(1, Math.min(block.count, Math.floor(cacheShare / (64 * block.vectors * inner))))
    const again = a.here()
    w.least(rax, blocksLeft, most)
    a.mov(inTurn, rax)
    allRows(block)
    for (const [place, step] of [
      [rightAt, block.step],
      [firstColumn, 16 * block.vectors],
      [biasAt, 64 * block.vectors],
    ] as const) {
      a.imul(rax, inTurn, step)
      a.add(rax, place)
      a.mov(place, rax)
    }
    a.mov(rax, blocksLeft)
    a.sub(rax, inTurn)
    a.mov(blocksLeft, rax)
    a.jump('g', again)
  }
}

const keyOf = (block: Block, count: number) => `${block.first} ${count}`

interface Counters {
  ownTiles: Memory
  resultAt: Memory
  rowCounter: Memory
}

/** All numbers are larger than the best that a row has had before the first. */
function begin(w: Writer, { ownTiles, resultAt, rowCounter }: Counters, rows: number, restRows: number): void {
  const { a } = w
  const [least, zero] = [0, 1]
  a.v1('broadcastss', least, w.float(Number.NEGATIVE_INFINITY))
  a.v('pxord', zero, zero, zero)
  const fill = (count: number) => {
    for (let r = 0; r < count; r++) {
      a.vstore('movups', at(r13, bestBytes * r), least)
      a.vstore('movups', at(r13, bestBytes * r + 64), zero)
    }
    a.addNumber(r13, bestBytes * count)
  }
  const [none, others] = [a.label(), a.label()]
  a.mov(r13, resultAt)
  a.mov(rax, ownTiles)
  a.mov(rowCounter, rax)
  a.cmpNumber(rowCounter, 0)
  a.jump('e', none)
  w.repeatCounted(rowCounter, () => fill(rows))
  a.bind(none)
  if (restRows === 0) return
  a.cmpNumber(thread8, 8 * (w.threads - 1))
  a.jump('ne', others)
  fill(restRows)
  a.bind(others)
}

/** The tiles by block and number of rows; the result of a row is at rdx. */
function writeTiles({ w, left, blocks, bias, rows, inner }: Best, restRows: number): Map<string, Label> {
  const tiles = new Map<string, Label>()
  const loops = (block: Block) => [{ count: inner, leftStep: 4 * left.strides[2]!, rightStep: block.row }]
  aside(w, () => {
    for (const block of blocks)
      for (const count of new Set(restRows > 0 ? [rows, restRows] : [rows])) {
        const places = Array.from({ length: count }, (_, r) => r)
        const tile = writeTile(w, {
          left: places.map((r) => 4 * left.strides[1]! * r),
          result: places.map((r) => bestBytes * r),
          vectors: block.vectors,
          lanes: block.lanes,
          loops: loops(block),
          accumulate: false,
          take: compareRow(w, block, bias !== undefined),
        })
        tiles.set(keyOf(block, count), tile)
      }
  })
  return tiles
}

/** Takes a tile's sums, the vectors of a row one after the other: the best of them, lane by lane, and of those before. */
function compareRow(w: Writer, { vectors, lanes }: Block, hasBias: boolean) {
  const { a } = w
  const better = 2
  const column = (vector: number) => 31 - vector
  return (register: number, row: number, vector: number) => {
    if (row === 0 && vector === 0) {
      // The tile is a subroutine: the stack has grown by one address.
      if (hasBias) a.mov(rax, at(rsp, 8 * biasSlot + 8))
      a.v1('broadcastss', column(0), at(rsp, 8 * columnSlot + 8))
      a.v1('cvtdq2ps', column(0), column(0))
      for (let v = vectors - 1; v >= 0; v--) {
        const numbers = Float32Array.from({ length: 16 }, (_, lane) => 16 * v + lane)
        const place = w.words([...new Int32Array(numbers.buffer)])
        a.v('addps', column(v), column(0), at(memory, place))
      }
    }
    const among = lanes < 16 && vector === vectors - 1 ? sumMask : 0
    const masked = among ? { mask: among, zero: true } : {}
    if (hasBias) a.v('addps', register, register, at(rax, 64 * vector), masked)
    const [first, where] = [register - vector, vectors > 1 ? register - vector + 1 : column(0)]
    if (vector > 0) {
      a.vcmp('cmpps', better, register, first, compare.gt, among)
      a.v1('movups', first, register, { mask: better })
      if (vector === 1) a.v('blendmps', where, column(0), column(1), { mask: better })
      else a.v1('movups', where, column(vector), { mask: better })
    }
    if (vector < vectors - 1) return
    const onlyThese = vectors === 1 ? among : 0
    a.vcmp('cmpps', better, first, at(rdx, bestBytes * row), compare.gt, onlyThese)
    a.vstore('movups', at(rdx, bestBytes * row), first, { mask: better })
    a.vstore('movups', at(rdx, bestBytes * row + 64), where, { mask: better })
  }
}
