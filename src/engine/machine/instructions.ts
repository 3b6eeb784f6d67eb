// The instructions of x86-64 with AVX-512 that the engine's loops are made of, by Intel's manual (SDM 2).

export interface Opcode {
  map: 1 | 2 | 3
  prefix: 0 | 1 | 2 | 3
  opcode: number
  wide?: boolean
  /** Bytes that a displacement of one byte counts, where they are not those of a whole vector. */
  unit?: number
}

export const op = (map: 1 | 2 | 3, prefix: 0 | 1 | 2 | 3, opcode: number, more: Partial<Opcode> = {}): Opcode => ({
  map,
  prefix,
  opcode,
  ...more,
})

/** Instructions of three vectors, or of two vectors and a place in memory. */
export const ternary = {
  addps: op(1, 0, 0x58),
  mulps: op(1, 0, 0x59),
  subps: op(1, 0, 0x5c),
  minps: op(1, 0, 0x5d),
  divps: op(1, 0, 0x5e),
  maxps: op(1, 0, 0x5f),
  andps: op(1, 0, 0x54),
  andnps: op(1, 0, 0x55),
  orps: op(1, 0, 0x56),
  xorps: op(1, 0, 0x57),
  fmadd231ps: op(2, 1, 0xb8),
  fmadd213ps: op(2, 1, 0xa8),
  fnmadd231ps: op(2, 1, 0xbc),
  fnmadd213ps: op(2, 1, 0xac),
  scalefps: op(2, 1, 0x2c),
  blendmps: op(2, 1, 0x65),
  paddd: op(1, 1, 0xfe),
  psubd: op(1, 1, 0xfa),
  pmulld: op(2, 1, 0x40),
  pminsd: op(2, 1, 0x39),
  pmaxsd: op(2, 1, 0x3d),
  pandd: op(1, 1, 0xdb),
  pord: op(1, 1, 0xeb),
  pxord: op(1, 1, 0xef),
} as const

/** Instructions of two vectors, or of a vector and a place in memory that is read. */
export const binary = {
  movups: op(1, 0, 0x10),
  sqrtps: op(1, 0, 0x51),
  cvtdq2ps: op(1, 0, 0x5b),
  cvttps2dq: op(1, 2, 0x5b),
  cvtps2dq: op(1, 1, 0x5b),
  getexpps: op(2, 1, 0x42),
  broadcastss: op(2, 1, 0x18, { unit: 4 }),
  pmovzxbd: op(2, 1, 0x31, { unit: 16 }),
  pabsd: op(2, 1, 0x1e),
} as const

/** The same with a number at the end. */
export const binaryWithNumber = {
  rndscaleps: op(3, 1, 0x08),
  getmantps: op(3, 1, 0x26),
  permilps: op(3, 1, 0x04),
} as const

export const ternaryWithNumber = {
  shuff32x4: op(3, 1, 0x23),
} as const

export const comparisons = { cmpps: op(1, 0, 0xc2), pcmpd: op(3, 1, 0x1f) } as const

/** Instructions that write a vector to memory. */
export const stores = { movups: op(1, 0, 0x11), pmovdb: op(2, 2, 0x31, { unit: 16 }) } as const
