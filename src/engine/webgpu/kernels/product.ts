import type { Arg, Finish, Node, Nodes, ProductSides } from '../../graph/node.ts'
import { sizeOf } from '../../recording/shape.ts'
import { type Bound, type Facts, type GpuSpecial, groupIndex, groupsFor, type Scratch, type Shader } from '../shader.ts'
import { finishing, sumParts } from './finishing.ts'
import { strided } from './side.ts'
import { columnOf, type Product, placeOfGroup, positions, rowOf, sumsOf } from './sums.ts'
import { chooseTiling, type Tiling, threadsOf, tilesOf } from './tiling.ts'

/** What becomes of a product's sums. */
export interface Kept {
  /** The body of a function of `batch` and `row`: the place of the row's first result; default one row after another. */
  rowPlace?: string
  finish: Finish
}

/** Shaders that write a product's results into `self`. */
export function productShaders(self: Node, product: Product, kept: Kept, facts: Facts, tiling?: Tiling): Shader[] {
  const chosen = tiling ?? chooseTiling(product, facts, 0, product.element === 'f32')
  const { label, columns } = product
  if (chosen.parts === 1) return [sumShader(self, product, kept, chosen)]
  const scratch: Scratch = { scratch: 'parts', bytes: 4 * chosen.parts * sizeOf(self.shape) }
  return [
    sumShader(self, product, { ...kept, finish: {} }, chosen, scratch),
    sumParts(label, self, scratch, chosen.parts, columns, kept.finish),
  ]
}

function sumShader(self: Node, product: Product, kept: Kept, tiling: Tiling, scratch?: Scratch): Shader {
  const { label, rows, columns, element, rowsOf } = product
  const sums = sumsOf(product, tiling)
  const type = columns % 4 === 0 ? (`vec4<${element}>` as const) : element
  const finish = element === 'f32' ? finishing(kept.finish, columns % 4 === 0 ? 'vec4<f32>' : 'f32') : undefined
  const bound: Bound[] = [
    ...sums.bound,
    { name: 'results', of: scratch ?? self, element: type, writes: true },
    ...(finish?.bound ?? []),
  ]
  const rowPlace = kept.rowPlace ?? `return (batch * ${rows}u + row) * ${columns}u;`
  return {
    label,
    bound,
    groups: groupsFor(tilesOf(product, tiling) * tiling.parts),
    code: `${sums.declarations}
${finish?.code ?? ''}
fn rowPlace(batch: u32, row: u32) -> u32 {
${rowPlace}
}
@compute @workgroup_size(${threadsOf(tiling)})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lid: u32) {
${placeOfGroup(product, tiling, groupIndex)}
${rowsOf ? 'let rowsHere = rowsOf(batch);\nif (firstRow >= rowsHere) { return; }' : ''}
${positions(tiling)}
${sums.settleRows}
${sums.sum}
${storeAll(product, tiling, finish !== undefined, sizeOf(self.shape))}
}`,
  }
}

/** Stores what an invocation has summed, as far as it is within the result. */
function storeAll(product: Product, tiling: Tiling, finishes: boolean, size: number): string {
  const lines: string[] = [`let begin = part * ${size}u;`]
  const { rows, columns, rowsOf } = product
  const rowLimit = rowsOf ? 'rowsHere' : rows % tiling.high === 0 ? undefined : `${rows}u`
  const done = (value: string, place: string, column: string) =>
    finishes ? `finished(${value}, ${place}, ${column})` : value
  for (let r = 0; r < tiling.rows; r++) {
    lines.push(`{ let row = firstRow + ${rowOf(tiling, r)};`)
    if (rowLimit) lines.push(`if (row < ${rowLimit}) {`)
    lines.push('let place = begin + rowPlace(batch, row);')
    for (let q = 0; q < tiling.columns / 4; q++) {
      lines.push(`{ let column = firstColumn + ${columnOf(tiling, q)};`)
      if (columns % 4 === 0) {
        const at = '(place + column) / 4u'
        const store = `results[${at}] = ${done(`c${r}_${q}`, at, 'column / 4u')};`
        lines.push(columns % tiling.wide === 0 ? store : `if (column < ${columns}u) { ${store} }`)
      } else
        for (const [i, letter] of ['x', 'y', 'z', 'w'].entries()) {
          const at = `place + column + ${i}u`
          const store = `results[${at}] = ${done(`c${r}_${q}.${letter}`, at, `column + ${i}u`)};`
          lines.push(`if (column + ${i}u < ${columns}u) { ${store} }`)
        }
      lines.push('}')
    }
    lines.push(rowLimit ? '} }' : '}')
  }
  return lines.join('\n')
}

/** A product of two sides that are read by steps. */
export function productOf(label: string, left: Arg, right: Arg, sides: ProductSides): Product {
  const { batch, rows, inner, columns } = sides
  const side = ({ node, offset, strides }: Arg, across: 1 | 2, count: number) =>
    strided(
      { node, offset },
      { batch: strides[0]!, across: strides[across]!, inner: strides[3 - across]! },
      { batch, across: count, inner },
    )
  const element = left.node.dtype === 'float32' ? 'f32' : 'i32'
  return { label, element, ...sides, left: side(left, 1, rows), right: side(right, 2, columns) }
}

/** Products a [batch, rows, inner] b [batch, inner, columns], each read by its strides: [batch, rows, columns]. */
export function multiply(nodes: Nodes, left: Arg, right: Arg, sides: ProductSides): Node {
  const { batch, rows, columns } = sides
  const { dtype } = left.node
  const finish: Finish = {}
  const product = productOf(`product [${batch}, ${rows}, ${sides.inner}, ${columns}]`, left, right, sides)
  const special: GpuSpecial = {
    name: 'product',
    inputs: [{ node: left.node }, { node: right.node }],
    strided: false,
    ...(dtype === 'float32' ? { finish } : {}),
    product: { left, right, sides },
    shaders: (self, facts) => productShaders(self, product, { finish }, facts),
  }
  return nodes.special([batch, rows, columns], dtype, special)
}
