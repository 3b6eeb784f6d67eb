import type { Finish } from '../graph/node.ts'
import { type Arg, type Halo, type Node, type Nodes, type SpecialInput, whole } from '../graph/node.ts'
import type { Window } from '../graph/window.ts'
import { aside, type Block, chooseBlocking, cutColumns, vectorsFor } from './blocks.ts'
import { at, compare, type Label, r8, r9, r12, r13, rax, rbx, rcx, rdi, rdx, rsi } from './operands.ts'
import type { Stored, Writing } from './special.ts'
import { writeTile } from './tile.ts'
import { cells, transformBack, transformFilter, transformTile } from './transforms.ts'
import { moved, type Writer } from './writer.ts'

/** Bytes of transformed tiles that are worked on at once: a core's second cache holds them. */
const cacheShare = 1.25 * 2 ** 20

/** How images are cut into tiles of 2 x 2 results. */
export interface Tiling {
  /** Images that are transformed together; of large ones a band of tiles at a time, of so many bands. */
  group: number
  bands: number
  /** Tiles of an image, or of a band, and of all that is transformed together. */
  high: number
  broad: number
  tiles: number
}

export function tilingOf(images: number, height: number, width: number, from: number, to: number): Tiling {
  const [high, broad] = [Math.ceil(height / 2), Math.ceil(width / 2)]
  const bytes = 4 * cells * (from + to) * high * broad
  let group = Math.max(1, Math.min(images, Math.floor(cacheShare / bytes)))
  while (images % group !== 0) group--
  let bands = 1
  // An odd image's last tiles are unlike the others, so it is one band.
  if (height % 2 === 0) while (bytes / bands > cacheShare && bands < high) bands = nextDivisor(high, bands)
  return { group, bands, high: high / bands, broad, tiles: (group * high * broad) / bands }
}

function nextDivisor(of: number, above: number): number {
  let divisor = above + 1
  while (of % divisor !== 0) divisor++
  return divisor
}

/**
 * Numbers from one cell's tiles to the next: cells far apart by a power of two would push each other out of the first
 * cache.
 */
export function cellStep(tiles: number, channels: number): number {
  const lines = (tiles * channels) / 16
  return 16 * (lines + ((5 - (lines % 8) + 8) % 8))
}

/** Whether a convolution has a form with fewer multiplications. */
export function suitsWinograd({ kernel, strides, dilations }: Window, from: number, to: number): boolean {
  const plain = [...strides, ...dilations].every((step) => step === 1)
  return plain && kernel[0] === 3 && kernel[1] === 3 && from % 16 === 0 && to % 16 === 0
}

/** Whether that is faster, by the cycles for one image: transforms cost what they cost, products by what they multiply. */
export function paysWinograd(height: number, width: number, from: number, to: number): boolean {
  const tiles = Math.ceil(height / 2) * Math.ceil(width / 2)
  const direct = (height * width * 9 * from * to) / 32
  // A short sum does not hide that its result is loaded and stored.
  const products = ((cells * from * to) / 32) * (1 + 8 / from)
  const transforms = (from / 16) * 48 + (to / 16) * 36
  return direct > 1.15 * tiles * (products + transforms)
}

/** G g G^T of filters read as [3, 3, from, to], in blocks: [cell, block, from, columns of a block]. */
function transformedFilter(
  nodes: Nodes,
  filter: Arg,
  from: number,
  to: number,
  vectors: number,
): { node: Node; blocks: Block[] } {
  const straight = filter.strides[3] === 1
  const read: Arg = straight ? filter : whole(nodes.map('copy', [filter], [3, 3, from, to], 'float32'))
  const size = cells * from * to
  const write = ({ w, stored }: Writing) => {
    const { a } = w
    const given = stored(read.node)
    const own = stored(node)
    const half = 31
    const done = a.label()
    w.range(rcx, rax, from)
    a.sub(rax, rcx)
    a.jump('e', done)
    a.mov(w.slot(2), rax)
    a.v1('broadcastss', half, w.float(0.5))
    w.address(rsi, moved(given.place, 4 * read.offset))
    a.imul(rax, rcx, 4 * read.strides[2]!)
    a.add(rsi, rax)
    w.address(rdi, own.place)
    w.repeatCounted(w.slot(2), () => {
      for (const { count, vectors: wide, first } of cutColumns(to, vectors)) {
        // A block's rows lie together, and rows of one cell of all blocks.
        a.imul(rax, rcx, 64 * wide)
        a.lea(rdx, at(rdi, 4 * first * from, rax))
        a.lea(rbx, at(rsi, 4 * first))
        w.repeat(w.slot(3), count, () => {
          for (let v = 0; v < wide; v++)
            transformFilter(
              a,
              (i, j) => at(rbx, 4 * (i * read.strides[0]! + j * read.strides[1]!) + 64 * v),
              (register, i, j) => a.vstore('movups', at(rdx, 4 * (4 * i + j) * from * to + 64 * v), register),
              half,
            )
          a.addNumber(rdx, 64 * wide * from)
          a.addNumber(rbx, 64 * wide)
        })
      }
      a.addNumber(rsi, 4 * read.strides[2]!)
      a.addNumber(rcx, 1)
    })
    a.bind(done)
  }
  const inputs: SpecialInput[] = [{ node: read.node }]
  const node: Node = nodes.special([size], 'float32', { name: 'filter transform', inputs, strided: false, write })
  const blocks = cutColumns(to, vectors).map((own): Block => {
    const wide = 64 * own.vectors
    return { ...own, node, offset: 4 * own.first * from, step: wide * from, row: wide }
  })
  return { node, blocks }
}

/** Memory that a stage has for itself: each thread its part. */
export function workspace(nodes: Nodes, numbers: number): Node {
  const special = { name: 'workspace', inputs: [], strided: false, write() {} }
  return nodes.special([nodes.threads * numbers], 'float32', special)
}

/** The address of a thread's part of a workspace. */
export function ownPart(w: Writer, to: number, { place }: Stored, numbers: number, from = 0): void {
  w.address(to, moved(place, 4 * from))
  w.a.add(
    to,
    w.byThread((thread) => 4 * numbers * thread),
  )
}

/**
 * Writes the transform of a group of images at r12 to rdi: [cell, tile, channel]. `strides` in bytes; rsi, rdi, rdx and
 * slots 4 to 6 are used.
 */
export function writeTileTransform(
  w: Writer,
  { group, high, broad, tiles }: Tiling,
  strides: readonly number[],
  channels: number,
): void {
  const { a } = w
  const [sn, sh, sw] = strides as [number, number, number]
  const cell = 4 * cellStep(tiles, channels)
  a.mov(rsi, r12)
  w.repeat(w.slot(4), group, () => {
    w.repeat(w.slot(5), high, () => {
      w.repeat(w.slot(6), broad, () => {
        w.repeat(rdx, channels / 16, () => {
          transformTile(
            a,
            (i, j) => at(rsi, i * sh + j * sw),
            (register, i, j) => a.vstore('movups', at(rdi, (4 * i + j) * cell), register),
          )
          a.addNumber(rsi, 64)
          a.addNumber(rdi, 64)
        })
        a.addNumber(rsi, 2 * sw - 4 * channels)
      })
      a.addNumber(rsi, 2 * sh - broad * 2 * sw)
    })
    a.addNumber(rsi, sn - high * 2 * sh)
  })
}

/** Tiles along one side: those that lie inside, then one that sticks out where the side is odd. */
export function edges(side: number): { count: number; inside: number }[] {
  const parts = []
  if (side >= 2) parts.push({ count: Math.floor(side / 2), inside: 2 })
  if (side % 2 === 1) parts.push({ count: 1, inside: 1 })
  return parts
}

/**
 * A convolution with 3 x 3 cells of stride 1 by Winograd's F(2x2, 3x3): images in tiles of 4 x 4 pixels that overlap,
 * transformed, multiplied with the transformed filter cell by cell, and transformed back to 2 x 2 results. 16
 * multiplications where there are 36 otherwise.
 */
export function convolveByTiles(nodes: Nodes, x: Node, filter: Arg, window: Window, shape: readonly number[]): Node {
  const [images, height, width, columns] = shape as [number, number, number, number]
  const channels = x.shape[3]!
  const [top, left, bottom, right] = window.pads
  const tiling = tilingOf(images, height, width, channels, columns)
  const { group, bands, high, broad, tiles } = tiling
  const { rows, vectors } = chooseBlocking(tiles, vectorsFor(columns))
  const transformed = transformedFilter(nodes, filter, channels, columns, vectors)
  const kept = cells * cellStep(tiles, channels)
  const own = kept + cells * cellStep(tiles, columns)
  const space = workspace(nodes, own)
  const finish: Finish = {}
  const write = ({ w, stored }: Writing) => {
    const { a } = w
    const [to, from] = [stored(made), stored(x)]
    const where = finish.where && stored(finish.where)
    const bytes = (strides: readonly number[] = [0, 0, 0, 0]) => strides.map((stride) => 4 * stride)
    const [xn, xh, xw] = bytes(from.strides) as [number, number, number]
    const [on, oh, ow] = bytes(to.strides) as [number, number, number]
    const [wn, wh, ww] = bytes(where?.strides) as [number, number, number]
    const products = new Map<string, Label>()
    const rowTiles = Math.floor(tiles / rows)
    const rest = tiles % rows
    aside(w, () => {
      for (const block of transformed.blocks)
        for (const count of [rowTiles > 0 ? rows : 0, rest])
          if (count > 0) products.set(`${block.first} ${count}`, productTile(w, count, channels, columns, block))
    })
    const done = a.label()
    const [remaining] = w.slots(2)
    w.range(rbx, rax, images / group)
    a.sub(rax, rbx)
    a.jump('e', done)
    a.mov(remaining, rax)
    w.address(r12, moved(from.place, -top * xh - left * xw))
    a.imul(rax, rbx, group * xn)
    a.add(r12, rax)
    w.address(r13, to.place)
    a.imul(rax, rbx, group * on)
    a.add(r13, rax)
    const whereAt = w.slot(7)
    if (where) {
      w.address(rcx, where.place)
      a.imul(rax, rbx, group * wn)
      a.add(rcx, rax)
      a.mov(whereAt, rcx)
    }
    const band = 2 * high
    w.repeatCounted(remaining, () => {
      w.repeat(w.slot(3), bands, () => {
        ownPart(w, rdi, stored(space), own)
        writeTileTransform(w, tiling, [xn, xh, xw], channels)
        writeProducts()
        writeBack()
        if (bands === 1) return
        a.addNumber(r12, band * xh)
        a.addNumber(r13, band * oh)
        if (where) a.addNumber(whereAt, band * wh)
      })
      const passed = bands === 1 ? 0 : bands * band
      a.addNumber(r12, group * xn - passed * xh)
      a.addNumber(r13, group * on - passed * oh)
      if (where) a.addNumber(whereAt, group * wn - passed * wh)
    })
    a.bind(done)

    /** For each cell, tiles x filter: [tile, column]. */
    function writeProducts(): void {
      const [cellCounter, blockCounter, rowCounter] = w.slots(4, 5, 6)
      const [leftAt, resultAt, rightBase] = w.slots(8, 10, 11)
      ownPart(w, rcx, stored(space), own)
      a.mov(leftAt, rcx)
      a.addNumber(rcx, 4 * kept)
      a.mov(resultAt, rcx)
      w.address(rcx, stored(transformed.node).place)
      a.mov(rightBase, rcx)
      w.repeat(cellCounter, cells, () => {
        for (const block of transformed.blocks) {
          a.mov(rbx, rightBase)
          a.addNumber(rbx, block.offset)
          a.mov(rax, resultAt)
          a.addNumber(rax, 4 * block.first)
          w.repeat(blockCounter, block.count, () => {
            a.mov(rcx, leftAt)
            a.mov(rdx, rax)
            const tile = (count: number) => {
              a.mov(rsi, rcx)
              a.mov(rdi, rbx)
              a.call(products.get(`${block.first} ${count}`)!)
            }
            w.repeat(rowCounter, rowTiles, () => {
              tile(rows)
              a.addNumber(rcx, 4 * rows * channels)
              a.addNumber(rdx, 4 * rows * columns)
            })
            if (rest > 0) tile(rest)
            a.addNumber(rbx, block.step)
            a.addNumber(rax, 64 * block.vectors)
          })
        }
        a.addNumber(leftAt, 4 * cellStep(tiles, channels))
        a.addNumber(resultAt, 4 * cellStep(tiles, columns))
        a.addNumber(rightBase, 4 * channels * columns)
      })
    }

    /** Transforms the products back, finishes and stores them. */
    function writeBack(): void {
      const cell = 4 * cellStep(tiles, columns)
      ownPart(w, rsi, stored(space), own, kept)
      a.mov(rdi, r13)
      if (where) a.mov(r9, whereAt)
      const step = (result: number, decides: number) => {
        a.addNumber(rdi, result)
        if (where) a.addNumber(r9, decides)
      }
      w.repeat(w.slot(4), group, () => {
        for (const row of edges(bands === 1 ? height : 2 * high))
          w.repeat(w.slot(5), row.count, () => {
            for (const column of edges(width))
              w.repeat(w.slot(6), column.count, () => {
                if (finish.bias) w.address(r8, stored(finish.bias).place)
                w.repeat(rdx, columns / 16, () => {
                  transformBack(
                    a,
                    (i, j) => at(rsi, (4 * i + j) * cell),
                    (register, i, j) => {
                      if (i >= row.inside || j >= column.inside) return
                      finishVector(w, finish, register, r8, i * wh + j * ww)
                      a.vstore('movups', at(rdi, i * oh + j * ow), register)
                    },
                  )
                  a.addNumber(rsi, 64)
                  step(64, 64)
                  if (finish.bias) a.addNumber(r8, 64)
                })
                step(2 * ow - 4 * columns, 2 * ww - 4 * columns)
              })
            step(2 * oh - broad * 2 * ow, 2 * wh - broad * 2 * ww)
          })
        step(on - high * 2 * oh, wn - high * 2 * wh)
      })
    }
  }
  // Where a side is odd, its last tile reads one pixel more.
  const halo: Halo = [top, left, bottom + (height % 2), right + (width % 2), 1, 1]
  const inputs: SpecialInput[] = [{ node: x, halo }, { node: transformed.node }, { node: space }]
  const made: Node = nodes.special(shape, 'float32', { name: 'convolution', inputs, strided: true, finish, write })
  return made
}

function productTile(w: Writer, count: number, channels: number, columns: number, block: Block): Label {
  const places = Array.from({ length: count }, (_, r) => r)
  return writeTile(w, {
    left: places.map((r) => 4 * r * channels),
    result: places.map((r) => 4 * r * columns),
    vectors: block.vectors,
    lanes: 16,
    loops: [{ count: channels, leftStep: 4, rightStep: block.row }],
    accumulate: false,
  })
}

/** The bias at r8, what decides at r9. */
function finishVector(
  w: Writer,
  { bias, relu, where }: Finish,
  register: number,
  biasAt: number,
  whereAt: number,
): void {
  const { a } = w
  const [one, zero] = [31, 30]
  if (bias) a.v('addps', register, register, at(biasAt))
  if (relu || where) a.v('pxord', zero, zero, zero)
  if (relu) a.v('maxps', register, zero, register)
  if (!where) return
  a.v1('movups', one, at(r9, whereAt))
  a.vcmp('cmpps', 2, one, zero, compare.gt)
  a.v('maxps', one, zero, one)
  a.v1('broadcastss', one, w.float(1), { mask: 2 })
  a.v('mulps', register, register, one)
}
