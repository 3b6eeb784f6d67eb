import type { Finish } from '../graph/node.ts'
import { type Arg, type Halo, type Node, type Nodes, NotWritten, type SpecialInput } from '../graph/node.ts'
import { quad, type Window } from '../graph/window.ts'
import {
  aside,
  type Block,
  type Blocking,
  biasSlot,
  cacheShare,
  chooseBlocking,
  cyclesFor,
  finisher,
  rightSide,
  sumMask,
  vectorsFor,
} from './blocks.ts'
import { at, type Label, type Memory, r11, r12, r13, rax, rbx, rcx, rdi, rdx, rsi } from './operands.ts'
import type { Writing } from './special.ts'
import { type SumLoop, writeTile } from './tile.ts'
import { convolveByTiles, paysWinograd, suitsWinograd } from './winograd.ts'
import { moved } from './writer.ts'

/** Pixels that one tile makes: bytes from a group's first to where each is read, goes, and finds what decides on it. */
interface PixelTile {
  left: number[]
  result: number[]
  where: number[]
  leftAt: number
  resultAt: number
  whereAt: number
}

type PlaceOf = (image: number, y: number, x: number) => number

/** Cuts the pixels of `group` images into tiles. */
function pixelTiles(
  group: number,
  [height, width]: readonly [number, number],
  rows: number,
  [left, result, where]: [PlaceOf, PlaceOf, PlaceOf],
): PixelTile[] {
  const places: [number, number, number][] = []
  for (let i = 0; i < group; i++)
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x++) places.push([left(i, y, x), result(i, y, x), where(i, y, x)])
  const tiles: PixelTile[] = []
  for (let i = 0; i < places.length; i += rows) {
    const own = places.slice(i, i + rows)
    const [leftAt, resultAt, whereAt] = own[0]!
    tiles.push({
      ...{ leftAt, resultAt, whereAt },
      left: own.map(([place]) => place - leftAt),
      result: own.map(([, place]) => place - resultAt),
      where: own.map(([, , place]) => place - whereAt),
    })
  }
  return tiles
}

/** How many images to take together so that their pixels fill tiles well, where one has few. */
function chooseGroup(images: number, pixels: number, columnVectors: number): Blocking & { group: number } {
  let best = { group: 1, ...chooseBlocking(pixels, columnVectors) }
  let least = cyclesFor(pixels, columnVectors, best)
  for (const group of [2, 4, 8]) {
    if (images % group !== 0 || group * pixels > 256) continue
    const blocking = chooseBlocking(group * pixels, columnVectors)
    const cycles = cyclesFor(group * pixels, columnVectors, blocking) / group
    if (cycles >= 0.98 * least) continue
    best = { group, ...blocking }
    least = cycles
  }
  return best
}

/** The sum of a convolution over cells and channels. */
function sumLoops(
  { kernel, dilations }: Window,
  channels: number,
  row: number,
  pixel: number,
  right: number,
): SumLoop[] {
  return [
    { count: kernel[0], leftStep: dilations[0] * row, rightStep: kernel[1] * channels * right },
    { count: kernel[1], leftStep: dilations[1] * pixel, rightStep: channels * right },
    { count: channels, leftStep: 4, rightStep: right },
  ]
}

/**
 * Images x [n, h, w, c] convolved with a filter read as [kh, kw, c, out]: a tile is some pixels times some channels,
 * summed over cells and channels. Threads share the images. `apart` puts so many rows and columns of zeros between
 * those of x, less one.
 */
export function convolve(
  nodes: Nodes,
  x: Node,
  filter: Arg,
  window: Window,
  shape: readonly number[],
  apart: readonly [number, number] = [1, 1],
): Node {
  const [images, height, width, columns] = quad(shape)
  const channels = x.shape[3]!
  const close = apart.every((step) => step === 1)
  if (close && suitsWinograd(window, channels, columns) && paysWinograd(height, width, channels, columns))
    return convolveByTiles(nodes, x, filter, window, shape)
  const [top, left, bottom, right] = window.pads
  const { group, rows, vectors } = chooseGroup(images, height * width, vectorsFor(columns))
  const blocks = rightSide(nodes, filter, [...window.kernel, channels], columns, vectors)
  const finish: Finish = {}
  const write = ({ w, stored }: Writing) => {
    const { a } = w
    const [to, from] = [stored(made), stored(x)]
    const where = finish.where && stored(finish.where)
    const bytes = (strides: readonly number[] = [0, 0, 0, 0]) => strides.map((stride) => 4 * stride)
    const [sn, sh, sw] = bytes(from.strides).map((step, i) =>
      i === 1 || i === 2 ? step / apart[i - 1]! : step,
    ) as number[]
    const [on, oh, ow] = bytes(to.strides) as [number, number, number]
    const [wn, wh, ww] = bytes(where?.strides) as [number, number, number]
    const [xn, xh, xw] = [sn!, window.strides[0] * sh!, window.strides[1] * sw!]
    const tiles = pixelTiles(group, [height, width], rows, [
      (i, y, px) => i * xn + y * xh + px * xw,
      (i, y, px) => i * on + y * oh + px * ow,
      (i, y, px) => i * wn + y * wh + px * ww,
    ])
    const code = new Map<string, Label>()
    const keyOf = (tile: PixelTile, { vectors: count, lanes, row }: Block) =>
      `${tile.left} ${tile.result} ${tile.where} ${count} ${lanes} ${row}`
    const prepare = (tile: PixelTile, block: Block): void => {
      const key = keyOf(tile, block)
      if (code.has(key)) return
      const loops = sumLoops(window, channels, sh!, sw!, block.row)
      const { left: reads, result } = tile
      const own = { left: reads, result, vectors: block.vectors, lanes: block.lanes, loops, accumulate: false }
      const finished = finisher(w, finish, block, tile.where)
      code.set(key, writeTile(w, finished ? { ...own, finish: finished } : own))
    }
    aside(w, () => {
      for (const block of blocks) for (const tile of tiles) prepare(tile, block)
    })
    const done = a.label()
    const [remaining, inPass, blockCounter, groupCounter, resultAt, whereAt, whereBegin] = w.slots(2, 3, 4, 5, 6, 7, 8)
    const partial = blocks.find(({ lanes }) => lanes < 16)
    if (partial) w.laneMask(sumMask, partial.lanes)
    w.range(rbx, rax, images / group)
    a.sub(rax, rbx)
    a.jump('e', done)
    a.mov(remaining, rax)
    w.address(r12, moved(from.place, -top * sh! - left * sw!))
    a.imul(rax, rbx, group * xn)
    a.add(r12, rax)
    w.address(r13, to.place)
    a.imul(rax, rbx, group * on)
    a.add(r13, rax)
    if (where) {
      w.address(rcx, where.place)
      a.imul(rax, rbx, group * wn)
      a.add(rcx, rax)
      a.mov(whereBegin, rcx)
    }
    // As many images at a time as stay in the cache, lest the filter be read anew for each.
    const most = Math.max(1, Math.floor(cacheShare / (group * xn)))
    const pass = a.here()
    w.least(rax, remaining, most)
    a.mov(inPass, rax)
    for (const block of blocks) {
      w.address(rbx, moved(stored(block.node).place, block.offset))
      if (finish.bias) {
        w.address(rax, moved(stored(finish.bias).place, 4 * block.first))
        a.mov(w.slot(biasSlot), rax)
      }
      const moveOn = () => {
        a.addNumber(rbx, block.step)
        if (finish.bias) a.addNumber(w.slot(biasSlot), 64 * block.vectors)
        a.addNumber(r13, 64 * block.vectors)
        if (where) a.addNumber(whereBegin, 64 * block.vectors)
      }
      w.repeat(blockCounter, block.count, () => {
        a.mov(rcx, r12)
        a.mov(resultAt, r13)
        if (where) {
          a.mov(rax, whereBegin)
          a.mov(whereAt, rax)
        }
        a.mov(rax, inPass)
        a.mov(groupCounter, rax)
        w.repeatCounted(groupCounter, () => {
          for (const tile of tiles) {
            a.lea(rsi, at(rcx, tile.leftAt))
            a.mov(rdi, rbx)
            a.mov(rdx, resultAt)
            a.addNumber(rdx, tile.resultAt)
            if (where) {
              a.mov(r11, whereAt)
              a.addNumber(r11, tile.whereAt)
            }
            a.call(code.get(keyOf(tile, block))!)
          }
          a.addNumber(rcx, group * xn)
          a.addNumber(resultAt, group * on)
          if (where) a.addNumber(whereAt, group * wn)
        })
        moveOn()
      })
    }
    const back = 64 * blocks.reduce((sum, block) => sum + block.count * block.vectors, 0)
    const forward = (to_: number | Memory, bytesOfGroup: number, less: number) => {
      a.imul(rax, inPass, bytesOfGroup)
      a.addNumber(rax, -less)
      if (typeof to_ === 'number') a.add(to_, rax)
      else {
        a.add(rax, to_)
        a.mov(to_, rax)
      }
    }
    forward(r13, group * on, back)
    forward(r12, group * xn, 0)
    if (where) forward(whereBegin, group * wn, back)
    a.mov(rcx, remaining)
    a.sub(rcx, inPass)
    a.mov(remaining, rcx)
    a.jump('g', pass)
    a.bind(done)
  }
  const inputs: SpecialInput[] = [{ node: x, halo: [top, left, bottom, right, ...apart] as Halo }]
  for (const { node } of blocks) inputs.push({ node })
  const made: Node = nodes.special(shape, 'float32', { name: 'convolution', inputs, strided: true, finish, write })
  return made
}

/**
 * dx of a convolution: dy, its pixels as far apart as the convolution's strides, convolved with the filter turned by
 * 180 degrees, its channels swapped.
 */
export function inputGradient(
  nodes: Nodes,
  dy: Node,
  filter: Arg,
  filterShape: readonly number[],
  window: Window,
  shape: readonly number[],
): Node {
  const { kernel, strides, dilations, pads } = window
  const [, height, width] = quad(shape)
  const [, outHeight, outWidth] = quad(dy.shape)
  const top = (kernel[0] - 1) * dilations[0] - pads[0]
  const left = (kernel[1] - 1) * dilations[1] - pads[1]
  const bottom = height - 1 - (outHeight - 1) * strides[0] + pads[0]
  const right = width - 1 - (outWidth - 1) * strides[1] + pads[1]
  if ([top, left, bottom, right].some((side) => side < 0))
    throw new NotWritten('the gradient of a padding wider than the filter')
  const [, , from, to] = quad(filterShape)
  const cell = from * to
  const turned: Arg = {
    node: filter.node,
    strides: [-kernel[1] * cell, -cell, 1, to],
    offset: (kernel[0] * kernel[1] - 1) * cell,
  }
  const back: Window = { kernel, strides: [1, 1], dilations, pads: [top, left, bottom, right] }
  return convolve(nodes, dy, turned, back, shape, strides)
}
