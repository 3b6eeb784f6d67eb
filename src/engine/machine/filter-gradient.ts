import { type Arg, type Halo, type Node, type Nodes, rowStrides, type SpecialInput, whole } from '../graph/node.ts'
import { quad, type Window } from '../graph/window.ts'
import { sizeOf } from '../recording/shape.ts'
import { aside, type Columns, chooseBlocking, clear, cutColumns, sumMask, vectorsFor } from './blocks.ts'
import { at, type Label, r11, r12, r13, rax, rbx, rcx, rdi, rdx, rsi } from './operands.ts'
import type { Writing } from './special.ts'
import { type SumLoop, writeTile } from './tile.ts'
import { moved } from './writer.ts'

/** Bytes up to which each thread makes a gradient of its own from its images; larger ones the threads share. */
const largestPart = 2 ** 18

/** Bytes of images and dy that stay in a core's second cache. */
const cacheShare = 1.25 * 2 ** 20

/** Up to so many rows each tile has code of its own. */
const fewRows = 64

/**
 * dW [kh, kw, c, out] of a convolution: a tile is some cells' channels times some of dy's, summed over pixels and
 * images, and added to what earlier images gave.
 */
export function filterGradient(nodes: Nodes, x: Node, dy: Node, window: Window, shape: readonly number[]): Node {
  const [high, broad, channels, columns] = quad(shape)
  const [images, outHeight, outWidth] = quad(dy.shape)
  const [top, left] = window.pads
  const size = sizeOf(shape)
  const inParts = 4 * size <= largestPart && nodes.threads > 1
  const rowCount = high * broad * channels
  // Rows of which each is read beside the one before.
  const segment = window.dilations[1] === 1 ? broad * channels : channels
  const few = rowCount <= fewRows
  const { rows, vectors } = chooseBlocking(few ? rowCount : segment, vectorsFor(columns))
  const write = ({ w, stored }: Writing) => {
    const { a } = w
    const [to, xs, ds] = [stored(made), stored(x), stored(dy)]
    const [sn, sh, sw] = xs.strides.map((stride) => 4 * stride) as [number, number, number]
    const [dn, dh, dw] = ds.strides.map((stride) => 4 * stride) as [number, number, number]
    const rowOffset = (row: number) => {
      const cell = Math.floor(row / channels)
      const [i, j] = [Math.floor(cell / broad), cell % broad]
      return i * window.dilations[0] * sh + j * window.dilations[1] * sw + 4 * (row % channels)
    }
    const loops: SumLoop[] = [
      { count: undefined, leftStep: sn, rightStep: dn },
      { count: outHeight, leftStep: window.strides[0] * sh, rightStep: dh },
      { count: outWidth, leftStep: window.strides[1] * sw, rightStep: dw },
    ]
    const resultRow = 4 * columns
    const blocks = cutColumns(columns, vectors)
    const chunks = Math.floor((few ? rowCount : segment) / rows)
    const rest = (few ? rowCount : segment) % rows
    const tiles = new Map<string, Label>()
    aside(w, () => {
      for (const block of blocks) {
        const add = (name: string, first: number, count: number) => {
          const offsets = Array.from({ length: count }, (_, r) => rowOffset(first + r) - rowOffset(first))
          const result = offsets.map((_, r) => r * resultRow)
          const own = { left: offsets, result, vectors: block.vectors, lanes: block.lanes, loops, accumulate: true }
          tiles.set(`${block.first} ${name}`, writeTile(w, own))
        }
        if (few) for (let c = 0; c < chunks; c++) add(`${c}`, c * rows, rows)
        else if (chunks > 0) add('whole', 0, rows)
        if (rest > 0) add('rest', few ? chunks * rows : 0, rest)
      }
    })
    const partial = blocks.find(({ lanes }) => lanes < 16)
    if (partial) w.laneMask(sumMask, partial.lanes)
    const done = a.label()
    const [remaining, inPass, blockCounter, chunkCounter, dyAt, resultAt, nextDy, nextResult] = w.slots(
      ...[2, 3, 4, 5, 6, 7, 8, 10],
    )
    // rbx: the gradient, or this thread's part; r12: images; r13: their dy.
    w.address(rbx, to.place)
    if (inParts)
      a.add(
        rbx,
        w.byThread((thread) => 4 * size * thread),
      )
    clear(w, size, inParts)
    if (inParts) {
      w.range(rcx, rax, images)
      a.sub(rax, rcx)
      a.jump('e', done)
      a.mov(remaining, rax)
    } else {
      a.xor(rcx, rcx)
      a.movNumberTo(remaining, images)
    }
    w.address(r12, moved(xs.place, -top * sh - left * sw))
    a.imul(rax, rcx, sn)
    a.add(r12, rax)
    w.address(r13, ds.place)
    a.imul(rax, rcx, dn)
    a.add(r13, rax)
    const pass = a.here()
    w.least(rax, remaining, Math.max(1, Math.floor(cacheShare / (sn + dn))))
    a.mov(inPass, rax)
    const call = (block: Columns, name: string) => {
      a.mov(r11, inPass)
      a.call(tiles.get(`${block.first} ${name}`)!)
    }
    const single = (block: Columns, name: string, row: number) => {
      a.lea(rsi, at(r12, rowOffset(row)))
      a.mov(rdi, dyAt)
      a.mov(rdx, resultAt)
      a.addNumber(rdx, row * resultRow)
      call(block, name)
    }
    /** All rows of one block of columns. */
    const column = (block: Columns) => {
      if (few) {
        for (let c = 0; c < chunks; c++) single(block, `${c}`, c * rows)
        if (rest > 0) single(block, 'rest', chunks * rows)
        return
      }
      for (let first = 0; first < rowCount; first += segment) {
        if (chunks > 0) {
          a.lea(rcx, at(r12, rowOffset(first)))
          a.mov(rax, resultAt)
          a.addNumber(rax, first * resultRow)
          w.repeat(chunkCounter, chunks, () => {
            a.mov(rsi, rcx)
            a.mov(rdi, dyAt)
            a.mov(rdx, rax)
            call(block, 'whole')
            a.addNumber(rcx, 4 * rows)
            a.addNumber(rax, rows * resultRow)
          })
        }
        if (rest > 0) single(block, 'rest', first + chunks * rows)
      }
    }
    for (const block of blocks) {
      const skip = a.label()
      if (inParts || w.threads === 1) {
        a.movNumberTo(blockCounter, block.count)
        a.xor(rcx, rcx)
      } else {
        w.range(rcx, rax, block.count)
        a.sub(rax, rcx)
        a.jump('e', skip)
        a.mov(blockCounter, rax)
        a.imul(rcx, rcx, 64 * vectors)
      }
      a.addNumber(rcx, 4 * block.first)
      a.lea(rax, at(r13, 0, rcx))
      a.mov(nextDy, rax)
      a.lea(rax, at(rbx, 0, rcx))
      a.mov(nextResult, rax)
      w.repeatCounted(blockCounter, () => {
        for (const [now, next] of [
          [dyAt, nextDy],
          [resultAt, nextResult],
        ] as const) {
          a.mov(rax, next)
          a.mov(now, rax)
          a.addNumber(next, 64 * block.vectors)
        }
        column(block)
      })
      a.bind(skip)
    }
    a.imul(rax, inPass, sn)
    a.add(r12, rax)
    a.imul(rax, inPass, dn)
    a.add(r13, rax)
    a.mov(rcx, remaining)
    a.sub(rcx, inPass)
    a.mov(remaining, rcx)
    a.jump('g', pass)
    a.bind(done)
  }
  const halo = [...window.pads, 1, 1] as unknown as Halo
  const inputs: SpecialInput[] = [
    { node: x, halo },
    { node: dy, strided: true },
  ]
  const special = { name: 'filter gradient', inputs, strided: false, write }
  const made: Node = nodes.special(inParts ? [nodes.threads, ...shape] : shape, 'float32', special)
  if (!inParts) return made
  const part = (thread: number): Arg => ({ node: made, strides: rowStrides(shape), offset: thread * size })
  let sum = part(0)
  for (let thread = 1; thread < nodes.threads; thread++)
    sum = whole(nodes.map('add', [sum, part(thread)], shape, 'float32'))
  return sum.node
}
