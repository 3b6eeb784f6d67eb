import type { Lowering } from '../../graph/maps.ts'
import type { Node, Nodes } from '../../graph/node.ts'
import { sizeOf } from '../../recording/shape.ts'
import type { Bound, Scratch, Shader } from '../shader.ts'
import { eachShader, elementOf, special, type Work, widthFor } from './each.ts'
import { flatPlaces, placesOf } from './gathering.ts'

/** Up to so many rows each look whether one of those after them goes to the same place. */
const fewRows = 4096

interface Sides {
  rows: number
  width: number
  places: number
}

type Job = (bound: readonly Bound[]) => Work

/** Says which row is the last at each place, by its number and 1; for many rows. */
function lastOfPlaces(work: Job, self: Node, at: Node, { rows, places }: Sides): { last: Scratch; shaders: Shader[] } {
  const last: Scratch = { scratch: `last of ${self.number}`, bytes: 4 * places }
  const mark = `let place = u32(at[i]);
if (place < ${places}u) { atomicMax(&last[place], i + 1u); }`
  const clear: Bound = { name: 'last', of: last, element: 'u32', writes: true }
  return {
    last,
    shaders: [
      eachShader(work([clear]), places, 'last[i] = 0u;'),
      eachShader(
        work([
          { name: 'at', of: at, element: 'i32' },
          { ...clear, element: 'atomic<u32>' },
        ]),
        rows,
        mark,
      ),
    ],
  }
}

/** The tensor [places, width] with rows [rows, width] in the place of some of its own; of equal places the last row. */
function scatterRows(nodes: Nodes, tensor: Node, at: Node, updates: Node, sides: Sides): Node {
  const { rows, width, places } = sides
  const unit = widthFor(width)
  const wide = width / unit.lanes
  const element = elementOf(tensor, unit)
  const own = special('scatter', [tensor, at, updates], (self, work) => {
    const result: Bound = { name: 'y', of: self, element, writes: true }
    const from: Bound = { name: 'x', of: tensor, element }
    const { last, shaders } = rows > fewRows ? lastOfPlaces(work, self, at, sides) : { last: undefined, shaders: [] }
    const overwritten = last
      ? `if (last[place] != row + 1u) { return; }`
      : `for (var j = row + 1u; j < ${rows}u; j++) { if (u32(at[j]) == place) { return; } }`
    const write = `let row = i / ${wide}u;
let place = u32(at[row]);
if (place >= ${places}u) { return; }
${overwritten}
y[place * ${wide}u + i % ${wide}u] = updates[i];`
    const bound: Bound[] = [
      { name: 'at', of: at, element: 'i32' },
      ...(last ? [{ name: 'last', of: last, element: 'u32' as const }] : []),
      { name: 'updates', of: updates, element },
      result,
    ]
    return [
      ...shaders,
      eachShader(work([from, result]), places * wide, 'y[i] = x[i];'),
      eachShader(work(bound), rows * wide, write),
    ]
  })
  return nodes.special([places, width], tensor.dtype, own)
}

const scatterUpdate: Lowering = (operation, nodes, find) => {
  const [seen, at] = operation.shapes as [readonly number[], readonly number[]]
  const rank = at.at(-1)!
  const rows = sizeOf(at.slice(0, -1))
  const held = seen.slice(0, rank)
  const places = flatPlaces(nodes, placesOf(operation, 1, nodes, find), rows, held)
  const [tensor, , updates] = operation.inputs.map(find) as [Node, Node, Node]
  const sides = { rows, width: sizeOf(seen.slice(rank)), places: sizeOf(held) }
  return scatterRows(nodes, tensor, places, updates, sides)
}

/** Operations that put rows in the place of others, by kind. */
export const scattering: Readonly<Record<string, Lowering>> = {
  TensorScatterUpdate: scatterUpdate,
}
