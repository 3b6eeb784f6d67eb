import { aside, type Block, biasSlot, cacheShare, chooseBlocking, rightSide, sumMask, vectorsFor } from './blocks.ts'
import { isRow, isWhole } from './finish.ts'
import {
  type Arg,
  type Node,
  type Nodes,
  NotWritten,
  type ProductSpecial,
  spread,
  type Writing,
  whole,
} from './node.ts'
import { compare, type Label, r12, r13, rax, rbx, rcx, rdi, rdx, rsi, rsp } from './operands.ts'
import { writeTile } from './tile.ts'
import { moved, thread8, type Writer } from './writer.ts'

/** Known numbers lie in the program's memory: so many at most. */
const mostPlaces = 2 ** 14
/** Places are floats meanwhile, which are exact up to here. */
const mostColumns = 2 ** 24

/** What is put in place of a place that is not an extreme's. */
function constantLike(nodes: Nodes, value: number, shape: readonly number[], dtype: 'float32' | 'int32'): Arg {
  return { node: nodes.constant(value, dtype), strides: shape.map(() => 0), offset: 0 }
}

/**
 * Where along one side the largest or smallest number is, the first of equals; 0 where there is one that is no number.
 */
export function placeOfExtreme(
  nodes: Nodes,
  kind: 'max' | 'min',
  seen: Node,
  shape: readonly number[],
  axis: number,
): Node {
  const count = shape[axis]!
  if (seen.dtype !== 'float32') throw new NotWritten('the place of an extreme of whole numbers')
  if (kind === 'max' && axis === shape.length - 1) {
    const found = productOf(seen, shape)
    if (found) return largestColumn(nodes, found.product, found.bias)
  }
  if (count > mostPlaces) throw new NotWritten('the place of an extreme among so many')
  const folded = shape.map((_, i) => i === axis)
  const kept = shape.map((side, i) => (i === axis ? 1 : side))
  const extreme = nodes.fold(kind, whole(seen, shape), shape, folded)
  const is = nodes.map('equal', [whole(seen, shape), spread(extreme, kept, shape)], shape, 'bool')
  const places = nodes.table(
    Array.from({ length: count }, (_, i) => i),
    'int32',
  )
  const place: Arg = { node: places, strides: shape.map((_, i) => (i === axis ? 1 : 0)), offset: 0 }
  const args = [whole(is), place, constantLike(nodes, count, shape, 'int32')]
  const first = nodes.fold('min', whole(nodes.map('select', args, shape, 'int32')), shape, folded)
  const one = constantLike(nodes, count, first.shape, 'int32')
  const none = nodes.map('equalWhole', [whole(first), one], first.shape, 'bool')
  const zero = constantLike(nodes, 0, first.shape, 'int32')
  return nodes.map('select', [whole(none), zero, whole(first)], first.shape, 'int32')
}

/** The product whose numbers, or whose sums with a row, a node has. */
function productOf(seen: Node, shape: readonly number[]): { product: ProductSpecial; bias?: Node } | undefined {
  const own = (node: Node) => (node.kind === 'special' ? node.special.product : undefined)
  const fits = (product: ProductSpecial | undefined): product is ProductSpecial =>
    product !== undefined &&
    product.sides.batch === 1 &&
    product.sides.columns === shape.at(-1) &&
    product.sides.columns <= mostColumns
  const product = own(seen)
  if (fits(product)) return { product }
  if (seen.kind !== 'map' || seen.formula !== 'add') return undefined
  for (const [one, other] of [seen.args, [...seen.args].reverse()] as [Arg, Arg][]) {
    const under = own(one.node)
    if (fits(under) && isWhole(one, seen.shape) && isRow(other, seen.shape)) return { product: under, bias: other.node }
  }
  return undefined
}

/**
 * In which column of a product each row has its largest number, the first of equals. The product is never stored: each
 * tile's numbers are compared, lane by lane, with the best of the row so far, and what is left is a best for each lane.
 */
function largestColumn(nodes: Nodes, { left, right, sides }: ProductSpecial, bias: Node | undefined): Node {
  const { rows: rowCount, inner, columns } = sides
  const apart = (4 * left.strides[1]!) % 4096 === 0
  const { rows, vectors } = chooseBlocking(rowCount, vectorsFor(columns), apart ? 8 : 30)
  const blocks = rightSide(nodes, { ...right, strides: right.strides.slice(1) }, [inner], columns, vectors)
  const lanes = 16 * vectors
  const inputs = [{ node: left.node }, ...blocks.map(({ node }) => ({ node })), ...(bias ? [{ node: bias }] : [])]
  const write = (writing: Writing) => {
    const result = writing.stored(made).place
    writeBest({ ...writing, left, blocks, bias, rowCount, inner, rows, vectors }, result)
  }
  const special = { name: 'largest column', inputs, strided: false, write }
  const made: Node = nodes.special([rowCount, 2 * lanes], 'float32', special)
  const shape = [rowCount, lanes]
  const [best, first] = [0, lanes].map((offset): Arg => ({ node: made, strides: [2 * lanes, 1], offset })) as [Arg, Arg]
  const places = nodes.table([...new Int32Array(Float32Array.from({ length: lanes }, (_, i) => i).buffer)], 'float32')
  const column = nodes.map('add', [first, spread(places, [lanes], shape)], shape, 'float32')
  const largest = nodes.fold('max', best, shape, [false, true])
  const is = nodes.map('equal', [best, spread(largest, [rowCount, 1], shape)], shape, 'bool')
  const args = [whole(is), whole(column), constantLike(nodes, mostColumns, shape, 'float32')]
  const least = nodes.fold('min', whole(nodes.map('select', args, shape, 'float32')), shape, [false, true])
  return nodes.map('toWhole', [whole(least)], [rowCount], 'int32')
}

interface Best extends Writing {
  left: Arg
  blocks: readonly Block[]
  bias: Node | undefined
  rowCount: number
  inner: number
  rows: number
  vectors: number
}

/** Where the number of the first column of the block that is made is kept. */
const columnSlot = 8

/** A row of the result: the largest number of each lane, then the first column of the block where it was. */
function writeBest(best: Best, result: ReturnType<Writing['stored']>['place']): void {
  const { w, stored, left, blocks, bias, rowCount, rows, vectors } = best
  const { a } = w
  const [leftRow, bestRow] = [4 * left.strides[1]!, 128 * vectors]
  const rowTiles = Math.floor(rowCount / rows)
  const restRows = rowCount % rows
  const tiles = writeTiles(best, bestRow, restRows)
  const partial = blocks.find(({ lanes }) => lanes < 16)
  if (partial) w.laneMask(sumMask, partial.lanes)
  const [blocksLeft, rowCounter, rightAt, firstColumn, biasAt, inTurn, turnCounter] = w.slots(1, 2, 3, 4, 5, 6, 7)
  const columnHere = w.slot(columnSlot)
  const biasHere = w.slot(biasSlot)
  const [leftAt, resultAt, ownTiles] = w.slots(10, 11, 12)
  w.range(rcx, rax, rowTiles)
  a.sub(rax, rcx)
  a.mov(ownTiles, rax)
  w.address(rdx, moved(stored(left.node).place, 4 * left.offset))
  a.imul(rax, rcx, rows * leftRow)
  a.add(rdx, rax)
  a.mov(leftAt, rdx)
  w.address(rdx, result)
  a.imul(rax, rcx, rows * bestRow)
  a.add(rdx, rax)
  a.mov(resultAt, rdx)

  /** The row tile at r12 against the blocks of this turn, its best at r13. */
  const rowTile = (block: Block, tile: Label) => {
    for (const [to, from] of [
      [columnHere, firstColumn],
      [biasHere, biasAt],
      [turnCounter, inTurn],
    ] as const) {
      a.mov(rax, from)
      a.mov(to, rax)
    }
    a.mov(rbx, rightAt)
    a.mov(rdx, r13)
    w.repeatCounted(turnCounter, () => {
      a.mov(rsi, r12)
      a.mov(rdi, rbx)
      a.call(tile)
      a.addNumber(rbx, block.step)
      a.addNumber(columnHere, 16 * block.vectors)
      a.addNumber(biasHere, 64 * block.vectors)
    })
  }
  const allRows = (each: (count: number) => void) => {
    const none = a.label()
    a.mov(r12, leftAt)
    a.mov(r13, resultAt)
    a.mov(rax, ownTiles)
    a.mov(rowCounter, rax)
    a.cmpNumber(rowCounter, 0)
    a.jump('e', none)
    w.repeatCounted(rowCounter, () => {
      each(rows)
      a.addNumber(r12, rows * leftRow)
      a.addNumber(r13, rows * bestRow)
    })
    a.bind(none)
    if (restRows === 0) return
    // What is left of the rows is the last thread's, whose own come just before.
    const others = a.label()
    a.cmpNumber(thread8, 8 * (w.threads - 1))
    a.jump('ne', others)
    each(restRows)
    a.bind(others)
  }
  begin(w, allRows, vectors)
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
    const most = Math.max(1, Math.min(block.count, Math.floor(cacheShare / (64 * block.vectors * best.inner))))
    const again = a.here()
    w.least(rax, blocksLeft, most)
    a.mov(inTurn, rax)
    allRows((count) => rowTile(block, tiles.get(keyOf(block, count))!))
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

/** Nothing is larger than what no row has had yet. */
function begin(w: Writer, allRows: (each: (count: number) => void) => void, vectors: number): void {
  const { a } = w
  const [least, zero] = [0, 1]
  a.v1('broadcastss', least, w.float(Number.NEGATIVE_INFINITY))
  a.v('pxord', zero, zero, zero)
  allRows((count) => {
    for (let r = 0; r < count; r++)
      for (let v = 0; v < 2 * vectors; v++)
        a.vstore('movups', { base: r13, displacement: 128 * vectors * r + 64 * v }, v < vectors ? least : zero)
  })
}

function writeTiles({ w, left, blocks, bias, rows, vectors, inner }: Best, bestRow: number, restRows: number) {
  const { a } = w
  const tiles = new Map<string, Label>()
  const [above, columns] = [2, 31]
  aside(w, () => {
    for (const block of blocks)
      for (const count of new Set(restRows > 0 ? [rows, restRows] : [rows])) {
        const places = Array.from({ length: count }, (_, r) => r)
        const take = (register: number, row: number, vector: number) => {
          const partial = block.lanes < 16 && vector === block.vectors - 1
          const masked = partial ? { mask: sumMask, zero: true } : {}
          if (row === 0 && vector === 0) {
            // The tile is a subroutine: the stack has grown by one address.
            a.v1('broadcastss', columns, { base: rsp, displacement: 8 * columnSlot + 8 })
            a.v1('cvtdq2ps', columns, columns)
            if (bias) a.mov(rax, { base: rsp, displacement: 8 * biasSlot + 8 })
          }
          if (bias) a.v('addps', register, register, { base: rax, displacement: 64 * vector }, masked)
          const at = bestRow * row + 64 * vector
          a.vcmp('cmpps', above, register, { base: rdx, displacement: at }, compare.gt, partial ? sumMask : 0)
          a.vstore('movups', { base: rdx, displacement: at }, register, { mask: above })
          a.vstore('movups', { base: rdx, displacement: at + 64 * vectors }, columns, { mask: above })
        }
        tiles.set(
          keyOf(block, count),
          writeTile(w, {
            left: places.map((r) => 4 * left.strides[1]! * r),
            result: places.map((r) => bestRow * r),
            vectors: block.vectors,
            lanes: block.lanes,
            loops: [{ count: inner, leftStep: 4 * left.strides[2]!, rightStep: block.row }],
            accumulate: false,
            take,
          }),
        )
      }
  })
  return tiles
}
