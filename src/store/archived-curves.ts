import { GestaltError } from '../errors.ts'
import { type Archive, findArchives, readArchived, type Shelf } from './archives.ts'
import type { Decoded } from './parquet.ts'
import type { Queryable } from './rollups.ts'

/** Places of a sampled curve begin at `origin` and are so many steps wide; 0 where every point is wanted. */
export interface Places {
  origin: number
  width: number
}

export interface PointRow {
  series: string
  step: number
  value: number
  /** Milliseconds since 1970; as text they would cost more than the rest of the row. */
  time: number
  /** Points that the shown ones stand for; null where all are shown. */
  total: number | null
}

/** Rows of the points that stand for one place, among those from `from` up to but without `to`. */
function chosen(values: Float64Array, from: number, to: number): Set<number> {
  let [low, high, bad] = [-1, -1, -1]
  for (let row = from; row < to; row++) {
    const value = values[row]!
    if (!Number.isFinite(value)) {
      if (bad < 0) bad = row
      continue
    }
    if (low < 0 || value < values[low]!) low = row
    if (high < 0 || value > values[high]!) high = row
  }
  const rows = [from, low, high, bad, to - 1].filter((row) => row >= 0)
  return new Set(rows.sort((a, b) => a - b))
}

/** The rows that show a curve, by the rule of the rollups: the first, last, lowest, highest and first non-finite point. */
export function thin({ steps, values }: Decoded, { origin, width }: Places): number[] {
  if (width === 0) return Array.from(steps.keys())
  const placeOf = (row: number) => Math.floor((steps[row]! - origin) / width)
  const rows: number[] = []
  for (let from = 0; from < steps.length; ) {
    let to = from + 1
    while (to < steps.length && placeOf(to) === placeOf(from)) to++
    rows.push(...chosen(values, from, to))
    from = to
  }
  return rows
}

/** A curve whose points are to be read from the archive of its run. */
export interface ArchivedSeries {
  id: string
  name: string
  first: number
  last: number
}

/** Curves of one run from its archive, as the database would have shown them. */
async function readFile(objects: Shelf, archive: Archive | undefined, wanted: readonly [ArchivedSeries, Places][]) {
  const found = new Map<string, PointRow[]>()
  for (const [series, places] of wanted) {
    // The archive was there a moment ago: its run is being deleted, and its curves with it.
    if (!archive) continue
    const points = await readArchived(objects, archive, series)
    const total = places.width > 0 ? points.steps.length : null
    const row = (at: number): PointRow => ({
      series: series.id,
      step: points.steps[at]!,
      value: points.values[at]!,
      time: points.times[at]!,
      total,
    })
    found.set(series.id, thin(points, places).map(row))
  }
  return found
}

/** Files that are read at the same time. */
const lanes = 8

/** From the archives of any number of runs; what went wrong with one of them stands in place of its curves. */
export async function readFiles(database: Queryable, objects: Shelf, wanted: Map<string, [ArchivedSeries, Places][]>) {
  const found = new Map<string, Map<string, PointRow[]> | GestaltError>()
  if (wanted.size === 0) return found
  const archives = await findArchives(database, [...wanted.keys()])
  const waiting = [...wanted]
  const lane = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      const [runId, curves] = next
      const read = readFile(objects, archives.get(runId), curves).catch((error: unknown) => {
        if (error instanceof GestaltError) return error
        throw error
      })
      found.set(runId, await read)
    }
  }
  await Promise.all(Array.from({ length: lanes }, lane))
  return found
}
