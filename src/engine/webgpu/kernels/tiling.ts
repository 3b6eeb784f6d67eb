import type { Facts } from '../shader.ts'

/** How a product is cut: a workgroup makes high x wide results, an invocation some rows and columns of them. */
export interface Tiling {
  high: number
  wide: number
  rows: number
  columns: number
  /** Inner places that are in shared memory at once. */
  deep: number
  /** Two where the next are put there while these are used. */
  stages: 1 | 2
  /** Whether inner places pass in a loop: less code, which is sooner ready than it is slower where there is little to sum. */
  rolled: boolean
  /** Parts in which the inner side is summed. */
  parts: number
}

export interface Extent {
  batch: number
  rows: number
  inner: number
  columns: number
}

type Shape = Pick<Tiling, 'high' | 'wide' | 'rows' | 'columns'> & {
  /** Share of the arithmetic's rate that tiles of this shape reach at best. */
  share: number
}

const shape = (high: number, wide: number, rows: number, columns: number, share: number): Shape => ({
  ...{ high, wide, rows, columns, share },
})

const shapes: readonly Shape[] = [
  shape(128, 128, 8, 8, 0.8),
  shape(128, 64, 8, 8, 0.75),
  shape(64, 128, 8, 8, 0.75),
  shape(64, 64, 8, 4, 0.65),
  shape(128, 32, 8, 4, 0.6),
  shape(32, 128, 4, 8, 0.6),
  shape(64, 32, 4, 4, 0.5),
  shape(32, 64, 4, 4, 0.5),
  shape(32, 32, 4, 4, 0.5),
  shape(128, 16, 8, 4, 0.5),
  shape(16, 128, 4, 8, 0.5),
]

const partsToTry = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256]
/** Bytes of parts that wait to be summed. */
const mostScratch = 2 ** 26
const fewestInner = 64
/** Below so many sums code is kept short. */
const littleWork = 2 ** 21
/** Where code is to be short in any case: tiles with the least of it, for few columns or rows too. */
const briefShapes: readonly Shape[] = [
  ...shapes.filter(({ rows, columns }) => rows === 4 && columns === 4),
  shape(64, 16, 4, 4, 0.5),
  shape(16, 64, 4, 4, 0.5),
]

/** A large card: what runs at once there, sums a clock, and bytes a clock from its cache, each of one multiprocessor. */
const card = { multiprocessors: 132, warps: 32, sums: 128, bytes: 24 }
/** Clocks until numbers come from memory, and until one dispatch has followed another. */
const [latency, dispatch] = [600, 4000]

export const threadsOf = ({ high, wide, rows, columns }: Pick<Tiling, 'high' | 'wide' | 'rows' | 'columns'>) =>
  (high / rows) * (wide / columns)

/** Fours of one row of a panel; odd, so that neighbours in a column of it are in different banks. */
export const pitchOf = (width: number) => width / 4 + 1

const sharedBytes = ({ high, wide }: Shape, deep: number, stages: number) =>
  16 * stages * deep * (pitchOf(high) + pitchOf(wide))

export function tilesOf({ batch, rows, columns }: Extent, { high, wide }: Pick<Tiling, 'high' | 'wide'>): number {
  return batch * Math.ceil(rows / high) * Math.ceil(columns / wide)
}

/** About how many clocks a large card takes. */
function clocks(extent: Extent, own: Shape, deep: number, parts: number): number {
  const { multiprocessors, warps, sums, bytes } = card
  const each = Math.ceil((tilesOf(extent, own) * parts) / multiprocessors)
  const ownWarps = threadsOf(own) / 32
  const panels = Math.ceil(extent.inner / parts / deep)
  const inner = panels * deep
  const size = own.high * own.wide
  // Few warps cannot hide what each of them waits for.
  const busy = Math.min(1, (each * ownWarps) / 8)
  const arithmetic = (each * size * inner) / sums / (own.share * busy)
  const reading = (each * (own.high + own.wide) * inner * 4) / bytes
  const waiting = (Math.ceil((each * ownWarps) / warps) * panels * latency) / 2
  const results = extent.batch * extent.rows * extent.columns
  const together = parts === 1 ? 0 : dispatch + (8 * parts * results) / bytes / multiprocessors
  return Math.max(arithmetic, reading, waiting) + 2 * latency + (each * size * 4) / bytes + together
}

/** `kept` bytes of the shared memory are needed for something else. */
export function chooseTiling(extent: Extent, facts: Facts, kept = 0, inParts = true): Tiling {
  let best: Tiling | undefined
  let least = Number.POSITIVE_INFINITY
  const results = extent.batch * extent.rows * extent.columns
  const rolled = facts.brief === true || results * extent.inner < littleWork
  for (const own of facts.brief ? briefShapes : shapes) {
    if (threadsOf(own) > facts.invocations) continue
    const room = roomFor(own, facts.brief ? 8 : extent.inner, facts.shared - kept)
    if (!room) continue
    for (const parts of inParts ? partsToTry : [1]) {
      if (parts > 1 && (extent.inner / parts < fewestInner || 4 * parts * results > mostScratch)) break
      const taken = clocks(extent, own, room.deep, parts)
      if (taken >= least) continue
      least = taken
      const { share, ...sizes } = own
      best = { ...sizes, ...room, rolled, parts }
    }
  }
  if (!best) throw new RangeError(`no tile of a product fits ${facts.shared} bytes of shared memory`)
  return best
}

function roomFor(own: Shape, inner: number, shared: number): Pick<Tiling, 'deep' | 'stages'> | undefined {
  for (const [deep, stages] of [
    [16, 2],
    [8, 2],
    [8, 1],
  ] as const) {
    if (deep === 16 && inner <= 8) continue
    if (sharedBytes(own, deep, stages) <= shared) return { deep, stages }
  }
  return undefined
}
