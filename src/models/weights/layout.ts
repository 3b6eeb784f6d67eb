/**
 * How a tensor of another program becomes one of ours: as it is; a filter [out, in, height, width] as
 * [height, width, in, out]; or a matrix [out, in] as [in, out].
 */
export type Layout = 'as-is' | 'filter' | 'matrix'

/** A layout, and for a matrix that reads flattened images the cells of those: they lie channels first elsewhere. */
export interface Arrangement {
  layout: Layout
  cells?: readonly [height: number, width: number] | undefined
}

/** The axes under which numbers are seen, and the order in which they are wanted. */
interface Turn {
  seen: readonly number[]
  order: readonly number[]
}

const count = (shape: readonly number[]) => shape.reduce((product, side) => product * side, 1)

/** Undefined where the shape does not fit. */
function turnOf({ layout, cells }: Arrangement, shape: readonly number[]): Turn | undefined {
  if (layout === 'as-is') return { seen: shape, order: shape.map((_, axis) => axis) }
  if (layout === 'filter') return shape.length === 4 ? { seen: shape, order: [2, 3, 1, 0] } : undefined
  const [to, from] = shape
  if (shape.length !== 2) return undefined
  if (!cells) return { seen: shape, order: [1, 0] }
  const [height, width] = cells
  const channels = from! / (height * width)
  return Number.isInteger(channels) ? { seen: [to!, channels, height, width], order: [2, 3, 1, 0] } : undefined
}

/** Our shape of a foreign tensor; undefined where its shape does not fit the arrangement. */
export function arrangedShape(arrangement: Arrangement, shape: readonly number[]): readonly number[] | undefined {
  const turn = turnOf(arrangement, shape)
  if (!turn) return undefined
  const sides = turn.order.map((axis) => turn.seen[axis]!)
  return arrangement.layout === 'matrix' ? [count(sides.slice(0, -1)), sides.at(-1)!] : sides
}

/** The numbers with their axes in another order. */
function transpose(data: Float32Array, { seen, order }: Turn): Float32Array {
  const strides = seen.map((_, axis) => count(seen.slice(axis + 1)))
  const sides = order.map((axis) => seen[axis]!)
  const steps = order.map((axis) => strides[axis]!)
  const made = new Float32Array(data.length)
  let at = 0
  const walk = (depth: number, from: number): void => {
    const step = steps[depth]!
    const side = sides[depth]!
    if (depth === sides.length - 1) for (let i = 0; i < side; i++) made[at++] = data[from + i * step]!
    else for (let i = 0; i < side; i++) walk(depth + 1, from + i * step)
  }
  if (sides.length === 0 || data.length === 0) made.set(data)
  else walk(0, 0)
  return made
}

/** A foreign tensor's numbers in our order. Its shape has to fit. */
export function arrange(arrangement: Arrangement, shape: readonly number[], data: Float32Array): Float32Array {
  return arrangement.layout === 'as-is' ? data : transpose(data, turnOf(arrangement, shape)!)
}

/** The shape that one of our tensors has elsewhere; undefined where it does not fit. */
export function foreignShape({ layout, cells }: Arrangement, shape: readonly number[]): readonly number[] | undefined {
  if (layout === 'as-is') return shape
  if (layout === 'filter') return shape.length === 4 ? [3, 2, 0, 1].map((axis) => shape[axis]!) : undefined
  if (shape.length !== 2) return undefined
  return cells && shape[0]! % (cells[0] * cells[1]) !== 0 ? undefined : [shape[1]!, shape[0]!]
}

/** Our numbers in the order that they have elsewhere. Our shape has to fit. */
export function disarrange(arrangement: Arrangement, shape: readonly number[], data: Float32Array): Float32Array {
  const foreign = foreignShape(arrangement, shape)!
  const turn = turnOf(arrangement, foreign)!
  const order = turn.order.map((_, axis) => turn.order.indexOf(axis))
  return transpose(data, { seen: turn.order.map((axis) => turn.seen[axis]!), order })
}
