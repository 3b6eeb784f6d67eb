import type { Assembler } from './assembler.ts'
import type { Memory } from './operands.ts'

// The transforms of Winograd's convolution F(2x2, 3x3) (Lavin and Gray, "Fast Algorithms for Convolutional Neural
// Networks", 2015, section 4.1), each on 16 channels at once: Y = A^T [(G g G^T) * (B^T d B)] A, and for the gradient
// of the filter dg = G^T [(B^T d B) * (A dy A^T)] G.

/** Numbers of the transformed tile. */
export const cells = 16

type Place = (i: number, j: number) => Memory | undefined
type Store = (register: number, i: number, j: number) => void

/** Vectors 0 to 15 are used, and those from 16 on for what comes in between. */
const between = 16

function load(a: Assembler, to: number, place: Memory | undefined): void {
  if (place) a.v1('movups', to, place)
  else a.v('pxord', to, to, to)
}

/** B^T d B of a tile d of 4 x 4 pixels. */
export function transformTile(a: Assembler, place: Place, store: Store): void {
  for (let j = 0; j < 4; j++) {
    const d = [16, 17, 18, 19]
    for (const [i, register] of d.entries()) load(a, register, place(i, j))
    a.v('subps', j, d[0]!, d[2]!)
    a.v('addps', 4 + j, d[1]!, d[2]!)
    a.v('subps', 8 + j, d[2]!, d[1]!)
    a.v('subps', 12 + j, d[1]!, d[3]!)
  }
  for (let i = 0; i < 4; i++) {
    const [t0, t1, t2, t3] = [4 * i, 4 * i + 1, 4 * i + 2, 4 * i + 3]
    const v = [20, 21, 22, 23].map((register) => register + 4 * (i % 2))
    a.v('subps', v[0]!, t0, t2)
    a.v('addps', v[1]!, t1, t2)
    a.v('subps', v[2]!, t2, t1)
    a.v('subps', v[3]!, t1, t3)
    for (const [j, register] of v.entries()) store(register, i, j)
  }
}

/** A^T m A of a transformed tile m: 2 x 2 pixels. */
export function transformBack(a: Assembler, place: Place, store: Store): void {
  for (let j = 0; j < 4; j++) {
    const m = [16, 17, 18, 19]
    for (const [i, register] of m.entries()) load(a, register, place(i, j))
    a.v('addps', j, m[0]!, m[1]!)
    a.v('addps', j, j, m[2]!)
    a.v('subps', 4 + j, m[1]!, m[2]!)
    a.v('subps', 4 + j, 4 + j, m[3]!)
  }
  for (let i = 0; i < 2; i++) {
    const [s0, s1, s2, s3] = [4 * i, 4 * i + 1, 4 * i + 2, 4 * i + 3]
    const y = [20, 21].map((register) => register + 2 * i)
    a.v('addps', y[0]!, s0, s1)
    a.v('addps', y[0]!, y[0]!, s2)
    a.v('subps', y[1]!, s1, s2)
    a.v('subps', y[1]!, y[1]!, s3)
    for (const [j, register] of y.entries()) store(register, i, j)
  }
}

/** A dy A^T of 2 x 2 pixels' gradients; those outside the image are 0. */
export function transformGradient(a: Assembler, place: Place, store: Store): void {
  const d = [
    [16, 17],
    [18, 19],
  ] as const
  for (const [i, row] of d.entries()) for (const [j, register] of row.entries()) load(a, register, place(i, j))
  const zero = 31
  a.v('pxord', zero, zero, zero)
  for (let j = 0; j < 2; j++) {
    a.v1('movups', j, d[0][j]!)
    a.v('addps', 2 + j, d[0][j]!, d[1][j]!)
    a.v('subps', 4 + j, d[0][j]!, d[1][j]!)
    a.v('subps', 6 + j, zero, d[1][j]!)
  }
  for (let i = 0; i < 4; i++) {
    const [t0, t1] = [2 * i, 2 * i + 1]
    const z = [20, 21, 22].map((register) => register + 3 * (i % 2))
    store(t0, i, 0)
    a.v('addps', z[0]!, t0, t1)
    a.v('subps', z[1]!, t0, t1)
    a.v('subps', z[2]!, zero, t1)
    for (const [j, register] of z.entries()) store(register, i, j + 1)
  }
}

/** G g G^T of a filter of 3 x 3 cells; `half` is 1/2 in all lanes. */
export function transformFilter(a: Assembler, place: Place, store: Store, half: number): void {
  const line = (to: readonly number[], g: readonly number[], spare: number) => {
    a.v('addps', spare, g[0]!, g[2]!)
    a.v('addps', to[0]!, spare, g[1]!)
    a.v('mulps', to[0]!, to[0]!, half)
    a.v('subps', to[1]!, spare, g[1]!)
    a.v('mulps', to[1]!, to[1]!, half)
  }
  for (let j = 0; j < 3; j++) {
    // Rows 0 and 3 of G g are those of g.
    const [first, middle, last] = [j, 16, 9 + j]
    load(a, first, place(0, j))
    load(a, middle, place(1, j))
    load(a, last, place(2, j))
    line([3 + j, 6 + j], [first, middle, last], 17)
  }
  for (let i = 0; i < 4; i++) {
    const g = [3 * i, 3 * i + 1, 3 * i + 2]
    const to = [18, 19].map((register) => register + 2 * (i % 2))
    line(to, g, 17)
    store(g[0]!, i, 0)
    store(to[0]!, i, 1)
    store(to[1]!, i, 2)
    store(g[2]!, i, 3)
  }
}

/** G^T u G of a transformed filter's gradient: 3 x 3 cells. `place` may add up what several threads made. */
export function transformFilterBack(
  a: Assembler,
  fill: (register: number, i: number, j: number) => void,
  store: Store,
  half: number,
): void {
  const line = (to: readonly number[], u: readonly number[], spare: number) => {
    a.v('addps', spare, u[1]!, u[2]!)
    a.v('mulps', spare, spare, half)
    a.v('addps', to[0]!, u[0]!, spare)
    a.v('addps', to[2]!, u[3]!, spare)
    a.v('subps', to[1]!, u[1]!, u[2]!)
    a.v('mulps', to[1]!, to[1]!, half)
  }
  for (let j = 0; j < 4; j++) {
    const u = [between, between + 1, between + 2, between + 3]
    for (const [i, register] of u.entries()) fill(register, i, j)
    line([j, 4 + j, 8 + j], u, 20)
  }
  for (let i = 0; i < 3; i++) {
    const to = [21, 22, 23].map((register) => register + 3 * (i % 2))
    line(to, [4 * i, 4 * i + 1, 4 * i + 2, 4 * i + 3], 20)
    for (const [j, register] of to.entries()) store(register, i, j)
  }
}
