import type { Bound } from '../shader.ts'
import { type Element, type Panel, panelOf } from './panels.ts'
import type { Side } from './side.ts'
import type { Extent, Tiling } from './tiling.ts'

/** A product, or some of the same kind: batches. */
export interface Product extends Extent {
  label: string
  element: Element
  left: Side
  right: Side
  /** Where batches differ: bodies of functions of `batch`; then `rows` and `inner` are the most that one has. */
  rowsOf?: string
  innerOf?: string
  /** More functions that the sides call. */
  functions?: string
}

/** The sums of one tile as WGSL. */
export interface Sums {
  declarations: string
  bound: Bound[]
  /** With `batch`, `part` and `firstRow` known: what there is to know of the tile's rows. */
  settleRows: string
  /** The sums `c<row>_<column>`, fours of columns, from `firstColumn` on. */
  sum: string
}

const letters = ['x', 'y', 'z', 'w'] as const

/** Rows of the tile that an invocation has, of its `ty`; and its fours of columns, of its `tx`. */
export const rowOf = ({ high, rows }: Tiling, row: number) =>
  `4u * (ty + ${Math.floor(row / 4) * (high / rows)}u) + ${row % 4}u`
export const columnOf = ({ wide, columns }: Tiling, four: number) => `4u * (tx + ${four * (wide / columns)}u)`

/** Where an invocation is among those of its group: 32 that run together are 8 x 4 where there are as many. */
export function positions(tiling: Tiling): string {
  const across = tiling.wide / tiling.columns
  if (across < 8) return `let tx = lid % ${across}u;\nlet ty = lid / ${across}u;`
  const warps = across / 8
  return [
    `let tx = lid % 8u + 8u * ((lid / 32u) % ${warps}u);`,
    `let ty = (lid / 8u) % 4u + 4u * (lid / ${32 * warps}u);`,
  ].join('\n')
}

export function sumsOf(product: Product, tiling: Tiling): Sums {
  const { left, right, element, rows, columns, inner, rowsOf, innerOf } = product
  const { high, wide, deep, parts } = tiling
  const innerAcross = innerOf ? 'innerHere' : inner % deep === 0 ? undefined : `${inner}u`
  const common = { tiling, element, inner: innerAcross }
  const rowsAcross = rowsOf ? 'rowsHere' : rows % high === 0 ? undefined : `${rows}u`
  const leftPanel = panelOf({ ...common, name: 'left', side: left, width: high, across: rowsAcross })
  const columnsAcross = columns % wide === 0 ? undefined : `${columns}u`
  const rightPanel = panelOf({ ...common, name: 'right', side: right, width: wide, across: columnsAcross })
  const both = [leftPanel, rightPanel]
  const panels = Math.ceil(inner / deep)
  const each = Math.ceil(panels / parts)
  const count = innerOf ? `(innerHere + ${deep - 1}u) / ${deep}u` : `${panels}u`
  const begin = parts === 1 ? '0u' : `part * ${each}u`
  const all = parts === 1 ? count : `min(${each}u, ${count} - min(${count}, ${begin}))`
  return {
    declarations: [
      ...both.map((panel) => panel.declaration),
      rowsOf ? `fn rowsOf(batch: u32) -> u32 {\n${rowsOf}\n}` : '',
      innerOf ? `fn innerOf(batch: u32) -> u32 {\n${innerOf}\n}` : '',
      product.functions ?? '',
    ].join('\n'),
    bound: [
      { name: 'lefts', of: left.node, element: elementOf(left, element) },
      { name: 'rights', of: right.node, element: elementOf(right, element) },
    ],
    settleRows: [innerOf ? 'let innerHere = innerOf(batch);' : '', leftPanel.settle('firstRow')].join('\n'),
    sum: [
      rightPanel.settle('firstColumn'),
      accumulators(tiling, element),
      ...both.map((panel) => panel.registers),
      `let firstPanel = ${begin};`,
      `let panels = ${all};`,
      loop(both, tiling, element),
    ].join('\n'),
  }
}

function elementOf({ four }: Side, element: Element): Bound['element'] {
  return four ? `vec4<${element}>` : element
}

function accumulators({ rows, columns }: Tiling, element: Element): string {
  const lines: string[] = []
  for (let r = 0; r < rows; r++)
    for (let q = 0; q < columns / 4; q++) lines.push(`var c${r}_${q} = vec4<${element}>();`)
  return lines.join('\n')
}

/** While one panel is summed, the next is on its way. */
function loop(both: readonly Panel[], tiling: Tiling, element: Element): string {
  const { deep, stages } = tiling
  const stage = (panel: string) => (stages === 2 ? `(${panel}) & 1u` : '0u')
  const read = both.map((panel) => panel.read('at')).join('\n')
  const put = both.map((panel) => panel.put('ahead')).join('\n')
  return `for (var panel = 0u; panel <= panels; panel++) {
if (panel < panels) {
let at = (firstPanel + panel) * ${deep}u;
${read}
}
if (panel > 0u) {
let behind = ${stage('panel + 1u')};
${multiplyAdd(tiling, element)}
}
${stages === 1 ? 'workgroupBarrier();' : ''}
if (panel < panels) {
let ahead = ${stage('panel')};
${put}
}
workgroupBarrier();
}`
}

/**
 * Sums one panel. Where there is much to sum it is all written out: WGSL's compilers keep no arrays in registers, and
 * test each index that they do not know.
 */
function multiplyAdd(tiling: Tiling, element: Element): string {
  const { deep, rolled } = tiling
  if (rolled) return `for (var k = 0u; k < ${deep}u; k++) {\n${multiplyAddAt('k', tiling, element)}\n}`
  return Array.from({ length: deep }, (_, k) => `{\n${multiplyAddAt(`${k}`, tiling, element)}\n}`).join('\n')
}

function multiplyAddAt(k: string, { high, wide, rows, columns }: Tiling, element: Element): string {
  const lines: string[] = []
  for (let q = 0; q < rows / 4; q++) lines.push(`let a${q} = leftPanel[behind][${k}][ty + ${(q * high) / rows}u];`)
  for (let q = 0; q < columns / 4; q++)
    lines.push(`let b${q} = rightPanel[behind][${k}][tx + ${(q * wide) / columns}u];`)
  for (let r = 0; r < rows; r++)
    for (let q = 0; q < columns / 4; q++) {
      const [sum, factor] = [`c${r}_${q}`, `vec4<${element}>(a${Math.floor(r / 4)}.${letters[r % 4]})`]
      lines.push(element === 'f32' ? `${sum} = fma(${factor}, b${q}, ${sum});` : `${sum} += ${factor} * b${q};`)
    }
  return lines.join('\n')
}

/** Statements that find `batch`, `part`, `firstRow` and, where asked, `firstColumn` of the tile of this group. */
export function placeOfGroup(product: Extent, tiling: Tiling, index: string): string {
  const { high, wide, parts } = tiling
  const [tall, broad] = [Math.ceil(product.rows / high), Math.ceil(product.columns / wide)]
  // Those that run at once go through all of the shorter side, and little of the longer one.
  const rowsFirst = tall < broad
  const [tileRow, tileColumn] = rowsFirst
    ? [`(tile % ${tall}u)`, `(tile / ${tall}u)`]
    : [`(tile / ${broad}u)`, `(tile % ${broad}u)`]
  return [
    `let index = ${index};`,
    `if (index >= ${product.batch * parts * tall * broad}u) { return; }`,
    `let tile = index % ${tall * broad}u;`,
    `let part = (index / ${tall * broad}u) % ${parts}u;`,
    `let batch = index / ${tall * broad * parts}u;`,
    `let firstRow = ${tileRow} * ${high}u;`,
    `let firstColumn = ${tileColumn} * ${wide}u;`,
  ].join('\n')
}
