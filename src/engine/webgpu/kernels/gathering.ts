import { cast, type Find, type Lowering } from '../../graph/maps.ts'
import { type Arg, type Node, type Nodes, whole } from '../../graph/node.ts'
import type { Operation } from '../../recording/record.ts'
import { sizeOf } from '../../recording/shape.ts'
import { eachShader, elementOf, special, widthFor } from './each.ts'

/** Operand i, which are places, as whole numbers. */
export function placesOf(operation: Operation, i: number, nodes: Nodes, find: Find): Node {
  const node = find(operation.inputs[i]!)
  return cast(nodes, whole(node), node.shape, 'int32').node
}

interface Sides {
  batch: number
  outer: number
  /** How many slices there are, and how many are taken. */
  n: number
  m: number
  slice: number
}

/** From x [batch, outer, n, slice] the slices at places [batch, m]: [batch, outer, m, slice]; zeros for places outside. */
export function gather(nodes: Nodes, x: Node, places: Node, { batch, outer, n, m, slice }: Sides): Node {
  const shape = [batch, outer, m, slice]
  const width = widthFor(slice)
  const wide = slice / width.lanes
  const element = elementOf(x, width)
  return nodes.special(
    shape,
    x.dtype,
    special('gather', [x, places], (self, work) => {
      const code = `let at = i / ${wide}u;
let pair = at / ${m}u;
let place = u32(places[${batch === 1 ? '' : `pair / ${outer}u * ${m}u + `}at % ${m}u]);
var v = ${element}(0);
if (place < ${n}u) { v = x[(pair * ${n}u + place) * ${wide}u + i % ${wide}u]; }
y[i] = v;`
      const bound = [
        { name: 'x', of: x, element },
        { name: 'places', of: places, element: 'i32' as const },
        { name: 'y', of: self, element, writes: true },
      ]
      return [eachShader(work(bound), sizeOf(shape) / width.lanes, code)]
    }),
  )
}

const gatherAlong: Lowering = (operation, nodes, find) => {
  const { axis } = operation.attributes as { axis: number }
  const [seen, places] = operation.shapes as [readonly number[], readonly number[]]
  return gather(nodes, find(operation.inputs[0]!), placesOf(operation, 1, nodes, find), {
    batch: 1,
    outer: sizeOf(seen.slice(0, axis)),
    n: seen[axis]!,
    m: sizeOf(places),
    slice: sizeOf(seen.slice(axis + 1)),
  })
}

/** From x [batch, outer, n, slice], at places [batch, m, 1]. */
const gatherInBatches: Lowering = (operation, nodes, find) => {
  const [[batch, outer, n, slice], [, m]] = operation.shapes as [[number, number, number, number], [number, number]]
  return gather(nodes, find(operation.inputs[0]!), placesOf(operation, 1, nodes, find), { batch, outer, n, m, slice })
}

/** Places [rows, rank] as numbers of one, in a tensor of the shape: those outside as one that is outside too. */
export function flatPlaces(nodes: Nodes, places: Node, rows: number, shape: readonly number[]): Node {
  const rank = shape.length
  const whole_ = (value: number): Arg => ({ node: nodes.constant(value, 'int32'), strides: [0], offset: 0 })
  const outside = whole_(-1)
  let [sum, fits] = [whole_(0), whole_(1)]
  for (const [axis, side] of shape.entries()) {
    const own: Arg = { node: places, strides: [rank], offset: axis }
    const scaled = nodes.map('multiplyWhole', [own, whole_(sizeOf(shape.slice(axis + 1)))], [rows], 'int32')
    sum = whole(nodes.map('addWhole', [sum, whole(scaled)], [rows], 'int32'))
    const after = nodes.map('greaterEqualWhole', [own, whole_(0)], [rows], 'bool')
    const before = nodes.map('lessWhole', [own, whole_(side)], [rows], 'bool')
    const inside = nodes.map('and', [whole(after), whole(before)], [rows], 'bool')
    fits = whole(nodes.map('and', [fits, whole(inside)], [rows], 'bool'))
  }
  return nodes.map('select', [fits, sum, outside], [rows], 'int32')
}

const gatherNd: Lowering = (operation, nodes, find) => {
  const [seen, at] = operation.shapes as [readonly number[], readonly number[]]
  const rank = at.at(-1)!
  const rows = sizeOf(at.slice(0, -1))
  const places = flatPlaces(nodes, placesOf(operation, 1, nodes, find), rows, seen.slice(0, rank))
  const slice = sizeOf(seen.slice(rank))
  const sides = { batch: 1, outer: 1, n: sizeOf(seen.slice(0, rank)), m: rows, slice }
  return gather(nodes, find(operation.inputs[0]!), places, sides)
}

/** Operations that take what is at some places, by kind. */
export const gathering: Readonly<Record<string, Lowering>> = {
  Gather: gatherAlong,
  GatherInBatches: gatherInBatches,
  GatherNd: gatherNd,
}
