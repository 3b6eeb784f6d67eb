import { type ProductWithRow, productUnder } from '../../graph/extremes.ts'
import type { Lowering } from '../../graph/maps.ts'
import type { Node, Nodes } from '../../graph/node.ts'
import { type Bound, type Facts, type GpuSpecial, groupIndex, groupsFor, type Scratch, type Shader } from '../shader.ts'
import { productOf } from './product.ts'
import { columnOf, type Product, positions, rowOf, sumsOf } from './sums.ts'
import { chooseTiling, type Tiling, threadsOf } from './tiling.ts'

type Kind = 'max' | 'min'

/** Groups that keep a large card busy: columns are cut into as many parts as that needs. */
const manyGroups = 264

const worst = { max: '-3.4028234e38f', min: '3.4028234e38f' } as const
const sign = { max: '>', min: '<' } as const

/** Whether a number and its column come before the best so far: of equals the first. */
const precedes = (kind: Kind, value: string, column: string, best: string, bestColumn: string) =>
  `(${value} ${sign[kind]} ${best} || (${value} == ${best} && ${column} < ${bestColumn}))`

/** Where in its row of a product with a row added the largest or smallest number is; the product is never stored. */
export function extremeColumn(
  nodes: Nodes,
  kind: Kind,
  { product: { left, right, sides }, bias }: ProductWithRow,
): Node {
  const product = productOf(`${kind} of product [${sides.rows}, ${sides.inner}, ${sides.columns}]`, left, right, sides)
  const special: GpuSpecial = {
    name: `column of ${kind}`,
    inputs: [{ node: left.node }, { node: right.node }, ...(bias ? [{ node: bias }] : [])],
    strided: false,
    shaders: (self, facts) => shaders({ self, kind, product, bias }, facts),
  }
  return nodes.special([sides.rows], 'int32', special)
}

interface Wanted {
  self: Node
  kind: Kind
  product: Product
  bias: Node | undefined
}

function shaders(wanted: Wanted, facts: Facts): Shader[] {
  const { self, kind, product } = wanted
  const { rows, columns, label } = product
  // Two numbers of each invocation are compared with those of its neighbours.
  const tiling = chooseTiling(product, facts, 8 * facts.invocations, false)
  const [tall, broad] = [Math.ceil(rows / tiling.high), Math.ceil(columns / tiling.wide)]
  const tilesEach = Math.ceil(broad / Math.min(broad, Math.ceil(manyGroups / tall)))
  const chunks = Math.ceil(broad / tilesEach)
  const best: Scratch = { scratch: 'best', bytes: 4 * rows * chunks }
  const place: Scratch = { scratch: 'place', bytes: 4 * rows * chunks }
  const kept: Bound[] =
    chunks === 1
      ? [{ name: 'results', of: self, element: 'i32', writes: true }]
      : [
          { name: 'bests', of: best, element: 'f32', writes: true },
          { name: 'places', of: place, element: 'u32', writes: true },
        ]
  const first = bestOfTiles(wanted, tiling, { tall, broad, tilesEach, chunks }, kept)
  return chunks === 1 ? [first] : [first, bestOfChunks(label, kind, self, best, place, rows, chunks)]
}

interface Cut {
  tall: number
  broad: number
  /** Tiles side by side that one group makes one after the other. */
  tilesEach: number
  chunks: number
}

function bestOfTiles({ product, kind, bias }: Wanted, tiling: Tiling, cut: Cut, kept: readonly Bound[]): Shader {
  const sums = sumsOf(product, tiling)
  const threads = threadsOf(tiling)
  const { tall, broad, tilesEach, chunks } = cut
  const bound: Bound[] = [...sums.bound, ...kept]
  if (bias) bound.push({ name: 'biases', of: bias, element: 'f32' })
  const each = Array.from({ length: tiling.rows }, (_, r) => r)
  return {
    label: product.label,
    bound,
    groups: groupsFor(tall * chunks),
    code: `${sums.declarations}
var<workgroup> bestHere: array<f32, ${threads}>;
var<workgroup> placeHere: array<u32, ${threads}>;
@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lid: u32) {
let index = ${groupIndex};
if (index >= ${tall * chunks}u) { return; }
let batch = 0u;
let part = 0u;
let chunk = index / ${tall}u;
let firstRow = (index % ${tall}u) * ${tiling.high}u;
${positions(tiling)}
${sums.settleRows}
${each.map((r) => `var best${r} = ${worst[kind]};\nvar place${r} = 0u;`).join('\n')}
for (var tile = chunk * ${tilesEach}u; tile < min((chunk + 1u) * ${tilesEach}u, ${broad}u); tile++) {
let firstColumn = tile * ${tiling.wide}u;
${sums.sum}
${compare(product, kind, tiling, bias !== undefined)}
}
${each.map((r) => reduceRow(product, kind, tiling, r, chunks)).join('\n')}
}`,
  }
}

/** The sums of a tile against the best so far; columns come in order, so that of equals the first stays. */
function compare({ columns }: Product, kind: Kind, tiling: Tiling, biased: boolean): string {
  const lines: string[] = []
  for (let q = 0; q < tiling.columns / 4; q++)
    for (const [i, letter] of ['x', 'y', 'z', 'w'].entries()) {
      lines.push(`{ let column = firstColumn + ${columnOf(tiling, q)} + ${i}u;`)
      if (columns % tiling.wide !== 0) lines.push(`if (column < ${columns}u) {`)
      lines.push(`let added = ${biased ? 'biases[column]' : '0f'};`)
      for (let r = 0; r < tiling.rows; r++)
        lines.push(
          `{ let value = c${r}_${q}.${letter} + added; let is = value ${sign[kind]} best${r};`,
          `best${r} = select(best${r}, value, is); place${r} = select(place${r}, column, is); }`,
        )
      lines.push(columns % tiling.wide === 0 ? '}' : '} }')
    }
  return lines.join('\n')
}

/** The best of a row among the invocations that have some of its columns. */
function reduceRow({ rows }: Product, kind: Kind, tiling: Tiling, r: number, chunks: number): string {
  const across = tiling.wide / tiling.columns
  const keep =
    chunks === 1
      ? 'results[row] = i32(place);'
      : `bests[chunk * ${rows}u + row] = best;\nplaces[chunk * ${rows}u + row] = place;`
  return `bestHere[ty * ${across}u + tx] = best${r};
placeHere[ty * ${across}u + tx] = place${r};
workgroupBarrier();
if (tx == 0u && firstRow + ${rowOf(tiling, r)} < ${rows}u) {
let row = firstRow + ${rowOf(tiling, r)};
var best = best${r};
var place = place${r};
for (var i = 1u; i < ${across}u; i++) {
let value = bestHere[ty * ${across}u + i];
let column = placeHere[ty * ${across}u + i];
if (${precedes(kind, 'value', 'column', 'best', 'place')}) { best = value; place = column; }
}
${keep}
}
workgroupBarrier();`
}

const threads = 64

function bestOfChunks(
  label: string,
  kind: Kind,
  self: Node,
  best: Scratch,
  place: Scratch,
  rows: number,
  chunks: number,
): Shader {
  return {
    label: `${label}: parts`,
    bound: [
      { name: 'bests', of: best, element: 'f32' },
      { name: 'places', of: place, element: 'u32' },
      { name: 'results', of: self, element: 'i32', writes: true },
    ],
    groups: groupsFor(Math.ceil(rows / threads)),
    code: `@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lid: u32) {
let row = ${groupIndex} * ${threads}u + lid;
if (row >= ${rows}u) { return; }
var best = bests[row];
var place = places[row];
for (var chunk = 1u; chunk < ${chunks}u; chunk++) {
let value = bests[chunk * ${rows}u + row];
let column = places[chunk * ${rows}u + row];
if (${precedes(kind, 'value', 'column', 'best', 'place')}) { best = value; place = column; }
}
results[row] = i32(place);
}`,
  }
}

/** Where rows of products are largest or smallest; what looks for other extremes is `otherwise`. */
export function placesOfProducts(kind: Kind, otherwise: Lowering): Lowering {
  return (operation, nodes, find) => {
    const shape = operation.shapes[0]!
    const seen = find(operation.inputs[0]!)
    const under = operation.attributes!.axis === shape.length - 1 ? productUnder(seen, shape) : undefined
    if (under?.product.left.node.dtype !== 'float32') return otherwise(operation, nodes, find)
    return extremeColumn(nodes, kind, under)
  }
}
