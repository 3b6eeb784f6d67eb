import { isRow, isWhole } from './finish.ts'
import type { Arg, Node, ProductSpecial } from './node.ts'

/** A product whose rows' extremes are asked for, and what is added to each of its rows. */
export interface ProductWithRow {
  product: ProductSpecial
  bias?: Node
}

/** The product of one batch whose numbers, or whose sums with a row, a node has. */
export function productUnder(seen: Node, shape: readonly number[]): ProductWithRow | undefined {
  const own = (node: Node) => (node.kind === 'special' ? node.special.product : undefined)
  const fits = (product: ProductSpecial | undefined): product is ProductSpecial =>
    product !== undefined && product.sides.batch === 1 && product.sides.columns === shape.at(-1)
  const product = own(seen)
  if (fits(product)) return { product }
  if (seen.kind !== 'map' || seen.formula !== 'add') return undefined
  for (const [one, other] of [seen.args, [...seen.args].reverse()] as [Arg, Arg][]) {
    const under = own(one.node)
    if (fits(under) && isWhole(one, seen.shape) && isRow(other, seen.shape)) return { product: under, bias: other.node }
  }
  return undefined
}
