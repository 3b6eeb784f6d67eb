import { Assembler } from './assembler.ts'
import { mapRegion, openSystem, placeCode, type Region } from './memory.ts'
import { at, type Label, r8, r9, r10, r12, rax, rbx, rcx, rdi, rdx, rsi } from './operands.ts'

// The block that the threads share, each number in a cache line of its own.
const generation = 0
const program = 64
const table = 72
const arrived = 128
export const phase = 192
const sleepers = 256
const started = 320
/** What the program is called with that only lets the threads meet. */
const meetingTable = 384

const [futex, schedYield] = [202, 24]
const [wait, wake] = [128, 129]

/** Looks so often at once, then so often with pauses (about 40 ns each), before others are let on. */
const [looks, pauses] = [200, 1000]
/** Between programs a thread looks for about 100 us, then so often, others let on in between; then it sleeps. */
const [idlePauses, idleTurns] = [2500, 1000]

/** Lets other threads have the core if there are any; keeps rcx, uses rax and r11. */
function letOthersOn(a: Assembler): void {
  a.push(rcx)
  a.movNumber(rax, schedYield)
  a.syscall()
  a.pop(rcx)
}

/** Waits until [rdx + offset] is not ecx. Uses rax, rcx, rdx, r8 to r11, rsi and rdi. */
function waitForChange(a: Assembler, offset: number): void {
  const done = a.label()
  a.movNumber(r8, looks)
  const look = a.here()
  a.cmp32(rcx, at(rdx, offset))
  a.jump('ne', done)
  a.dec(r8)
  a.jump('ne', look)
  const again = a.here()
  a.movNumber(r8, pauses)
  const pause = a.here()
  a.pause()
  a.cmp32(rcx, at(rdx, offset))
  a.jump('ne', done)
  a.dec(r8)
  a.jump('ne', pause)
  letOthersOn(a)
  a.jmp(again)
  a.bind(done)
}

/** A subroutine in which `threads` threads wait for each other; rdx is the shared block. */
export function writeBarrier(a: Assembler, threads: number): Label {
  const barrier = a.here()
  const waiting = a.label()
  a.mov32(rcx, at(rdx, phase))
  a.movNumber(rax, 1)
  a.lockXadd32(at(rdx, arrived), rax)
  a.cmpNumber(rax, threads - 1)
  a.jump('ne', waiting)
  a.xor(rax, rax)
  a.mov32(at(rdx, arrived), rax)
  a.addNumber(rcx, 1)
  a.mov32(at(rdx, phase), rcx)
  a.ret()
  a.bind(waiting)
  waitForChange(a, phase)
  a.ret()
  return barrier
}

/** What a thread does: it waits for programs and takes its part in each. Its number is what `started` was. */
function writeWorker(a: Assembler): void {
  a.push(rbx)
  a.push(r12)
  a.mov(rbx, rdi)
  a.movNumber(r12, 1)
  a.lockXadd32(at(rbx, started), r12)
  a.addNumber(r12, 1)
  // 0 is what the generation was when the block was made.
  a.xor(rcx, rcx)
  const loop = a.here()
  const awake = a.label()
  a.movNumber(r8, idlePauses)
  const look = a.here()
  a.cmp32(rcx, at(rbx, generation))
  a.jump('ne', awake)
  a.pause()
  a.dec(r8)
  a.jump('ne', look)
  a.movNumber(r9, idleTurns)
  const turn = a.here()
  letOthersOn(a)
  a.movNumber(r8, 50)
  const lookAgain = a.here()
  a.cmp32(rcx, at(rbx, generation))
  a.jump('ne', awake)
  a.pause()
  a.dec(r8)
  a.jump('ne', lookAgain)
  a.dec(r9)
  a.jump('ne', turn)
  const sleep = a.here()
  a.movNumber(rax, 1)
  a.lockXadd32(at(rbx, sleepers), rax)
  a.push(rcx)
  a.mov(rdx, rcx)
  a.mov(rdi, rbx)
  a.movNumber(rsi, wait)
  a.xor(r10, r10)
  a.movNumber(rax, futex)
  a.syscall()
  a.pop(rcx)
  a.movNumber(rax, -1)
  a.lockXadd32(at(rbx, sleepers), rax)
  a.cmp32(rcx, at(rbx, generation))
  a.jump('e', sleep)
  a.bind(awake)
  a.mov32(rcx, at(rbx, generation))
  a.push(rcx)
  a.mov(rdi, at(rbx, table))
  a.mov(rsi, r12)
  a.mov(rax, at(rbx, program))
  // No program at all: the thread ends.
  const end = a.label()
  a.cmpNumber(rax, 0)
  a.jump('e', end)
  a.call(rax)
  a.pop(rcx)
  a.jmp(loop)
  a.bind(end)
  a.pop(rcx)
  a.pop(r12)
  a.pop(rbx)
  a.ret()
}

/** run(block, unused): lets all threads take part in the program, this one as number 0. */
function writeRun(a: Assembler): void {
  const nobodySleeps = a.label()
  a.push(rbx)
  a.mov(rbx, rdi)
  a.movNumber(rax, 1)
  a.lockXadd32(at(rbx, generation), rax)
  a.mov32(rax, at(rbx, sleepers))
  a.cmpNumber(rax, 0)
  a.jump('e', nobodySleeps)
  a.mov(rdi, rbx)
  a.movNumber(rsi, wake)
  a.movNumber(rdx, 2 ** 31 - 1)
  a.movNumber(rax, futex)
  a.syscall()
  a.bind(nobodySleeps)
  a.mov(rdi, at(rbx, table))
  a.xor(rsi, rsi)
  a.mov(rax, at(rbx, program))
  const end = a.label()
  a.cmpNumber(rax, 0)
  a.jump('e', end)
  a.call(rax)
  a.bind(end)
  a.pop(rbx)
  a.ret()
}

/** A program in which threads only wait for each other; where it begins. */
function writeMeeting(a: Assembler, threads: number): number {
  const barrier = writeBarrier(a, threads)
  const entry = a.length
  a.mov(rdx, at(rdi))
  a.call(barrier)
  a.ret()
  return entry
}

/** Threads that run programs together. They sleep in between. */
export class Threads {
  readonly count: number
  /** What all threads share; barriers want its address. */
  readonly block: Region
  private readonly run: number
  private readonly meeting: number
  private readonly words: BigInt64Array

  constructor(count: number) {
    this.count = count
    this.block = mapRegion(4096)
    this.words = new BigInt64Array(this.block.buffer)
    const a = new Assembler()
    const worker = a.length
    writeWorker(a)
    const run = a.length
    writeRun(a)
    const meeting = writeMeeting(a, count)
    const code = placeCode(a.finish())
    this.run = code.address + run
    this.meeting = code.address + meeting
    this.words[meetingTable / 8] = BigInt(this.block.address)
    for (let i = 1; i < count; i++) openSystem().startThread(code.address + worker, this.block.address)
  }

  /** Calls program(table, thread) in each thread; it must end with a barrier. */
  execute(entry: number, argument: number): void {
    this.words[program / 8] = BigInt(entry)
    this.words[table / 8] = BigInt(argument)
    openSystem().call(this.run, this.block.address, 0)
  }

  /** When this returns, no thread is in the code of an earlier program: what ran last may still have been leaving it. */
  settle(): void {
    if (this.count > 1) this.execute(this.meeting, this.block.address + meetingTable)
  }

  /** Lets the threads end; no program may be run afterwards. */
  close(): void {
    this.execute(0, 0)
  }
}
