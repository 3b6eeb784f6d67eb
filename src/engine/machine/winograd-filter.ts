import type { Halo, Node, Nodes, SpecialInput } from '../graph/node.ts'
import type { Window } from '../graph/window.ts'
import { aside, chooseBlocking, clear, cutColumns, vectorsFor } from './blocks.ts'
import { at, type Label, r9, r10, r12, r13, rax, rbx, rcx, rdi, rdx, rsi } from './operands.ts'
import type { Writing } from './special.ts'
import { writeTile } from './tile.ts'
import { cells, transformFilterBack, transformGradient } from './transforms.ts'
import { cellStep, edges, ownPart, tilingOf, workspace, writeTileTransform } from './winograd.ts'
import { moved } from './writer.ts'

/** Bytes up to which each thread makes a gradient of its own from its images; larger ones the threads share. */
const largestPart = 2 ** 20

/**
 * dW [3, 3, c, out] of a convolution of stride 1 in the form of Winograd's F(2x2, 3x3): transformed tiles of images
 * times transformed gradients of 2 x 2 results, cell by cell, summed over tiles, and transformed back.
 */
export function filterGradientByTiles(nodes: Nodes, x: Node, dy: Node, window: Window, shape: readonly number[]): Node {
  const [, , channels, columns] = shape as [number, number, number, number]
  const [images, height, width] = dy.shape as [number, number, number, number]
  const [top, left, bottom, right] = window.pads
  const tiling = tilingOf(images, height, width, channels, columns)
  const { group, bands, high, tiles } = tiling
  const { rows, vectors } = chooseBlocking(channels, vectorsFor(columns))
  const size = cells * channels * columns
  const inParts = 4 * size <= largestPart && nodes.threads > 1
  const kept = cells * cellStep(tiles, channels)
  const own = kept + cells * cellStep(tiles, columns)
  const space = workspace(nodes, own)
  const write = ({ w, stored }: Writing) => {
    const { a } = w
    const [to, xs, ds] = [stored(made), stored(x), stored(dy)]
    const [xn, xh, xw] = xs.strides.map((stride) => 4 * stride) as [number, number, number]
    const [dn, dh, dw] = ds.strides.map((stride) => 4 * stride) as [number, number, number]
    const blocks = cutColumns(columns, vectors)
    const rowTiles = Math.floor(channels / rows)
    const rest = channels % rows
    const products = new Map<string, Label>()
    aside(w, () => {
      for (const block of blocks)
        for (const count of [rowTiles > 0 ? rows : 0, rest]) {
          if (count === 0) continue
          const places = Array.from({ length: count }, (_, r) => r)
          const tile = writeTile(w, {
            left: places.map((r) => 4 * r),
            result: places.map((r) => 4 * r * columns),
            vectors: block.vectors,
            lanes: 16,
            loops: [{ count: tiles, leftStep: 4 * channels, rightStep: 4 * columns }],
            accumulate: true,
          })
          products.set(`${block.first} ${count}`, tile)
        }
    })
    const done = a.label()
    const [remaining, gradientAt] = w.slots(2, 3)
    w.address(rbx, to.place)
    if (inParts)
      a.add(
        rbx,
        w.byThread((thread) => 4 * size * thread),
      )
    clear(w, size, inParts)
    a.mov(gradientAt, rbx)
    if (inParts) {
      w.range(rcx, rax, images / group)
      a.sub(rax, rcx)
      a.jump('e', done)
      a.mov(remaining, rax)
    } else {
      a.xor(rcx, rcx)
      a.movNumberTo(remaining, images / group)
    }
    w.address(r12, moved(xs.place, -top * xh - left * xw))
    a.imul(rax, rcx, group * xn)
    a.add(r12, rax)
    w.address(r13, ds.place)
    a.imul(rax, rcx, group * dn)
    a.add(r13, rax)
    w.repeatCounted(remaining, () => {
      const band = 2 * high
      w.repeat(w.slot(9), bands, () => {
        ownPart(w, rdi, stored(space), own)
        writeTileTransform(w, tiling, [xn, xh, xw], channels)
        ownPart(w, rdi, stored(space), own, kept)
        writeGradientTransform()
        writeProducts()
        if (bands === 1) return
        a.addNumber(r12, band * xh)
        a.addNumber(r13, band * dh)
      })
      const passed = bands === 1 ? 0 : bands * band
      a.addNumber(r12, group * xn - passed * xh)
      a.addNumber(r13, group * dn - passed * dh)
    })
    a.bind(done)

    function writeGradientTransform(): void {
      const cell = 4 * cellStep(tiles, columns)
      a.mov(rsi, r13)
      w.repeat(w.slot(4), group, () => {
        for (const row of edges(bands === 1 ? height : 2 * high))
          w.repeat(w.slot(5), row.count, () => {
            for (const column of edges(width))
              w.repeat(w.slot(6), column.count, () => {
                w.repeat(rdx, columns / 16, () => {
                  transformGradient(
                    a,
                    (i, j) => (i < row.inside && j < column.inside ? at(rsi, i * dh + j * dw) : undefined),
                    (register, i, j) => a.vstore('movups', at(rdi, (4 * i + j) * cell), register),
                  )
                  a.addNumber(rsi, 64)
                  a.addNumber(rdi, 64)
                })
                a.addNumber(rsi, 2 * dw - 4 * columns)
              })
            a.addNumber(rsi, 2 * dh - tiling.broad * 2 * dw)
          })
        a.addNumber(rsi, dn - high * 2 * dh)
      })
    }

    /** For each cell, the channels' tiles times those of the gradients, added to what there is. */
    function writeProducts(): void {
      const [cellCounter, blockCounter, rowCounter, leftAt, rightAt, resultAt] = w.slots(4, 5, 6, 7, 8, 10)
      const [cellResult, blockPart] = w.slots(11, 12)
      ownPart(w, rcx, stored(space), own)
      a.mov(leftAt, rcx)
      a.addNumber(rcx, 4 * kept)
      a.mov(rightAt, rcx)
      a.mov(rcx, gradientAt)
      a.mov(cellResult, rcx)
      w.repeat(cellCounter, cells, () => {
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
            a.imul(rcx, rcx, 64 * block.vectors)
          }
          a.addNumber(rcx, 4 * block.first)
          a.mov(blockPart, rcx)
          w.repeatCounted(blockCounter, () => {
            a.mov(rax, cellResult)
            a.add(rax, blockPart)
            a.mov(resultAt, rax)
            a.mov(rbx, rightAt)
            a.add(rbx, blockPart)
            a.mov(rcx, leftAt)
            const tile = (count: number) => {
              a.mov(rsi, rcx)
              a.mov(rdi, rbx)
              a.mov(rdx, resultAt)
              a.call(products.get(`${block.first} ${count}`)!)
            }
            w.repeat(rowCounter, rowTiles, () => {
              tile(rows)
              a.addNumber(rcx, 4 * rows)
              a.addNumber(resultAt, 4 * rows * columns)
            })
            if (rest > 0) tile(rest)
            a.addNumber(blockPart, 64 * block.vectors)
          })
          a.bind(skip)
        }
        a.addNumber(leftAt, 4 * cellStep(tiles, channels))
        a.addNumber(rightAt, 4 * cellStep(tiles, columns))
        a.addNumber(cellResult, 4 * channels * columns)
      })
    }
  }
  // Where a side is odd, its last tile reads one pixel more.
  const halo: Halo = [top, left, bottom + (height % 2), right + (width % 2), 1, 1]
  const inputs: SpecialInput[] = [{ node: x, halo }, { node: dy, strided: true }, { node: space }]
  const parts = inParts ? nodes.threads : 1
  const made: Node = nodes.special([parts * size], 'float32', {
    name: 'filter gradient',
    inputs,
    strided: false,
    write,
  })
  return transformedBack(nodes, made, parts, shape)
}

/** G^T u G of the sum of the parts, for each channel and column. */
function transformedBack(nodes: Nodes, gradient: Node, parts: number, shape: readonly number[]): Node {
  const [, , channels, columns] = shape as [number, number, number, number]
  const size = cells * channels * columns
  const write = ({ w, stored }: Writing) => {
    const { a } = w
    const half = 31
    const done = a.label()
    const vectors = (channels * columns) / 16
    w.range(rcx, rax, vectors)
    a.sub(rax, rcx)
    a.jump('e', done)
    a.v1('broadcastss', half, w.float(0.5))
    a.shl(rcx, 6)
    w.address(r9, stored(gradient).place)
    a.add(r9, rcx)
    w.address(r10, stored(made).place)
    a.add(r10, rcx)
    const plane = 4 * channels * columns
    w.repeatCounted(rax, () => {
      transformFilterBack(
        a,
        (register, i, j) => {
          const place = (part: number) => at(r9, (4 * i + j) * plane + 4 * part * size)
          a.v1('movups', register, place(0))
          for (let part = 1; part < parts; part++) a.v('addps', register, register, place(part))
        },
        (register, i, j) => a.vstore('movups', at(r10, (3 * i + j) * plane), register),
        half,
      )
      a.addNumber(r9, 64)
      a.addNumber(r10, 64)
    })
    a.bind(done)
  }
  const inputs: SpecialInput[] = [{ node: gradient }]
  const special = { name: 'filter gradient transform', inputs, strided: false, write }
  const made: Node = nodes.special(shape, 'float32', special)
  return made
}
