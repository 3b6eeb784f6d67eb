import type { Fold } from '../graph/node.ts'
import { Body, beginPart, firstCounter, nest, runtimeCount, setTailMask, tailMask, vectors } from './body.ts'
import { compare, type Label, rax } from './operands.ts'
import type { Loops, Result } from './steps.ts'
import type { Writer } from './writer.ts'

const beginnings: Record<Fold, [float: number, whole: number]> = {
  sum: [0, 0],
  product: [1, 1],
  max: [Number.NEGATIVE_INFINITY, -(2 ** 31)],
  min: [Number.POSITIVE_INFINITY, 2 ** 31 - 1],
}

const wholeFolds = { sum: 'paddd', product: 'pmulld', max: 'pmaxsd', min: 'pminsd' } as const

function foldInto(w: Writer, fold: Fold, float: boolean, to: number, x: number): void {
  const { a } = w
  if (!float) a.v(wholeFolds[fold], to, to, x)
  else if (fold === 'sum' || fold === 'product') a.v(fold === 'sum' ? 'addps' : 'mulps', to, to, x)
  else {
    // The instruction gives its second operand where one is not a number.
    a.vcmp('cmpps', 2, x, x, compare.unordered)
    a.v(fold === 'max' ? 'maxps' : 'minps', to, x, to)
    a.v1('movups', to, x, { mask: 2 })
  }
}

function setBeginning(w: Writer, fold: Fold, float: boolean, to: number, mask = 0): void {
  const [number, integer] = beginnings[fold]
  if (fold === 'sum' && mask === 0) w.a.v('pxord', to, to, to)
  else w.a.v1('broadcastss', to, float ? w.float(number) : w.integer(integer), { mask })
}

const accumulatorLimit = 16

/** What is summed up one by one loses digits: so many at most, or the root of how many, then the sums are summed. */
const fewAtOnce = 64
const atOnce = (count: number) => Math.max(fewAtOnce, Math.ceil(Math.sqrt(count)))

/** The sides that are kept, those that are folded, and last the one that is read in vectors. */
function orderForFold(loops: Loops): void {
  const { sides } = loops
  const last = sides.length - 1
  const places = sides.map((_, i) => i).slice(0, -1)
  loops.order([...places.filter((i) => !sides[i]!.folded), ...places.filter((i) => sides[i]!.folded), last])
}

/** Lets the threads share a kept side; whether there is one. */
function shareKept(loops: Loops, threads: number): boolean {
  const kept = loops.sides.slice(0, -1).map(({ count, folded }) => (folded ? 0 : count))
  const best = kept.findIndex((count) => count >= 4 * threads)
  const side = best >= 0 ? best : kept.indexOf(Math.max(0, ...kept))
  if (side < 0 || kept[side]! < threads) return false
  loops.order([side, ...loops.sides.map((_, i) => i).filter((i) => i !== side)])
  loops.sides[0]!.shared = true
  return true
}

/** Cuts the last side, which is kept, into pieces that have room in the registers: vectors at once. */
function cutIntoBlocks(loops: Loops): number {
  const last = loops.sides.length - 1
  const { count } = loops.sides[last]!
  const most = Math.max(1, Math.floor(accumulatorLimit / 2 / loops.results.length))
  const vectorCount = Math.ceil(count / 16)
  if (vectorCount <= most) return vectorCount
  let block = most
  if (count % 16 === 0) {
    while (vectorCount % block !== 0) block--
    loops.cut(last, 16 * block)
  }
  return block
}

/** Writes a stage of folds. */
export function writeFold(w: Writer, loops: Loops, small: boolean): void {
  orderForFold(loops)
  loops.merge(() => true)
  const inRows = loops.sides.at(-1)!.folded
  const block = inRows ? 1 : cutIntoBlocks(loops)
  orderForFold(loops)
  const done = w.a.label()
  if (small || w.threads === 1 || !shareKept(loops, w.threads)) w.alone(done)
  if (inRows) writeRows(w, loops, done)
  else writeColumns(w, loops, block)
  w.a.bind(done)
}

function start(w: Writer, body: Body, done: Label): void {
  if (body.loops.sides[0]!.shared) beginPart(w, body, 0, done)
  else body.begin()
}

/** Folds the last side, and with it others: one number a row. */
function writeRows(w: Writer, loops: Loops, done: Label): void {
  const { a } = w
  const body = new Body(w, loops)
  const { sides, results } = loops
  const sums = results.map(() => body.take())
  const firstFolded = sides.findIndex((side) => side.folded)
  const width = sides.at(-1)!.count
  const inRow = Math.floor(width / 16)
  const inAll = sides.slice(firstFolded, -1).reduce((product, { count }) => product * count, inRow)
  const inParts = inAll >= 2 * fewAtOnce && inRow >= 8 && 4 * results.length <= accumulatorLimit
  const parts = inParts ? results.map(() => body.take()) : sums
  setTailMask(w, width)
  body.prepare()
  start(w, body, done)
  const begin = (of: number[]) => {
    for (const [i, result] of results.entries()) {
      const { fold, float } = foldOf(result)
      setBeginning(w, fold, float, of[i]!)
    }
  }
  const add = (vector: number, masked: boolean) =>
    body.evaluate(vector, masked, (result, register, spare) => {
      const { fold, float } = foldOf(result)
      let value = register
      if (masked) {
        value = spare()
        a.v1('movups', value, register)
        a.knot(3, tailMask)
        setBeginning(w, fold, float, value, 3)
      }
      foldInto(w, fold, float, parts[results.indexOf(result)]!, value)
    })
  const unroll = loops.steps.length > 12 ? 1 : 4
  const part = (count: number) => {
    begin(parts)
    vectors(w, body, count, unroll, add)
    for (const [i, result] of results.entries()) {
      const { fold, float } = foldOf(result)
      foldInto(w, fold, float, sums[i]!, parts[i]!)
    }
  }
  const row = () => {
    if (!inParts) {
      vectors(w, body, width, unroll, add)
      return
    }
    const piece = 16 * atOnce(inRow)
    const pieces = Math.floor(width / piece)
    const by = (n: number) => body.move(({ steps }) => n * steps.at(-1)!)
    w.repeat(w.slot(firstCounter + sides.length - 1), pieces, () => {
      part(piece)
      by(piece)
    })
    if (width > pieces * piece) part(width - pieces * piece)
    by(-pieces * piece)
  }
  nest(body, 0, firstFolded, runtimeCount(w), () => {
    begin(sums)
    nest(body, firstFolded, sides.length - 1, runtimeCount(w), row)
    const other = body.take()
    a.movNumber(rax, 1)
    a.kmov(3, rax)
    for (const [i, result] of results.entries()) {
      foldLanes(w, foldOf(result), sums[i]!, other)
      a.vstore('movups', body.home(result.access, 0), sums[i]!, { mask: 3 })
    }
    body.give(other)
  })
}

function foldOf({ output, access }: Result): { fold: Fold; float: boolean } {
  if (output.kind !== 'fold') throw new Error('a stage of folds only folds')
  return { fold: output.fold, float: access.dtype === 'float32' }
}

/** Folds the 16 lanes; each gets the result. */
function foldLanes(w: Writer, { fold, float }: { fold: Fold; float: boolean }, sum: number, other: number): void {
  const { a } = w
  for (const order of [0x4e, 0xb1]) {
    a.vn('shuff32x4', other, sum, sum, order)
    foldInto(w, fold, float, sum, other)
  }
  for (const order of [0x4e, 0xb1]) {
    a.v1n('permilps', other, sum, order)
    foldInto(w, fold, float, sum, other)
  }
}

/** Folds all sides but the last, `block` vectors at once. */
function writeColumns(w: Writer, loops: Loops, block: number): void {
  const { a } = w
  const body = new Body(w, loops)
  const { sides, results } = loops
  const last = sides.length - 1
  const firstFolded = sides.findIndex((side) => side.folded)
  const rows = sides[firstFolded]!.count
  const inTwo = last - firstFolded >= 2
  const isLong = !inTwo && rows >= 2 * fewAtOnce
  const count = sides[last]!.count
  const inAll = Math.ceil(count / 16)
  setTailMask(w, count)
  const total = results.map(() => Array.from({ length: Math.min(block, inAll) }, () => body.take()))
  const part = inTwo || isLong ? total.map((of) => of.map(() => body.take())) : total
  body.prepare()
  const begin = (sums: number[][], n: number) => {
    for (const [i, result] of results.entries()) {
      const { fold, float } = foldOf(result)
      for (const sum of sums[i]!.slice(0, n)) setBeginning(w, fold, float, sum)
    }
  }
  for (let from = 0; from < inAll; from += block) {
    const n = Math.min(block, inAll - from)
    const isTail = (v: number) => (from + v + 1) * 16 > count
    const again = a.label()
    start(w, body, again)
    const add = () => {
      for (let v = 0; v < n; v++)
        body.evaluate(from + v, isTail(v), (result, register) => {
          const { fold, float } = foldOf(result)
          foldInto(w, fold, float, part[results.indexOf(result)]![v]!, register)
        })
    }
    const inPart = (addAll: () => void) => {
      begin(part, n)
      addAll()
      for (const [i, result] of results.entries()) {
        const { fold, float } = foldOf(result)
        for (let v = 0; v < n; v++) foldInto(w, fold, float, total[i]![v]!, part[i]![v]!)
      }
    }
    const someRows = (count: number) =>
      inPart(() =>
        w.repeat(w.slot(firstCounter + firstFolded), count, () => {
          add()
          body.move(({ steps }) => steps[firstFolded]!)
        }),
      )
    nest(body, 0, firstFolded, runtimeCount(w), () => {
      begin(total, n)
      if (inTwo)
        nest(body, firstFolded, firstFolded + 1, runtimeCount(w), () =>
          inPart(() => nest(body, firstFolded + 1, last, runtimeCount(w), add)),
        )
      else if (isLong) {
        const piece = atOnce(rows)
        w.repeat(w.slot(firstCounter + last), Math.floor(rows / piece), () => someRows(piece))
        if (rows % piece > 0) someRows(rows % piece)
        body.move(({ steps }) => -rows * steps[firstFolded]!)
      } else nest(body, firstFolded, last, runtimeCount(w), add)
      for (const [i, result] of results.entries())
        for (let v = 0; v < n; v++) body.store(result, total[i]![v]!, from + v, isTail(v))
    })
    a.bind(again)
  }
}
