import type { Finish } from '../graph/node.ts'
import { type Node, type Nodes, NotWritten, type SpecialInput } from '../graph/node.ts'
import { at, compare, r8, r9, rax, rbx, rcx, rdi, rdx, rsi } from './operands.ts'
import type { Stored, Writing } from './special.ts'
import type { Writer } from './writer.ts'

/** A pooling by its numbers; `pads` are top, left, bottom, right. */
export interface Pooling {
  kernel: readonly [number, number]
  strides: readonly [number, number]
  pads: readonly [number, number, number, number]
}

/** The mask of the channels beyond the last sixteen. */
export const tailMask = 1

export interface Cell {
  i: number
  j: number
}

/** Runs of outputs along one side that see the same cells of their windows: those inside the image. */
interface Run {
  first: number
  count: number
  from: number
  to: number
}

function runs(outputs: number, side: number, kernel: number, stride: number, pad: number): Run[] {
  const found: Run[] = []
  for (let o = 0; o < outputs; o++) {
    const begin = o * stride - pad
    const from = Math.max(0, -begin)
    const to = Math.min(kernel, side - begin)
    const last = found.at(-1)
    if (last && last.from === from && last.to === to) last.count++
    else found.push({ first: o, count: 1, from, to })
  }
  return found
}

/** Loops over images (shared by threads), outputs and channels; `body` is told the cells, with pointers aimed. */
export function overWindows(
  w: Writer,
  pooling: Pooling,
  [images, height, width, channels]: readonly number[],
  [outHeight, outWidth]: readonly number[],
  pointers: readonly { register: number; strides: readonly number[]; place: { offset: number }; windowed: boolean }[],
  perImage: (() => void) | undefined,
  body: (cells: Cell[], vectors: number, from: number, tail: boolean) => void,
): void {
  const { a } = w
  const { kernel, strides, pads } = pooling
  const done = a.label()
  const [imageCounter, rowCounter, columnCounter] = [2, 3, 4].map((i) => w.slot(i)) as [never, never, never]
  w.range(rcx, rax, images!)
  a.sub(rax, rcx)
  a.jump('e', done)
  a.mov(imageCounter, rax)
  const full = Math.floor(channels! / 16)
  const tail = channels! % 16
  if (tail > 0) w.laneMask(tailMask, tail)
  const step = (p: (typeof pointers)[number], side: number) => {
    const by = 4 * p.strides[side]!
    return p.windowed && side > 0 ? by * strides[side - 1]! : by
  }
  for (const p of pointers) {
    w.address(p.register, p.place)
    a.imul(rax, rcx, 4 * p.strides[0]!)
    a.add(p.register, rax)
    // A window begins in the padding.
    if (p.windowed) a.addNumber(p.register, -4 * (pads[0] * p.strides[1]! + pads[1] * p.strides[2]!))
  }
  const move = (side: number, times: number) => {
    for (const p of pointers) a.addNumber(p.register, times * step(p, side))
  }
  w.repeatCounted(imageCounter, () => {
    perImage?.()
    for (const row of runs(outHeight!, height!, kernel[0], strides[0], pads[0])) {
      w.repeat(rowCounter, row.count, () => {
        for (const column of runs(outWidth!, width!, kernel[1], strides[1], pads[1])) {
          const cells: Cell[] = []
          for (let i = row.from; i < row.to; i++) for (let j = column.from; j < column.to; j++) cells.push({ i, j })
          w.repeat(columnCounter, column.count, () => {
            for (let v = 0; v < full; v += 4) body(cells, Math.min(4, full - v), v, false)
            if (tail > 0) body(cells, 1, full, true)
            move(2, 1)
          })
        }
        move(2, -outWidth!)
        move(1, 1)
      })
    }
    move(1, -outHeight!)
    move(0, 1)
  })
  a.bind(done)
}

/** The largest number of each window of x [n, h, w, c]. */
export function maxPool(nodes: Nodes, x: Node, pooling: Pooling, shape: readonly number[]): Node {
  const write = ({ w, stored }: Writing) => {
    const { a } = w
    const [from, to] = [stored(x), stored(made)]
    const pointers = [
      { register: rsi, strides: from.strides, place: from.place, windowed: true },
      { register: rdi, strides: to.strides, place: to.place, windowed: false },
    ]
    overWindows(w, pooling, x.shape, shape.slice(1), pointers, undefined, (cells, vectors, first, tail) => {
      for (let v = 0; v < vectors; v++) {
        const place = ({ i, j }: Cell) => at(rsi, 4 * (i * from.strides[1]! + j * from.strides[2]!) + 64 * (first + v))
        const masked = tail ? { mask: tailMask, zero: true } : {}
        if (cells.length === 0) throw new NotWritten('a window that lies outside the image')
        largest(w, v, 8 + v, cells.map(place), masked)
        a.vstore('movups', at(rdi, 64 * (first + v)), v, tail ? { mask: tailMask } : {})
      }
    })
  }
  const inputs = [{ node: x, strided: true as const }]
  const made: Node = nodes.special(shape, 'float32', { name: 'max pool', inputs, strided: true, write })
  return made
}

/** to = the largest of some places, or NaN where one is. */
function largest(w: Writer, to: number, other: number, places: ReturnType<typeof at>[], masked: object): void {
  const { a } = w
  for (const [i, place] of places.entries()) {
    if (i === 0) {
      a.v1('movups', to, place, masked)
      continue
    }
    a.v1('movups', other, place, masked)
    a.vcmp('cmpps', 2, other, other, compare.unordered)
    a.v('maxps', to, other, to)
    a.v1('movups', to, other, { mask: 2 })
  }
}

/** Whether windows touch no cell twice, and whether they also leave out none. */
export function coverage({ kernel, strides, pads }: Pooling, shape: readonly number[], outputs: readonly number[]) {
  const sides = [0, 1] as const
  const apart = sides.every((side) => strides[side] >= kernel[side]) && pads.every((side) => side === 0)
  const whole = sides.every(
    (side) => strides[side] === kernel[side] && outputs[side + 1]! * strides[side] === shape[side + 1],
  )
  return { apart, tiled: apart && whole }
}

/** Zeros over one image's results; `rdx` is where its first window would begin. */
export function clearImage(w: Writer, { pads }: Pooling, to: Stored, shape: readonly number[]): void {
  const { a } = w
  const [, height, width, channels] = shape as [number, number, number, number]
  a.lea(rbx, at(rdx, 4 * (pads[0] * to.strides[1]! + pads[1] * to.strides[2]!)))
  a.v('pxord', 31, 31, 31)
  const numbers = width * channels
  w.repeat(r8, height, () => {
    const full = Math.floor(numbers / 16)
    a.mov(r9, rbx)
    w.repeat(rcx, full, () => {
      a.vstore('movups', at(r9), 31)
      a.addNumber(r9, 64)
    })
    if (numbers % 16 > 0) {
      w.laneMask(3, numbers % 16)
      a.vstore('movups', at(r9), 31, { mask: 3 })
    }
    a.addNumber(rbx, 4 * to.strides[1]!)
  })
}

/** dx of a max pool: each of dy goes to the first of the largest cells of its window. */
export function maxPoolGradient(nodes: Nodes, dy: Node, x: Node, pooling: Pooling): Node {
  const finish: Finish = {}
  const { shape } = x
  const { apart, tiled } = coverage(pooling, shape, dy.shape)
  const write = ({ w, stored }: Writing) => {
    const { a } = w
    const [from, into, to] = [stored(x), stored(dy), stored(made)]
    const pointers = [
      { register: rsi, strides: from.strides, place: from.place, windowed: true },
      { register: rdi, strides: into.strides, place: into.place, windowed: false },
      { register: rdx, strides: to.strides, place: to.place, windowed: true },
    ]
    const clear = () => clearImage(w, pooling, to, shape)
    overWindows(
      w,
      pooling,
      shape,
      dy.shape.slice(1),
      pointers,
      tiled ? undefined : clear,
      (cells, vectors, first, tail) => {
        for (let v = 0; v < vectors; v++) {
          const at64 = 64 * (first + v)
          const seen = ({ i, j }: Cell) => at(rsi, 4 * (i * from.strides[1]! + j * from.strides[2]!) + at64)
          const given = ({ i, j }: Cell) => at(rdx, 4 * (i * to.strides[1]! + j * to.strides[2]!) + at64)
          const masked = tail ? { mask: tailMask, zero: true } : {}
          const stored_ = tail ? { mask: tailMask } : {}
          const [best, other, gradient, result] = [0, 1, 2, 3]
          largest(w, best, other, cells.map(seen), masked)
          a.v1('movups', gradient, at(rdi, at64), masked)
          if (finish.where) {
            a.v('pxord', result, result, result)
            a.vcmp('cmpps', 2, best, result, compare.gt)
            a.v('maxps', result, result, best)
            a.v1('broadcastss', result, w.float(1), { mask: 2 })
            a.v('mulps', gradient, gradient, result)
          }
          // Mask 4: lanes whose largest cell is not found yet. What is not a number equals nothing, so it counts here.
          a.movNumber(rax, 0xffff)
          a.kmov(4, rax)
          for (const cell of cells) {
            a.v1('movups', other, seen(cell), masked)
            a.vcmp('cmpps', 2, other, best, compare.eq)
            a.vcmp('cmpps', 3, other, other, compare.unordered)
            a.kor(2, 2, 3)
            a.kand(2, 2, 4)
            a.kandn(4, 2, 4)
            if (apart) {
              a.v1('movups', result, gradient, { mask: 2, zero: true })
              a.vstore('movups', given(cell), result, stored_)
            } else {
              a.v1('movups', result, given(cell), masked)
              a.v('addps', result, result, gradient, { mask: 2 })
              a.vstore('movups', given(cell), result, stored_)
            }
          }
        }
      },
    )
  }
  const inputs: SpecialInput[] = [
    { node: dy, strided: true },
    { node: x, strided: true },
  ]
  const made: Node = nodes.special(shape, 'float32', {
    name: 'max pool gradient',
    inputs,
    strided: true,
    finish,
    write,
  })
  return made
}
