// What instructions are told: registers, places in memory and in the code, conditions.

/** General registers by their numbers. */
export const rax = 0
export const rcx = 1
export const rdx = 2
export const rbx = 3
export const rsp = 4
export const rbp = 5
export const rsi = 6
export const rdi = 7
export const r8 = 8
export const r9 = 9
export const r10 = 10
export const r11 = 11
export const r12 = 12
export const r13 = 13
export const r14 = 14
export const r15 = 15

/** A place in memory: base + index x scale + displacement, in bytes. */
export interface Memory {
  base: number
  index?: number
  scale?: 1 | 2 | 4 | 8
  displacement: number
}

export function at(base: number, displacement = 0, index?: number, scale: 1 | 2 | 4 | 8 = 1): Memory {
  return index === undefined ? { base, displacement } : { base, index, scale, displacement }
}

/** A place in the code, which may be known later. */
export interface Label {
  place: number
  uses: number[]
}

export type Condition =
  | 'o'
  | 'no'
  | 'b'
  | 'ae'
  | 'e'
  | 'ne'
  | 'be'
  | 'a'
  | 's'
  | 'ns'
  | 'p'
  | 'np'
  | 'l'
  | 'ge'
  | 'le'
  | 'g'
export const conditions: Condition[] = [
  'o',
  'no',
  'b',
  'ae',
  'e',
  'ne',
  'be',
  'a',
  's',
  'ns',
  'p',
  'np',
  'l',
  'ge',
  'le',
  'g',
]

/** Predicates of vcmpps: ordered and not signalling, but for `neq`, which holds for NaN. */
export const compare = { eq: 0, lt: 17, le: 18, unordered: 3, neq: 4, ge: 29, gt: 30, ordered: 7 } as const

/** Predicates of vpcmpd. */
export const compareIntegers = { eq: 0, lt: 1, le: 2, neq: 4, ge: 5, gt: 6 } as const
