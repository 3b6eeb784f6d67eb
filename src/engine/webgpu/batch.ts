import type { Plan } from '../recording/keys.ts'
import type { Operation, Value } from '../recording/record.ts'

/** The shape of what a convolution takes, or its gradient finds, as filter. */
function filterOf({ kind, shapes, outputs }: Operation): readonly number[] | undefined {
  if (kind === 'Conv2D' || kind === 'Conv2DBackpropInput') return shapes[1]
  return kind === 'Conv2DBackpropFilter' ? outputs[0]!.shape : undefined
}

/** Which of a graph's leaves may be images: those of four sides, but for filters and what an optimiser keeps of them. */
export function imagesAmong({ operations, leaves }: Plan): number[] {
  const filters = new Set(operations.map((operation) => `${filterOf(operation)}`))
  const places = leaves.map((_, place) => place)
  return places.filter((place) => leaves[place]!.shape.length === 4 && !filters.has(`${leaves[place]!.shape}`))
}

/** How many images are computed with at once, as far as can be seen: the most rows of those that came from JavaScript. */
export function batchOf(leaves: readonly Value[], images: readonly number[]): number | undefined {
  const rows = images.filter((place) => leaves[place]!.data).map((place) => leaves[place]!.shape[0]!)
  return rows.length > 0 ? Math.max(...rows) : undefined
}
