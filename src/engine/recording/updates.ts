import { Unavailable } from '../../errors.ts'
import { known, type Operation, type Value } from './record.ts'
import { sizeOf } from './shape.ts'

/** Rows in the place of some rows of a leaf: what is asked for where nothing else in the graph needs it. */
export interface Update {
  /** Has the numbers of `base` but for the rows. */
  root: Value
  base: Value
  /** Which rows, [n], known to JavaScript. */
  places: Value
  /** [n, width]. */
  rows: Value
  width: number
  /** Whether nothing else needs the base any more: what is in its memory may be overwritten. */
  free: boolean
}

function updateOf(root: Value): Update | undefined {
  const { operation } = root
  if (operation?.kind !== 'TensorScatterUpdate') return undefined
  const [base, places, rows] = operation.inputs as [Value, Value, Value]
  const [seen, indices] = operation.shapes as [readonly number[], readonly number[]]
  const told = places.data !== undefined && places.dtype === 'int32' && indices.at(-1) === 1
  if (base.operation || !told) return undefined
  return { root, base, places, rows, width: sizeOf(seen.slice(1)), free: !base.alive }
}

/**
 * Sets aside what of the values asked for are updates, which are made when their graph has run: a graph would copy all
 * of the base, where a few rows of many change. `roots` are what the graph has to compute for all of it.
 */
export function setAsideUpdates(asked: readonly Value[], recorded: readonly Operation[]) {
  const updates = new Map<Value, Update>()
  for (const root of asked) {
    const update = updateOf(root)
    if (update && !recorded.some(({ inputs }) => inputs.includes(root))) updates.set(root, update)
  }
  const all = [...updates.values()]
  for (const update of all) update.free &&= all.every((other) => other === update || other.base !== update.base)
  const roots = new Set(asked.filter((value) => !updates.has(value)))
  for (const { rows } of all) if (rows.operation) roots.add(rows)
  return { roots: [...roots], updates: all }
}

/** Throws where one of the places is no row of so many. */
export function refuseOutside(places: ArrayLike<number>, count: number): void {
  for (let i = 0; i < places.length; i++) {
    if (places[i]! >= 0 && places[i]! < count) continue
    throw new Unavailable(
      `row ${places[i]} was to be updated, of ${count}`,
      'see that indices are whole numbers from 0 to below the number of rows',
    )
  }
}

/** Makes an update where JavaScript sees the numbers: in their place, or in that of a copy which later ones change. */
export function putRows({ root, base, places, rows, width, free }: Update): void {
  const [before, at, values] = [known(base), known(places), known(rows)]
  refuseOutside(at, before.length / width)
  const numbers = free && base.ours ? before : before.slice()
  for (let i = 0; i < at.length; i++) numbers.set(values.subarray(i * width, (i + 1) * width), at[i]! * width)
  root.data = numbers
  root.ours = true
}
