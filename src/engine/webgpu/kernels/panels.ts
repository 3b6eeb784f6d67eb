import type { Side } from './side.ts'
import { pitchOf, type Tiling, threadsOf } from './tiling.ts'

export type Element = 'f32' | 'i32'

/** How one side's panel gets into shared memory: what each invocation reads and writes there. */
export interface Panel {
  declaration: string
  /** Before a tile: places across from `first` on, in numbers. */
  settle(first: string): string
  /** Variables for what is read. */
  registers: string
  /** Reads the panel that begins at inner place `at`. */
  read(at: string): string
  /** Puts it into the stage `stage`. */
  put(stage: string): string
}

interface Wanted {
  name: string
  side: Side
  width: number
  tiling: Tiling
  element: Element
  /** How many there are across, a constant or a variable; undefined where tiles fit exactly. */
  across: string | undefined
  /** How many inner places there are, where the last panel may be beyond them. */
  inner: string | undefined
}

const letters = ['x', 'y', 'z', 'w'] as const

/** What invocation `lid` reads in its turn `turn`: four across at one inner place, or at four of them. */
interface Unit {
  quad: string
  inner: string
  /** In units of which `inner` counts. */
  guard: string | undefined
}

/** One after the other along the side along which numbers lie next to each other. */
function unitsOf({ side, width, tiling }: Wanted): Unit[] {
  const threads = threadsOf(tiling)
  const quads = width / 4
  const blocks = side.four === 'inner'
  const count = (quads * tiling.deep) / (blocks ? 4 : 1)
  return Array.from({ length: Math.ceil(count / threads) }, (_, turn): Unit => {
    const from = turn * threads
    const guard = from + threads > count ? `lid < ${count - from}u` : undefined
    const place = (by: number, of: string, step: number) => {
      // Where a turn is a whole number of rows only the row changes.
      const rows = step / by
      if (!Number.isInteger(rows)) return [`(${of} + ${step}u) % ${by}u`, `(${of} + ${step}u) / ${by}u`] as const
      return [`${of} % ${by}u`, rows === 0 ? `${of} / ${by}u` : `${of} / ${by}u + ${rows}u`] as const
    }
    if (blocks) {
      // Neighbours read the two halves of 32 bytes.
      const [quad, high] = place(quads, '(lid >> 1u)', from / 2)
      return { quad, inner: `(lid & 1u) + 2u * (${high})`, guard }
    }
    if (side.next === 'across' || side.four) {
      const [quad, inner] = place(quads, 'lid', from)
      return { quad, inner, guard }
    }
    const [inner, quad] = place(tiling.deep, 'lid', from)
    return { quad, inner, guard }
  })
}

/** How many places across one unit looks up. */
const lookups = (side: Side) => (side.four === 'across' ? 1 : 4)

export function panelOf(wanted: Wanted): Panel {
  const { name, side, width, tiling, element } = wanted
  const units = unitsOf(wanted)
  const vector = `vec4<${element}>`
  const shared = `${name}Panel`
  const registers = units.flatMap((_, u) =>
    Array.from({ length: side.four === 'inner' ? 4 : 1 }, (_, i) => `var ${name}${u}_${i} = ${vector}();`),
  )
  const put = (stage: string) => units.map((unit, u) => guarded(unit, putUnit(wanted, unit, u, stage))).join('\n')
  return {
    declaration: `var<workgroup> ${shared}: array<array<array<${vector}, ${pitchOf(width)}>, ${tiling.deep}>, ${tiling.stages}>;`,
    settle: (first) => units.map((unit, u) => settleUnit(wanted, unit, u, first)).join('\n'),
    registers: registers.join('\n'),
    read: (at) => units.map((unit, u) => guarded(unit, readUnit(wanted, u, at))).join('\n'),
    put,
  }
}

const guarded = ({ guard }: Unit, code: string) => (guard ? `if (${guard}) {\n${code}\n}` : code)

function settleUnit({ name, side, across }: Wanted, { quad, inner }: Unit, u: number, first: string): string {
  const own = `${name}${u}`
  const least = (place: string, count: string) => (across ? `min(${place}, ${count} - 1u)` : place)
  const lines = [`let ${own}_quad = ${quad};`, `let ${own}_inner = ${inner};`]
  if (side.four === 'across')
    lines.push(side.settle(`${own}_a0`, `(${least(`${first} / 4u + ${own}_quad`, `${across} / 4u`)})`))
  else
    for (let i = 0; i < 4; i++)
      lines.push(side.settle(`${own}_a${i}`, `(${least(`${first} + 4u * ${own}_quad + ${i}u`, `${across}`)})`))
  return lines.join('\n')
}

function readUnit({ name, side, element, inner }: Wanted, u: number, at: string): string {
  const own = `${name}${u}`
  const blocks = side.four === 'inner'
  const type = side.four ? `vec4<${element}>` : element
  const lines = [`let ${own}_k = ${blocks ? `${at} / 4u` : at} + ${own}_inner;`, side.step(`${own}_i`, `${own}_k`)]
  const within = inner && `${own}_k < ${blocks ? `${inner} / 4u` : inner}`
  const values = Array.from({ length: lookups(side) }, (_, i) => {
    const { place, valid } = side.find(`${own}_a${i}`, `${own}_i`)
    const conditions = [within, valid].filter((condition) => condition !== undefined)
    if (conditions.length === 0) return `${name}s[${place}]`
    lines.push(`let ${own}_ok${i} = ${conditions.join(' && ')};`)
    return `select(${type}(), ${name}s[select(0u, ${place}, ${own}_ok${i})], ${own}_ok${i})`
  })
  if (side.four) for (const [i, value] of values.entries()) lines.push(`${own}_${i} = ${value};`)
  else lines.push(`${own}_0 = vec4<${element}>(${values.join(', ')});`)
  return lines.join('\n')
}

function putUnit({ name, side, element }: Wanted, _unit: Unit, u: number, stage: string): string {
  const own = `${name}${u}`
  const to = (inner: string) => `${name}Panel[${stage}][${inner}][${own}_quad]`
  if (side.four !== 'inner') return `${to(`${own}_inner`)} = ${own}_0;`
  return letters
    .map((letter, i) => {
      const turned = [0, 1, 2, 3].map((row) => `${own}_${row}.${letter}`)
      return `${to(`4u * ${own}_inner + ${i}u`)} = vec4<${element}>(${turned.join(', ')});`
    })
    .join('\n')
}
