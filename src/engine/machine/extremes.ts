import { productUnder } from '../graph/extremes.ts'
import { type Arg, type Node, type Nodes, NotWritten, type ProductSpecial, spread, whole } from '../graph/node.ts'
import { chooseBlocking, rightSide, vectorsFor } from './blocks.ts'
import { bestBytes, writeBest } from './largest-column.ts'
import type { Writing } from './special.ts'

/** Known numbers lie in the program's memory: so many at most. */
const mostPlaces = 2 ** 14
/** Places are floats meanwhile, which are exact up to here. */
const mostColumns = 2 ** 24

/** What is put in place of a place that is not an extreme's. */
function constantLike(nodes: Nodes, value: number, shape: readonly number[], dtype: 'float32' | 'int32'): Arg {
  return { node: nodes.constant(value, dtype), strides: shape.map(() => 0), offset: 0 }
}

/**
 * Where along one side the largest or smallest number is, the first of equals; as in tfjs what is no number is passed
 * over, but 0 where it is the first.
 */
export function placeOfExtreme(
  nodes: Nodes,
  kind: 'max' | 'min',
  seen: Node,
  shape: readonly number[],
  axis: number,
): Node {
  const count = shape[axis]!
  if (seen.dtype !== 'float32') throw new NotWritten('the place of an extreme of whole numbers')
  if (kind === 'max' && axis === shape.length - 1) {
    const found = productUnder(seen, shape)
    if (found && found.product.sides.columns <= mostColumns) return largestColumn(nodes, found.product, found.bias)
  }
  if (count > mostPlaces) throw new NotWritten('the place of an extreme among so many')
  const folded = shape.map((_, i) => i === axis)
  const kept = shape.map((side, i) => (i === axis ? 1 : side))
  const all = whole(seen, shape)
  const isNumber = nodes.map('equal', [all, all], shape, 'bool')
  const worst = constantLike(
    nodes,
    kind === 'max' ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY,
    shape,
    'float32',
  )
  const numbers = nodes.map('select', [whole(isNumber), all, worst], shape, 'float32')
  const extreme = nodes.fold(kind, whole(numbers), shape, folded)
  const is = nodes.map('equal', [whole(numbers), spread(extreme, kept, shape)], shape, 'bool')
  const places = nodes.table(
    Array.from({ length: count }, (_, i) => i),
    'int32',
  )
  const place: Arg = { node: places, strides: shape.map((_, i) => (i === axis ? 1 : 0)), offset: 0 }
  const args = [whole(is), place, constantLike(nodes, count, shape, 'int32')]
  const first = nodes.fold('min', whole(nodes.map('select', args, shape, 'int32')), shape, folded)
  const begins: Arg = {
    ...all,
    strides: all.strides.filter((_, i) => i !== axis || first.shape.length === shape.length),
  }
  const begun = nodes.map('equal', [begins, begins], first.shape, 'bool')
  const zero = constantLike(nodes, 0, first.shape, 'int32')
  return nodes.map('select', [whole(begun), whole(first), zero], first.shape, 'int32')
}

/**
 * In which column of a product each row has its largest number, the first of equals. The product is never stored: each
 * tile's numbers are compared, lane by lane, with the best of the row so far, and what is left is a best for each lane.
 */
function largestColumn(nodes: Nodes, { left, right, sides }: ProductSpecial, bias: Node | undefined): Node {
  const { rows: rowCount, inner, columns } = sides
  const apart = (4 * left.strides[1]!) % 4096 === 0
  const { rows, vectors } = chooseBlocking(rowCount, vectorsFor(columns), apart ? 8 : 30)
  const blocks = rightSide(nodes, { ...right, strides: right.strides.slice(1) }, [inner], columns, vectors)
  const inputs = [{ node: left.node }, ...blocks.map(({ node }) => ({ node })), ...(bias ? [{ node: bias }] : [])]
  const write = (writing: Writing) => writeBest({ ...writing, left, blocks, bias, rowCount, inner, rows }, made)
  const special = { name: 'largest column', inputs, strided: false, write }
  const made: Node = nodes.special([rowCount, bestBytes / 4], 'float32', special)
  const shape = [rowCount, 16]
  const [best, column] = [0, 16].map((offset): Arg => ({ node: made, strides: [32, 1], offset })) as [Arg, Arg]
  const largest = nodes.fold('max', best, shape, [false, true])
  const is = nodes.map('equal', [best, spread(largest, [rowCount, 1], shape)], shape, 'bool')
  const args = [whole(is), column, constantLike(nodes, mostColumns, shape, 'float32')]
  const least = nodes.fold('min', whole(nodes.map('select', args, shape, 'float32')), shape, [false, true])
  return nodes.map('toWhole', [whole(least)], [rowCount], 'int32')
}
