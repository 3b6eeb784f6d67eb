import type { Arg, Finish, Node, Nodes, ProductSides, SpecialInput } from '../graph/node.ts'
import {
  aside,
  type Block,
  biasSlot,
  chooseBlocking,
  cutColumns,
  finisher,
  rightSide,
  sumMask,
  vectorsFor,
} from './blocks.ts'
import { type Label, r12, r13, rax, rbx, rcx, rdi, rdx, rsi } from './operands.ts'
import type { Writing } from './special.ts'
import { writeTile } from './tile.ts'
import { moved, thread8 } from './writer.ts'

/** Numbers of a product's inner side that are summed at once, so that the left rows stay in the cache. */
const innerAtOnce = 1024

/** Results whose rows are this far apart are made a while side by side: each row is another page of memory. */
const farApart = 4096
/** Bytes of the right side that are read again for the next rows meanwhile. */
const rightShare = 512 * 1024

/** Of each product in a batch the right side is another one, so it is read as it lies, or copied. */
function rightOfEach(nodes: Nodes, b: Arg, { batch, inner, columns }: ProductSides, vectors: number) {
  const asItLies = (b.strides[2] === 1 || columns === 1) && b.strides[1] === columns
  const node = asItLies ? b.node : nodes.map('copy', [b], [batch, inner, columns], 'float32')
  const common = { node, row: 4 * columns, step: 64 * vectors }
  const begin = asItLies ? 4 * b.offset : 0
  const blocks = cutColumns(columns, vectors).map(
    (own): Block => ({ ...common, ...own, offset: begin + 4 * own.first }),
  )
  return { blocks, step: asItLies ? 4 * b.strides[0]! : 4 * inner * columns }
}

/** Products a [batch, rows, inner] b [batch, inner, columns], each read by its strides: [batch, rows, columns]. */
export function multiply(nodes: Nodes, left: Arg, right: Arg, sides: ProductSides): Node {
  const { batch, rows: rowCount, inner, columns } = sides
  // Left rows a multiple of 4096 bytes apart push each other out of the first cache.
  const apart = (4 * left.strides[1]!) % 4096 === 0
  const { rows, vectors } = chooseBlocking(rowCount, vectorsFor(columns), apart ? 8 : 30)
  const one = batch === 1 || right.strides[0] === 0
  const { blocks, step } = one
    ? { blocks: rightSide(nodes, { ...right, strides: right.strides.slice(1) }, [inner], columns, vectors), step: 0 }
    : rightOfEach(nodes, right, sides, vectors)
  const finish: Finish = {}
  const write = ({ w, stored }: Writing) => {
    const { a } = w
    const [leftBatch, leftRow, leftInner] = left.strides.map((stride) => 4 * stride) as [number, number, number]
    const resultRow = 4 * columns
    const pieces: number[] = []
    for (let k = 0; k < inner; k += innerAtOnce) pieces.push(Math.min(innerAtOnce, inner - k))
    const rowTiles = Math.floor(rowCount / rows)
    const restRows = rowCount % rows
    const tiles = new Map<string, Label>()
    const keyOf = (block: Block, count: number, k: number) =>
      `${block.first} ${count} ${pieces[k]} ${k > 0} ${k === pieces.length - 1}`
    aside(w, () => {
      for (const block of blocks)
        for (const count of new Set([rowTiles > 0 ? rows : restRows, restRows > 0 ? restRows : rows]))
          for (const [k, length] of pieces.entries()) {
            const key = keyOf(block, count, k)
            if (tiles.has(key)) continue
            const finished = k === pieces.length - 1 ? finisher(w, finish, block, []) : undefined
            const places = Array.from({ length: count }, (_, r) => r)
            const own = {
              left: places.map((r) => r * leftRow),
              result: places.map((r) => r * resultRow),
              vectors: block.vectors,
              lanes: block.lanes,
              loops: [{ count: length, leftStep: leftInner, rightStep: block.row }],
              accumulate: k > 0,
            }
            tiles.set(key, writeTile(w, finished ? { ...own, finish: finished } : own))
          }
    })
    const partial = blocks.find(({ lanes }) => lanes < 16)
    if (partial) w.laneMask(sumMask, partial.lanes)
    const shareBatch = batch >= w.threads
    const columnBlocks = blocks.reduce((sum, { count }) => sum + count, 0)
    const shareColumns = !shareBatch && (columnBlocks >= 4 * w.threads || rowTiles < w.threads)
    const shareRows = !shareBatch && !shareColumns && w.threads > 1
    const [batchCounter, blockCounter, rowCounter, rightAt, columnAt, resultAt, batchAt] = w.slots(2, 3, 4, 5, 6, 7, 8)
    const [inTurn, turnCounter] = w.slots(10, 11)
    const done = a.label()
    // r12: left, r13: result, both of one product.
    w.address(r12, moved(stored(left.node).place, 4 * left.offset))
    w.address(r13, stored(made).place)
    a.movNumberTo(batchAt, 0)
    /** Of a row's blocks so many are made one after the other: their results then lie together. */
    const abreast = (block: Block) => {
      if (finish.bias || block.count === 1 || resultRow < farApart) return 1
      return Math.max(1, Math.min(block.count, Math.floor(rightShare / block.step)))
    }
    const rowLoop = (block: Block, k: number) => {
      const tileHere = (count: number) => {
        const tile = tiles.get(keyOf(block, count, k))!
        a.mov(rdi, rightAt)
        a.mov(rdx, resultAt)
        if (abreast(block) === 1) {
          a.mov(rsi, rcx)
          a.call(tile)
          return
        }
        a.mov(rbx, rdi)
        a.mov(rax, inTurn)
        a.mov(turnCounter, rax)
        w.repeatCounted(turnCounter, () => {
          a.mov(rsi, rcx)
          a.mov(rdi, rbx)
          a.call(tile)
          a.addNumber(rbx, block.step)
          a.addNumber(rdx, 64 * block.vectors)
        })
      }
      const nothing = a.label()
      if (shareRows) {
        w.range(rcx, rax, rowTiles)
        a.sub(rax, rcx)
        a.mov(rowCounter, rax)
        a.imul(rdx, rcx, rows * resultRow)
        a.imul(rcx, rcx, rows * leftRow)
      } else {
        a.xor(rcx, rcx)
        a.xor(rdx, rdx)
        a.movNumberTo(rowCounter, rowTiles)
      }
      a.addNumber(rcx, k * innerAtOnce * leftInner)
      a.add(rcx, r12)
      a.add(rdx, columnAt)
      a.mov(resultAt, rdx)
      if (shareRows) {
        a.cmpNumber(rowCounter, 0)
        a.jump('e', nothing)
      }
      if (rowTiles > 0)
        w.repeatCounted(rowCounter, () => {
          tileHere(rows)
          a.addNumber(rcx, rows * leftRow)
          a.addNumber(resultAt, rows * resultRow)
        })
      a.bind(nothing)
      if (restRows === 0) return
      // What is left of the rows is the last thread's.
      const others = a.label()
      if (shareRows) {
        a.cmpNumber(thread8, 8 * (w.threads - 1))
        a.jump('ne', others)
      }
      tileHere(restRows)
      a.bind(others)
    }
    const columnLoop = (block: Block, k: number) => {
      const skip = a.label()
      if (shareColumns) {
        w.range(rcx, rax, block.count)
        a.sub(rax, rcx)
        a.jump('e', skip)
        a.mov(blockCounter, rax)
        a.imul(rax, rcx, block.step)
        a.imul(rcx, rcx, 64 * block.vectors)
      } else {
        a.movNumberTo(blockCounter, block.count)
        a.xor(rax, rax)
        a.xor(rcx, rcx)
      }
      if (finish.bias) {
        w.address(rdx, moved(stored(finish.bias).place, 4 * block.first))
        a.add(rdx, rcx)
        a.mov(w.slot(biasSlot), rdx)
      }
      w.address(rbx, moved(stored(block.node).place, block.offset + k * innerAtOnce * block.row))
      a.add(rax, rbx)
      a.add(rax, batchAt)
      a.mov(rightAt, rax)
      a.addNumber(rcx, 4 * block.first)
      a.add(rcx, r13)
      a.mov(columnAt, rcx)
      const most = abreast(block)
      if (most === 1)
        w.repeatCounted(blockCounter, () => {
          rowLoop(block, k)
          a.addNumber(rightAt, block.step)
          a.addNumber(columnAt, 64 * block.vectors)
          if (finish.bias) a.addNumber(w.slot(biasSlot), 64 * block.vectors)
        })
      else {
        const again = a.here()
        w.least(rax, blockCounter, most)
        a.mov(inTurn, rax)
        rowLoop(block, k)
        for (const [place, step] of [
          [rightAt, block.step],
          [columnAt, 64 * block.vectors],
        ] as const) {
          a.imul(rax, inTurn, step)
          a.add(rax, place)
          a.mov(place, rax)
        }
        a.mov(rax, blockCounter)
        a.sub(rax, inTurn)
        a.mov(blockCounter, rax)
        a.jump('g', again)
      }
      a.bind(skip)
    }
    const one_ = () => {
      for (const k of pieces.keys()) for (const block of blocks) columnLoop(block, k)
    }
    if (batch === 1) one_()
    else {
      if (shareBatch) {
        w.range(rcx, rax, batch)
        a.sub(rax, rcx)
        a.jump('e', done)
        a.mov(batchCounter, rax)
        a.imul(rax, rcx, leftBatch)
        a.add(r12, rax)
        a.imul(rax, rcx, rowCount * resultRow)
        a.add(r13, rax)
        a.imul(rax, rcx, step)
        a.mov(batchAt, rax)
      } else a.movNumberTo(batchCounter, batch)
      w.repeatCounted(batchCounter, () => {
        one_()
        a.addNumber(r12, leftBatch)
        a.addNumber(r13, rowCount * resultRow)
        a.addNumber(batchAt, step)
      })
    }
    a.bind(done)
  }
  const inputs: SpecialInput[] = [{ node: left.node }]
  for (const { node } of blocks) inputs.push({ node })
  const shape = [batch, rowCount, columns]
  const special = { name: 'product', inputs, strided: false, finish, write, product: { left, right, sides } }
  const made: Node = nodes.special(shape, 'float32', special)
  return made
}
