import { NotWritten } from '../graph/node.ts'
import { formulas } from './formulas.ts'
import { at, type Label, type Memory, r8, r9, r10, r11, r12, r13, rax, rbx, rcx, rdi, rdx, rsi } from './operands.ts'
import { type Access, type Loops, type Result, type Side, type Step, widthOf } from './steps.ts'
import { memory, type Place, type Writer } from './writer.ts'

/** Registers that point to what a stage reads and writes. */
const cursorRegisters = [rbx, rsi, rdi, rdx, r8, r9, r10, r11, r12, r13]
export const tailMask = 1
const hoistLimit = 10
const partCount = 0
/** Of the outermost loop, on the stack; the others' follow. */
export const firstCounter = 2

interface Cursor {
  register: number
  /** Where it points to at the begin. */
  place: Place
  steps: number[]
}

interface Registers {
  free: number[]
  /** By step: those that hold the same value for the whole stage. */
  hoisted: Map<number, number>
  /** By step in bytes: the lanes' distances for what is gathered. */
  lanes: Map<number, number>
}

/** Writes the innermost side in vectors, and what surrounds it. */
export class Body {
  readonly w: Writer
  readonly loops: Loops
  readonly cursors: Cursor[] = []
  private readonly homes = new Map<Access, { cursor: Cursor; displacement: number }>()
  private readonly registers: Registers
  private readonly lastUse: number[]

  constructor(w: Writer, loops: Loops) {
    this.w = w
    this.loops = loops
    const { steps, results } = loops
    this.lastUse = steps.map((_, i) => i)
    for (const [i, step] of steps.entries())
      if (step.kind === 'apply') for (const arg of step.args) this.lastUse[arg] = Math.max(this.lastUse[arg]!, i)
    for (const { step } of results) this.lastUse[step] = Number.POSITIVE_INFINITY
    this.registers = { free: Array.from({ length: 32 }, (_, i) => 31 - i), hoisted: new Map(), lanes: new Map() }
    this.aim()
  }

  private isScalar(access: Access): boolean {
    return access.steps.every((step) => step === 0)
  }

  /** Gives each access a register to be found from; those that move alike share one. */
  private aim(): void {
    const shared = new Map<string, Cursor>()
    const written = new Set(this.loops.results.map((result) => result.access))
    for (const access of this.loops.all()) {
      if (this.isScalar(access) && !written.has(access)) continue
      const { external, offset } = access.place
      const key = `${external ?? 'own'} ${access.steps}`
      let cursor = shared.get(key)
      if (!cursor) {
        const register = cursorRegisters[this.cursors.length]
        if (register === undefined) throw new NotWritten('a loop over so many arrays')
        cursor = { register, place: access.place, steps: access.steps }
        shared.set(key, cursor)
        this.cursors.push(cursor)
      }
      this.homes.set(access, { cursor, displacement: offset - cursor.place.offset })
    }
  }

  take(): number {
    const register = this.registers.free.pop()
    if (register === undefined) throw new NotWritten('a formula with so many numbers in between')
    return register
  }

  give(register: number): void {
    this.registers.free.push(register)
  }

  /** Loads what is the same throughout, as far as there is room. */
  prepare(): void {
    const { a } = this.w
    const inner = this.loops.sides.length - 1
    for (const access of this.loops.all()) {
      const step = access.steps[inner]!
      if (step === 0 || step === widthOf(access.dtype)) continue
      if (access.dtype === 'bool') throw new NotWritten('scattered truth values')
      if (this.registers.lanes.has(step)) continue
      const register = this.take()
      a.v1('movups', register, at(memory, this.w.words(Array.from({ length: 16 }, (_, lane) => lane * step))))
      this.registers.lanes.set(step, register)
    }
    for (const [i, step] of this.loops.steps.entries()) {
      if (this.registers.hoisted.size >= hoistLimit) return
      if (step.kind === 'apply' || (step.kind === 'read' && !this.isScalar(step.access))) continue
      const register = this.take()
      this.load(register, step, 0, false)
      this.registers.hoisted.set(i, register)
    }
  }

  private load(to: number, step: Exclude<Step, { kind: 'apply' }>, vector: number, masked: boolean): void {
    const { a } = this.w
    if (step.kind === 'constant') a.v1('broadcastss', to, step.place)
    else if (this.isScalar(step.access)) this.loadScalar(to, step.access)
    else {
      const { access } = step
      const from = this.home(access, vector)
      const options = masked ? { mask: tailMask, zero: true } : {}
      const moves = access.steps.at(-1)!
      if (access.dtype === 'bool') {
        if (moves !== 1) throw new NotWritten('a repeated truth value')
        a.v1('pmovzxbd', to, from, options)
      } else if (moves === 0) a.v1('broadcastss', to, from)
      else if (moves === 4) a.v1('movups', to, from, options)
      else this.gather(to, from, this.registers.lanes.get(moves)!, masked)
    }
  }

  private loadScalar(to: number, { place, dtype }: Access): void {
    if (dtype === 'bool') throw new NotWritten('a single truth value')
    this.w.address(rax, place)
    this.w.a.v1('broadcastss', to, at(rax))
  }

  private gather(to: number, { base, displacement }: Memory, lanes: number, masked: boolean): void {
    const { a } = this.w
    if (masked) a.kor(2, tailMask, tailMask)
    else {
      a.movNumber(rax, 0xffff)
      a.kmov(2, rax)
    }
    a.v('pxord', to, to, to)
    a.vgather(to, base, lanes, 1, displacement, 2)
  }

  /** The place of an access, `vector` vectors on along the innermost side. */
  home(access: Access, vector: number): Memory {
    const { cursor, displacement } = this.homes.get(access)!
    return at(cursor.register, displacement + vector * 16 * access.steps.at(-1)!)
  }

  /** Computes all results of one vector and gives each to `use`. */
  evaluate(
    vector: number,
    masked: boolean,
    use: (result: Result, register: number, spare: () => number) => void,
  ): void {
    const { steps, results } = this.loops
    const { free, hoisted } = this.registers
    const holds = new Array<number | undefined>(steps.length)
    const owned = new Set<number>()
    const before = [...free]
    const borrow = () => this.take()
    for (const [i, step] of steps.entries()) {
      const ready = hoisted.get(i)
      if (ready !== undefined) holds[i] = ready
      else {
        const to = this.take()
        owned.add(i)
        if (step.kind === 'apply') {
          const spares: number[] = []
          const spare = () => {
            const register = borrow()
            spares.push(register)
            return register
          }
          const formula = formulas[step.formula]
          if (!formula) throw new NotWritten(step.formula)
          formula(this.w, to, step.args.map((arg) => holds[arg]!) as never, spare, step.parameter)
          free.push(...spares)
        } else this.load(to, step, vector, masked)
        holds[i] = to
      }
      if (step.kind === 'apply')
        for (const arg of new Set(step.args))
          if (owned.has(arg) && this.lastUse[arg] === i) {
            free.push(holds[arg]!)
            owned.delete(arg)
          }
    }
    for (const result of results) use(result, holds[result.step]!, borrow)
    free.splice(0, free.length, ...before)
  }

  /** Lets the cursors point to the begin, or with `first` to where register `first` says along a side. */
  begin(side?: number, first?: number): void {
    const { a } = this.w
    for (const { register, place, steps } of this.cursors) {
      this.w.address(register, place)
      if (first === undefined || steps[side!] === 0) continue
      a.imul(rax, first, steps[side!]!)
      a.add(register, rax)
    }
  }

  move(by: (cursor: Cursor) => number): void {
    for (const cursor of this.cursors) this.w.a.addNumber(cursor.register, by(cursor))
  }

  store({ access }: Result, register: number, vector: number, masked: boolean): void {
    const { a } = this.w
    const to = this.home(access, vector)
    const options = masked ? { mask: tailMask } : {}
    if (access.steps.at(-1) !== widthOf(access.dtype)) throw new NotWritten('results that are not side by side')
    a.vstore(access.dtype === 'bool' ? 'pmovdb' : 'movups', to, register, options)
  }
}

/** Writes loops over sides `from` to before `to` around `inner`; cursors are where they began at the end. */
export function nest(
  body: Body,
  from: number,
  to: number,
  counted: (side: Side) => Memory | undefined,
  inner: () => void,
): void {
  if (from >= to) {
    inner()
    return
  }
  const { loops, w } = body
  const side = loops.sides[from]!
  const counter = w.slot(firstCounter + from)
  const again = () => {
    nest(body, from + 1, to, counted, inner)
    body.move(({ steps }) => steps[from]!)
  }
  const runtime = counted(side)
  if (!runtime) {
    w.repeat(counter, side.count, again)
    body.move(({ steps }) => -side.count * steps[from]!)
    return
  }
  w.a.mov(rax, runtime)
  w.a.mov(counter, rax)
  w.repeatCounted(counter, again)
  // Nothing follows the outermost loop.
  if (from === 0) return
  for (const { register, steps } of body.cursors) {
    if (steps[from] === 0) continue
    w.a.mov(rax, runtime)
    w.a.imul(rax, rax, steps[from]!)
    w.a.sub(register, rax)
  }
}

/** Writes the innermost side of a compile-time length; cursors are where they began at the end. */
export function vectors(
  w: Writer,
  body: Body,
  count: number,
  unroll: number,
  each: (vector: number, masked: boolean) => void,
): void {
  const full = Math.floor(count / 16)
  const tail = count % 16
  const by = (n: number) => body.move(({ steps }) => n * 16 * steps.at(-1)!)
  if (full <= 2 * unroll) {
    for (let v = 0; v < full; v++) each(v, false)
    if (tail > 0) each(full, true)
    return
  }
  const turns = Math.floor(full / unroll)
  w.repeat(rcx, turns, () => {
    for (let v = 0; v < unroll; v++) each(v, false)
    by(unroll)
  })
  const rest = full - turns * unroll
  for (let v = 0; v < rest; v++) each(v, false)
  if (tail > 0) each(rest, true)
  by(-turns * unroll)
}

/** The same, for the numbers of one long side that a thread has to do: rcx of them, of `count` in all. */
export function vectorsOfPart(
  w: Writer,
  body: Body,
  count: number,
  unroll: number,
  each: (vector: number, masked: boolean) => void,
): void {
  const { a } = w
  const by = (n: number) => body.move(({ steps }) => n * 16 * steps.at(-1)!)
  const pass = (n: number) => {
    const done = a.label()
    a.cmpNumber(rcx, 16 * n)
    a.jump('l', done)
    const again = a.here()
    for (let v = 0; v < n; v++) each(v, false)
    by(n)
    a.subNumber(rcx, 16 * n)
    a.cmpNumber(rcx, 16 * n)
    a.jump('ge', again)
    a.bind(done)
  }
  pass(unroll)
  if (unroll > 1) pass(1)
  if (count % 16 === 0) return
  const done = a.label()
  a.cmpNumber(rcx, 0)
  a.jump('le', done)
  each(0, true)
  a.bind(done)
}

export function setTailMask(w: Writer, count: number): void {
  if (count % 16 !== 0) w.laneMask(tailMask, count % 16)
}

/** The cursors of this thread's part of a side; its length is left on the stack. */
export function beginPart(w: Writer, body: Body, side: number, nothing: Label): void {
  const { a } = w
  w.range(rcx, rax, body.loops.sides[side]!.count)
  a.sub(rax, rcx)
  a.mov(w.slot(partCount), rax)
  a.cmpNumber(rax, 0)
  a.jump('e', nothing)
  body.begin(side, rcx)
}

/** How often a side's loop is run where that is known only then: each thread does its part of a shared side. */
export const runtimeCount = (w: Writer) => (side: Side) => (side.shared ? w.slot(partCount) : undefined)
