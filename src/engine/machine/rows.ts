import type { Node, Nodes, SpecialInput } from '../graph/node.ts'
import { clear } from './blocks.ts'
import { at, type Label, r8, r12, r13, rax, rbx, rcx, rdi, rdx, rsi } from './operands.ts'
import type { Writing } from './special.ts'
import { moved, type Writer } from './writer.ts'

const tailMask = 1

/** Rows of x [rows, width] by whole numbers [n]: [n, width]. Places outside are an error of the caller's. */
export function gatherRows(nodes: Nodes, x: Node, indices: Node, count: number, width: number, rows: number): Node {
  const write = ({ w, stored }: Writing) => {
    const { a } = w
    const done = a.label()
    w.range(rcx, rax, count)
    a.sub(rax, rcx)
    a.jump('e', done)
    a.mov(w.slot(2), rax)
    w.address(r12, stored(indices).place)
    a.imul(rax, rcx, 4)
    a.add(r12, rax)
    w.address(r13, stored(made).place)
    a.imul(rax, rcx, 4 * width)
    a.add(r13, rax)
    w.address(rbx, stored(x).place)
    const full = Math.floor(width / 16)
    if (width % 16 > 0) w.laneMask(tailMask, width % 16)
    w.repeatCounted(w.slot(2), () => {
      const [inside, next] = [a.label(), a.label()]
      a.mov32(rax, at(r12))
      a.movNumber(rdx, rows)
      a.cmp(rax, rdx)
      a.jump('b', inside)
      a.v('pxord', 0, 0, 0)
      a.mov(rdi, r13)
      w.repeat(rcx, full, () => {
        a.vstore('movups', at(rdi), 0)
        a.addNumber(rdi, 64)
      })
      if (width % 16 > 0) a.vstore('movups', at(rdi), 0, { mask: tailMask })
      a.jmp(next)
      a.bind(inside)
      a.imul(rsi, rax, 4 * width)
      a.add(rsi, rbx)
      a.mov(rdi, r13)
      w.repeat(rcx, full, () => {
        a.v1('movups', 0, at(rsi))
        a.vstore('movups', at(rdi), 0)
        a.addNumber(rsi, 64)
        a.addNumber(rdi, 64)
      })
      if (width % 16 > 0) {
        a.v1('movups', 0, at(rsi), { mask: tailMask, zero: true })
        a.vstore('movups', at(rdi), 0, { mask: tailMask })
      }
      a.bind(next)
      a.addNumber(r12, 4)
      a.addNumber(r13, 4 * width)
    })
    a.bind(done)
  }
  const inputs = [{ node: x }, { node: indices }]
  const made: Node = nodes.special([count, width], x.dtype, { name: 'gather', inputs, strided: false, write })
  return made
}

/** Copies `width` numbers from rsi to rdi, which are moved on; uses rcx. */
function copyRow(w: Writer, width: number): void {
  const { a } = w
  w.repeat(rcx, Math.floor(width / 16), () => {
    a.v1('movups', 0, at(rsi))
    a.vstore('movups', at(rdi), 0)
    a.addNumber(rsi, 64)
    a.addNumber(rdi, 64)
  })
  const rest = width % 16
  if (rest === 0) return
  a.movNumber(rax, 2 ** rest - 1)
  a.kmov(tailMask, rax)
  a.v1('movups', 0, at(rsi), { mask: tailMask, zero: true })
  a.vstore('movups', at(rdi), 0, { mask: tailMask })
  a.addNumber(rsi, 4 * rest)
  a.addNumber(rdi, 4 * rest)
}

/** Rows put side by side: parts [rows, width of the part] to [rows, all widths]. */
export function sideBySide(nodes: Nodes, parts: readonly { node: Node; width: number }[], rows: number): Node {
  const whole = parts.reduce((sum, { width }) => sum + width, 0)
  const write = ({ w, stored }: Writing) => {
    const { a } = w
    let first = 0
    for (const { node, width } of parts) {
      const done = a.label()
      w.range(rdx, rax, rows)
      a.sub(rax, rdx)
      a.jump('e', done)
      a.mov(w.slot(2), rax)
      w.address(rsi, stored(node).place)
      a.imul(rax, rdx, 4 * width)
      a.add(rsi, rax)
      w.address(rdi, moved(stored(made).place, 4 * first))
      a.imul(rax, rdx, 4 * whole)
      a.add(rdi, rax)
      w.repeatCounted(w.slot(2), () => {
        copyRow(w, width)
        a.addNumber(rdi, 4 * (whole - width))
      })
      a.bind(done)
      first += width
    }
  }
  const inputs: SpecialInput[] = parts.map(({ node }) => ({ node }))
  const { dtype } = parts[0]!.node
  const made: Node = nodes.special([rows, whole], dtype, { name: 'concatenation', inputs, strided: false, write })
  return made
}

/** Rows x [rows, width] summed by their ids: [segments, width]. Rows with ids out of range count nowhere. */
export function segmentSum(
  nodes: Nodes,
  x: Node,
  ids: Node,
  sides: { rows: number; width: number; segments: number },
): Node {
  const { rows, width, segments } = sides
  const write = ({ w, stored }: Writing) => {
    const { a } = w
    w.address(rbx, stored(made).place)
    clear(w, segments * width, false)
    const done = a.label()
    // Threads share the columns, so that no two add to the same number.
    const vectors = Math.ceil(width / 16)
    w.range(r8, rax, vectors)
    a.sub(rax, r8)
    a.jump('e', done)
    a.mov(w.slot(2), rax)
    a.shl(r8, 6)
    if (width % 16 > 0) w.laneMask(tailMask, width % 16)
    w.address(rbx, stored(made).place)
    w.address(r12, stored(x).place)
    w.address(r13, stored(ids).place)
    w.repeat(w.slot(3), rows, () => {
      const next = a.label()
      a.mov32(rax, at(r13))
      a.movNumber(rdx, segments)
      a.cmp(rax, rdx)
      a.jump('ae', next)
      a.imul(rdi, rax, 4 * width)
      a.add(rdi, rbx)
      a.add(rdi, r8)
      a.lea(rsi, at(r12, 0, r8))
      a.mov(rcx, w.slot(2))
      addRow(w, width, next)
      a.bind(next)
      a.addNumber(r12, 4 * width)
      a.addNumber(r13, 4)
    })
    a.bind(done)
  }
  const inputs: SpecialInput[] = [{ node: x }, { node: ids }]
  const made: Node = nodes.special([segments, width], 'float32', { name: 'segment sum', inputs, strided: false, write })
  return made
}

/** Adds rcx vectors from rsi to those at rdi; the row's last one may not be full. */
function addRow(w: Writer, width: number, end: Label): void {
  const { a } = w
  const last = a.label()
  const again = a.here()
  if (width % 16 > 0) {
    // r12 is where the row begins: whether a whole vector would go beyond its end.
    a.lea(rdx, at(rsi, 64))
    a.sub(rdx, r12)
    a.cmpNumber(rdx, 4 * width)
    a.jump('g', last)
  }
  a.v1('movups', 0, at(rsi))
  a.v('addps', 0, 0, at(rdi))
  a.vstore('movups', at(rdi), 0)
  a.addNumber(rsi, 64)
  a.addNumber(rdi, 64)
  a.dec(rcx)
  a.jump('ne', again)
  a.jmp(end)
  a.bind(last)
  a.v1('movups', 0, at(rsi), { mask: tailMask, zero: true })
  a.v('addps', 0, 0, at(rdi), { mask: tailMask, zero: true })
  a.vstore('movups', at(rdi), 0, { mask: tailMask })
}
