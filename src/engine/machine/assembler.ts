import {
  binary,
  binaryWithNumber,
  comparisons,
  type Opcode,
  op,
  stores,
  ternary,
  ternaryWithNumber,
} from './instructions.ts'
import { type Condition, conditions, type Label, type Memory, rbp, rsp } from './operands.ts'

interface VectorOptions {
  /** Lanes that are written, a mask register; 0 for all. */
  mask?: number
  /** Whether the other lanes become 0. */
  zero?: boolean
  /** Whether the number in memory is repeated in all lanes. */
  repeat?: boolean
}

const fullVector = 64

const isMemory = (x: number | Memory): x is Memory => typeof x !== 'number'

/** Writes instructions one after the other; jumps are resolved by `finish`. Vectors have 512 bits, 16 numbers. */
export class Assembler {
  private bytes = new Uint8Array(1 << 14)
  length = 0
  private readonly labels: Label[] = []

  private byte(value: number): void {
    if (this.length === this.bytes.length) {
      const larger = new Uint8Array(2 * this.length)
      larger.set(this.bytes)
      this.bytes = larger
    }
    this.bytes[this.length++] = value
  }

  private long(value: number): void {
    for (let shift = 0; shift < 32; shift += 8) this.byte((value >> shift) & 255)
  }

  label(): Label {
    const label = { place: -1, uses: [] }
    this.labels.push(label)
    return label
  }

  /** Puts the label here. */
  bind(label: Label): void {
    label.place = this.length
  }

  /** A new label that stands here. */
  here(): Label {
    const label = this.label()
    this.bind(label)
    return label
  }

  /** The code. Throws where a label was never put anywhere. */
  finish(): Uint8Array {
    const view = new DataView(this.bytes.buffer)
    for (const { place, uses } of this.labels) {
      if (place < 0 && uses.length > 0) throw new Error('a jump leads nowhere')
      for (const use of uses) view.setInt32(use, place - use - 4, true)
    }
    return this.bytes.subarray(0, this.length)
  }

  // Operands

  private operand(register: number, rm: number | Memory, unit: number): void {
    const reg = (register & 7) << 3
    if (!isMemory(rm)) {
      this.byte(0xc0 | reg | (rm & 7))
      return
    }
    const { base, index, scale = 1, displacement } = rm
    const needsSib = index !== undefined || (base & 7) === rsp
    const fits = displacement % unit === 0 && displacement / unit >= -128 && displacement / unit <= 127
    const bare = displacement === 0 && (base & 7) !== rbp
    if (displacement < -(2 ** 31) || displacement >= 2 ** 31) throw new Error('a displacement is beyond 2 GB')
    const mode = bare ? 0 : fits ? 0x40 : 0x80
    this.byte(mode | reg | (needsSib ? 4 : base & 7))
    if (needsSib) {
      const scaling = { 1: 0, 2: 1, 4: 2, 8: 3 }[scale]
      this.byte((scaling << 6) | (((index ?? rsp) & 7) << 3) | (base & 7))
    }
    if (bare) return
    if (fits) this.byte((displacement / unit) & 255)
    else this.long(displacement)
  }

  // General instructions, of 64 bits

  private rex(register: number, rm: number | Memory, wide = true): void {
    const base = isMemory(rm) ? rm.base : rm
    const index = isMemory(rm) ? (rm.index ?? 0) : 0
    const value = 0x40 | (wide ? 8 : 0) | ((register >> 3) << 2) | ((index >> 3) << 1) | (base >> 3)
    if (wide || value !== 0x40) this.byte(value)
  }

  private general(opcode: number, register: number, rm: number | Memory, wide = true): void {
    this.rex(register, rm, wide)
    this.byte(opcode)
    this.operand(register, rm, 1)
  }

  private generalNumber(extension: number, rm: number | Memory, value: number): void {
    const small = value >= -128 && value <= 127
    this.general(small ? 0x83 : 0x81, extension, rm)
    if (small) this.byte(value & 255)
    else this.long(value)
  }

  /** to = from; one of them may be in memory. */
  mov(to: number | Memory, from: number | Memory): void {
    if (isMemory(to)) this.general(0x89, from as number, to)
    else this.general(0x8b, to, from)
  }

  /** The lower 32 bits; those above become 0. */
  mov32(to: number | Memory, from: number | Memory): void {
    if (isMemory(to)) this.general(0x89, from as number, to, false)
    else this.general(0x8b, to, from, false)
  }

  movNumber(to: number, value: number): void {
    if (value >= 0 && value < 2 ** 32) {
      this.rex(0, to, false)
      this.byte(0xb8 | (to & 7))
      this.long(value | 0)
    } else {
      this.general(0xc7, 0, to)
      this.long(value)
    }
  }

  movNumberTo(to: Memory, value: number): void {
    this.general(0xc7, 0, to)
    this.long(value)
  }

  lea(to: number, from: Memory): void {
    this.general(0x8d, to, from)
  }

  add(to: number, from: number | Memory): void {
    this.general(0x03, to, from)
  }

  sub(to: number, from: number | Memory): void {
    this.general(0x2b, to, from)
  }

  xor(to: number, from: number): void {
    this.general(0x33, to, from)
  }

  addNumber(to: number | Memory, value: number): void {
    if (value !== 0) this.generalNumber(0, to, value)
  }

  subNumber(to: number | Memory, value: number): void {
    this.generalNumber(5, to, value)
  }

  /** to = from x value. */
  imul(to: number, from: number | Memory, value: number): void {
    this.general(0x69, to, from)
    this.long(value)
  }

  shl(to: number, bits: number): void {
    this.general(0xc1, 4, to)
    this.byte(bits)
  }

  cmp(a: number, b: number | Memory): void {
    this.general(0x3b, a, b)
  }

  cmpNumber(a: number | Memory, value: number): void {
    this.generalNumber(7, a, value)
  }

  /** The lower 32 bits of a register with memory. */
  cmp32(a: number, b: Memory): void {
    this.general(0x3b, a, b, false)
  }

  dec(x: number | Memory): void {
    this.general(0xff, 1, x)
  }

  push(register: number): void {
    this.rex(0, register, false)
    this.byte(0x50 | (register & 7))
  }

  pop(register: number): void {
    this.rex(0, register, false)
    this.byte(0x58 | (register & 7))
  }

  private relative(label: Label): void {
    label.uses.push(this.length)
    this.long(0)
  }

  jmp(label: Label): void {
    this.byte(0xe9)
    this.relative(label)
  }

  jump(condition: Condition, label: Label): void {
    this.byte(0x0f)
    this.byte(0x80 | conditions.indexOf(condition))
    this.relative(label)
  }

  call(to: Label | number): void {
    if (typeof to === 'number') {
      this.rex(2, to, false)
      this.byte(0xff)
      this.operand(2, to, 1)
    } else {
      this.byte(0xe8)
      this.relative(to)
    }
  }

  ret(): void {
    this.byte(0xc3)
  }

  syscall(): void {
    this.byte(0x0f)
    this.byte(0x05)
  }

  /** The processor's clock in rdx:rax. */
  rdtsc(): void {
    this.byte(0x0f)
    this.byte(0x31)
  }

  pause(): void {
    this.byte(0xf3)
    this.byte(0x90)
  }

  /** The 32 bits in memory += register, in one piece for all threads; the register gets what was there. */
  lockXadd32(to: Memory, register: number): void {
    this.byte(0xf0)
    this.rex(register, to, false)
    this.byte(0x0f)
    this.byte(0xc1)
    this.operand(register, to, 1)
  }

  /** Fetches the line of the cache soon. */
  prefetch(from: Memory): void {
    this.rex(0, from, false)
    this.byte(0x0f)
    this.byte(0x18)
    this.operand(1, from, 1)
  }

  /** Leaves the vectors' upper parts, as the rest of the process expects. */
  vzeroupper(): void {
    for (const byte of [0xc5, 0xf8, 0x77]) this.byte(byte)
  }

  // Masks

  private vexMask(opcode: number, reg: number, vvvv: number, rm: number, long: boolean): void {
    this.byte(0xc4)
    this.byte(0x80 | 0x40 | (rm >= 8 ? 0 : 0x20) | 1)
    this.byte(((~vvvv & 15) << 3) | (long ? 4 : 0))
    this.byte(opcode)
    this.byte(0xc0 | (reg << 3) | (rm & 7))
  }

  /** A mask from the lower 16 bits of a general register. */
  kmov(mask: number, register: number): void {
    this.vexMask(0x92, mask, 0, register, false)
  }

  kand(to: number, a: number, b: number): void {
    this.vexMask(0x41, to, a, b, true)
  }

  /** to = b and not a. */
  kandn(to: number, a: number, b: number): void {
    this.vexMask(0x42, to, a, b, true)
  }

  kor(to: number, a: number, b: number): void {
    this.vexMask(0x45, to, a, b, true)
  }

  kxor(to: number, a: number, b: number): void {
    this.vexMask(0x47, to, a, b, true)
  }

  knot(to: number, a: number): void {
    this.vexMask(0x44, to, 0, a, false)
  }

  // Vectors

  private evex(
    { map, prefix, opcode, wide = false, unit }: Opcode,
    register: number,
    second: number,
    rm: number | Memory,
    { mask = 0, zero = false, repeat = false }: VectorOptions,
  ): void {
    const memory = isMemory(rm)
    const base = memory ? rm.base : rm
    const index = memory ? (rm.index ?? 0) : 0
    const x = memory ? (index >> 3) & 1 : (base >> 4) & 1
    this.byte(0x62)
    this.byte((register & 8 ? 0 : 0x80) | (x ? 0 : 0x40) | (base & 8 ? 0 : 0x20) | (register & 16 ? 0 : 0x10) | map)
    this.byte((wide ? 0x80 : 0) | ((~second & 15) << 3) | 4 | prefix)
    this.byte((zero ? 0x80 : 0) | 0x40 | (repeat ? 0x10 : 0) | (second & 16 ? 0 : 8) | mask)
    this.byte(opcode)
    this.operand(register, rm, memory ? (repeat ? 4 : (unit ?? fullVector)) : 1)
  }

  /** to = a (op) b; for multiply-adds to = a x b + to and the like, for blends b where the mask is set, else a. */
  v(name: keyof typeof ternary, to: number, a: number, b: number | Memory, options: VectorOptions = {}): void {
    this.evex(ternary[name], to, a, b, options)
  }

  /** to = op(from). */
  v1(name: keyof typeof binary, to: number, from: number | Memory, options: VectorOptions = {}): void {
    this.evex(binary[name], to, 0, from, options)
  }

  v1n(name: keyof typeof binaryWithNumber, to: number, from: number | Memory, value: number): void {
    this.evex(binaryWithNumber[name], to, 0, from, {})
    this.byte(value)
  }

  vn(name: keyof typeof ternaryWithNumber, to: number, a: number, b: number, value: number): void {
    this.evex(ternaryWithNumber[name], to, a, b, {})
    this.byte(value)
  }

  /** A mask of the lanes for which the predicate holds, of those that `among` has where it is given. */
  vcmp(name: keyof typeof comparisons, to: number, a: number, b: number | Memory, predicate: number, among = 0): void {
    this.evex(comparisons[name], to, a, b, { mask: among })
    this.byte(predicate)
  }

  vstore(name: keyof typeof stores, to: Memory, from: number, options: VectorOptions = {}): void {
    this.evex(stores[name], from, 0, to, options)
  }

  /** Shifts each number's bits: left, right, or right with the sign. */
  vshift(kind: 'left' | 'right' | 'signed', to: number, from: number, bits: number): void {
    const extension = { left: 6, right: 2, signed: 4 }[kind]
    this.evex(op(1, 1, 0x72), extension, to, from, {})
    this.byte(bits)
  }

  /** Gathers from base + lane of `index` x scale + displacement where the mask is set, which this clears. */
  vgather(to: number, base: number, index: number, scale: 1 | 2 | 4 | 8, displacement: number, mask: number): void {
    this.byte(0x62)
    this.byte((to & 8 ? 0 : 0x80) | (index & 8 ? 0 : 0x40) | (base & 8 ? 0 : 0x20) | (to & 16 ? 0 : 0x10) | 2)
    this.byte((15 << 3) | 4 | 1)
    this.byte(0x40 | (index & 16 ? 0 : 8) | mask)
    this.byte(0x92)
    const fits = displacement % 4 === 0 && displacement / 4 >= -128 && displacement / 4 <= 127
    this.byte((fits ? 0x40 : 0x80) | ((to & 7) << 3) | 4)
    this.byte(({ 1: 0, 2: 1, 4: 2, 8: 3 }[scale] << 6) | ((index & 7) << 3) | (base & 7))
    if (fits) this.byte((displacement / 4) & 255)
    else this.long(displacement)
  }
}
