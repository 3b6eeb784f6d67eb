import { type Node, type Nodes, NotWritten } from '../graph/node.ts'
import { at, rdi, rdx, rsi } from './operands.ts'
import { type Cell, clearImage, coverage, overWindows, type Pooling, tailMask } from './pooling.ts'
import type { Writing } from './special.ts'

/** What one cell inside the images counts. */
function shareOf(cells: readonly Cell[]): number {
  if (cells.length === 0) throw new NotWritten('a window that lies outside the image')
  return 1 / cells.length
}

/** The mean of those numbers of each window of x [n, h, w, c] that lie inside the images. */
export function averagePool(nodes: Nodes, x: Node, pooling: Pooling, shape: readonly number[]): Node {
  const write = ({ w, stored }: Writing) => {
    const { a } = w
    const [from, to] = [stored(x), stored(made)]
    const pointers = [
      { register: rsi, strides: from.strides, place: from.place, windowed: true },
      { register: rdi, strides: to.strides, place: to.place, windowed: false },
    ]
    overWindows(w, pooling, x.shape, shape.slice(1), pointers, undefined, (cells, vectors, first, tail) => {
      const [sum, other, share] = [0, 1, 2]
      a.v1('broadcastss', share, w.float(shareOf(cells)))
      for (let v = 0; v < vectors; v++) {
        const at64 = 64 * (first + v)
        const masked = tail ? { mask: tailMask, zero: true } : {}
        for (const [i, cell] of cells.entries()) {
          const place = at(rsi, 4 * (cell.i * from.strides[1]! + cell.j * from.strides[2]!) + at64)
          a.v1('movups', i === 0 ? sum : other, place, masked)
          if (i > 0) a.v('addps', sum, sum, other)
        }
        a.v('mulps', sum, sum, share)
        a.vstore('movups', at(rdi, at64), sum, tail ? { mask: tailMask } : {})
      }
    })
  }
  const inputs = [{ node: x, strided: true as const }]
  const made: Node = nodes.special(shape, 'float32', { name: 'average pool', inputs, strided: true, write })
  return made
}

/** dx of an average pool, of `shape`: each cell of a window gets the same share of dy. */
export function averagePoolGradient(nodes: Nodes, dy: Node, pooling: Pooling, shape: readonly number[]): Node {
  const { apart, tiled } = coverage(pooling, shape, dy.shape)
  const write = ({ w, stored }: Writing) => {
    const { a } = w
    const [from, to] = [stored(dy), stored(made)]
    const pointers = [
      { register: rdi, strides: from.strides, place: from.place, windowed: false },
      { register: rdx, strides: to.strides, place: to.place, windowed: true },
    ]
    const clear = tiled ? undefined : () => clearImage(w, pooling, to, shape)
    overWindows(w, pooling, shape, dy.shape.slice(1), pointers, clear, (cells, vectors, first, tail) => {
      const [gradient, other, share] = [0, 1, 2]
      a.v1('broadcastss', share, w.float(shareOf(cells)))
      for (let v = 0; v < vectors; v++) {
        const at64 = 64 * (first + v)
        const masked = tail ? { mask: tailMask, zero: true } : {}
        a.v1('movups', gradient, at(rdi, at64), masked)
        a.v('mulps', gradient, gradient, share)
        for (const cell of cells) {
          const place = at(rdx, 4 * (cell.i * to.strides[1]! + cell.j * to.strides[2]!) + at64)
          if (!apart) {
            a.v1('movups', other, place, masked)
            a.v('addps', other, other, gradient)
          }
          a.vstore('movups', place, apart ? gradient : other, tail ? { mask: tailMask } : {})
        }
      }
    })
  }
  const inputs = [{ node: dy, strided: true as const }]
  const made: Node = nodes.special(shape, 'float32', { name: 'average pool gradient', inputs, strided: true, write })
  return made
}
