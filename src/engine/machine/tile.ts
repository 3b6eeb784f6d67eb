import { at, type Label, r9, r10, r11, rdi, rdx, rsi } from './operands.ts'
import type { Writer } from './writer.ts'

/** One loop over what is summed; steps in bytes. */
export interface SumLoop {
  /** Undefined: as often as register r11 says, which only the outermost loop may. */
  count: number | undefined
  leftStep: number
  rightStep: number
}

/**
 * A tile of a product: result[r][c] (+)= sum over k of left[r][k] x right[k][c]. Left numbers are repeated in all lanes,
 * rows of the right are read as `vectors` vectors. All offsets in bytes.
 */
export interface Tile {
  /** Of each row's first number from rsi. */
  left: readonly number[]
  /** Of each row of the result from rdx. */
  result: readonly number[]
  vectors: number
  /** Lanes of the last vector: 16 unless the result is narrower. Wants mask 1. */
  lanes: number
  /** From the outermost to the innermost; right rows are read from rdi. */
  loops: readonly SumLoop[]
  /** Whether the result's numbers are added to. */
  accumulate: boolean
  /** Done to each vector before it is stored. */
  finish?: (register: number, row: number, vector: number) => void
  /** Done with each vector instead of storing it. */
  take?: (register: number, row: number, vector: number) => void
}

const registersInAll = 32
const sumMask = 1

/** Instructions that the innermost loop's body may have. */
const bodyLimit = 340

function multiply(w: Writer, { left, vectors, lanes }: Tile, leftAt: number, rightAt: number): void {
  const { a } = w
  const rights = registersInAll - vectors
  const spare = rights - left.length * vectors
  for (let v = 0; v < vectors; v++) {
    const from = at(rdi, rightAt + 64 * v)
    if (v === vectors - 1 && lanes < 16) a.v1('movups', rights + v, from, { mask: sumMask, zero: true })
    else a.v1('movups', rights + v, from)
  }
  const repeated = vectors === 1 || spare < 1
  const turns = Math.min(spare, 2)
  for (const [r, offset] of left.entries()) {
    const from = at(rsi, leftAt + offset)
    if (repeated) {
      for (let v = 0; v < vectors; v++) a.v('fmadd231ps', r * vectors + v, rights + v, from, { repeat: true })
      continue
    }
    const one = rights - 1 - (r % turns)
    a.v1('broadcastss', one, from)
    for (let v = 0; v < vectors; v++) a.v('fmadd231ps', r * vectors + v, one, rights + v)
  }
}

function innermost(w: Writer, tile: Tile, { count, leftStep, rightStep }: SumLoop): void {
  const { a } = w
  const each = tile.left.length * (tile.vectors + 1) + tile.vectors
  if (count === undefined) {
    w.repeatCounted(r11, () => {
      multiply(w, tile, 0, 0)
      a.addNumber(rsi, leftStep)
      a.addNumber(rdi, rightStep)
    })
    return
  }
  const most = Math.max(1, Math.min(count, Math.floor(bodyLimit / each)))
  let unroll = most
  for (let u = most; u > most / 2; u--)
    if (count % u === 0) {
      unroll = u
      break
    }
  const steps = (n: number) => {
    for (let u = 0; u < n; u++) multiply(w, tile, u * leftStep, u * rightStep)
    a.addNumber(rsi, n * leftStep)
    a.addNumber(rdi, n * rightStep)
  }
  w.repeat(r9, Math.floor(count / unroll), () => steps(unroll))
  if (count % unroll > 0) steps(count % unroll)
}

function loop(w: Writer, tile: Tile, depth: number, counters: readonly number[]): void {
  const { loops } = tile
  const own = loops[depth]!
  if (depth === loops.length - 1) {
    innermost(w, tile, own)
    return
  }
  const inner = loops[depth + 1]!
  const body = () => {
    loop(w, tile, depth + 1, counters.slice(1))
    w.a.addNumber(rsi, own.leftStep - inner.count! * inner.leftStep)
    w.a.addNumber(rdi, own.rightStep - inner.count! * inner.rightStep)
  }
  if (own.count === undefined) w.repeatCounted(r11, body)
  else w.repeat(counters[0]!, own.count, body)
}

/** Loops that go on where the one inside ended are one loop. */
function merged(loops: readonly SumLoop[]): SumLoop[] {
  const kept: SumLoop[] = []
  for (const own of [...loops].reverse()) {
    const inner = kept[0]
    if (own.count === 1) continue
    const follows =
      inner?.count !== undefined &&
      own.count !== undefined &&
      own.leftStep === inner.count * inner.leftStep &&
      own.rightStep === inner.count * inner.rightStep
    if (follows) kept[0] = { ...inner, count: inner.count! * own.count! }
    else kept.unshift(own)
  }
  return kept.length > 0 ? kept : [{ count: 1, leftStep: 0, rightStep: 0 }]
}

/** Writes the tile as a subroutine: left at rsi, right at rdi, result at rdx; uses r8 to r11 and keeps rdx. */
export function writeTile(w: Writer, given: Tile): Label {
  const tile = { ...given, loops: merged(given.loops) }
  const { left, result, vectors, lanes, accumulate, finish, take } = tile
  if (left.length * vectors + vectors > registersInAll) throw new Error('the tile is larger than the registers')
  const { a } = w
  const entry = a.here()
  const each = (does: (register: number, offset: number, last: boolean, row: number, vector: number) => void) => {
    for (let r = 0; r < left.length; r++)
      for (let v = 0; v < vectors; v++)
        does(r * vectors + v, result[r]! + 64 * v, v === vectors - 1 && lanes < 16, r, v)
  }
  each((register) => a.v('pxord', register, register, register))
  loop(w, tile, 0, [8, r10])
  each((register, offset, masked, row, vector) => {
    const options = masked ? { mask: sumMask } : {}
    // In the end: sums of sums lose fewer digits than one long sum.
    if (accumulate) a.v('addps', register, register, at(rdx, offset), options)
    finish?.(register, row, vector)
    if (take) take(register, row, vector)
    else a.vstore('movups', at(rdx, offset), register, options)
  })
  a.ret()
  return entry
}

/** How many cycles a processor with two multipliers and two loads a cycle takes for one step of a tile's sum. */
export function tileCycles(rows: number, vectors: number): number {
  const repeated = vectors === 1 || rows * vectors + vectors >= registersInAll
  const loads = repeated ? rows * vectors + vectors : rows + vectors
  // Fewer sums than 8 wait for each other: a multiply-add takes 4 cycles.
  return Math.max((rows * vectors) / 2, loads / 2, 4)
}

export const fits = (rows: number, vectors: number): boolean => rows * vectors + vectors <= registersInAll
