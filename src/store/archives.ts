import { createHash } from 'node:crypto'
import { Damaged, NotFound } from '../errors.ts'
import { type ObjectStore, readAll } from './objects.ts'
import { type Decoded, decodeFooter, decodePart, type Extent, type Footer, type Layout, type Part } from './parquet.ts'
import type { Queryable } from './rollups.ts'

/** What reading an archive needs of the object store. */
export type Shelf = Pick<ObjectStore, 'get'>

/** The points of a finished run as a Parquet file in the object store. */
export interface Archive {
  runId: string
  key: string
  layout: Layout
}

/** Those of the runs whose points are archived. */
export async function findArchives(database: Queryable, runIds: readonly string[]): Promise<Map<string, Archive>> {
  const { rows } = await database.query<Archive>({
    name: 'archives-of-runs',
    text: 'SELECT run_id AS "runId", key, parts AS layout FROM archives WHERE run_id = ANY ($1::uuid[])',
    values: [runIds],
  })
  return new Map(rows.map((row) => [row.runId, row]))
}

function broken({ runId, key }: Archive, how: string, cause?: unknown): Damaged {
  return new Damaged(
    `the points of run ${runId} are archived in the object ${key}, ${how}`,
    'restore that object from a copy; overviews of its longest curves can be read without it',
    { cause },
  )
}

/** Exactly the bytes that were written there, or Damaged. */
async function fetch(objects: Shelf, archive: Archive, { start, end }: Omit<Extent, 'sha256'>): Promise<Buffer> {
  try {
    return await readAll(await objects.get(archive.key, { start, end }))
  } catch (error) {
    if (error instanceof NotFound) throw broken(archive, 'which is not there', error)
    if (error instanceof Damaged) throw broken(archive, `which is damaged: ${error.message}`, error)
    throw error
  }
}

function verify(archive: Archive, { start, end, sha256 }: Extent, bytes: Uint8Array): void {
  if (createHash('sha256').update(bytes).digest('hex') === sha256) return
  throw broken(archive, `whose bytes ${start} to ${end} are not what was stored`)
}

/** Joins what was decoded, without the points outside of the steps asked for. */
function join(decoded: readonly Decoded[], first: number, last: number): Decoded {
  const count = decoded.reduce((sum, { steps }) => sum + steps.length, 0)
  const empty = () => new Float64Array(count)
  const all: Decoded = { steps: empty(), values: empty(), times: empty() }
  let at = 0
  for (const one of decoded) {
    for (const column of ['steps', 'values', 'times'] as const) all[column].set(one[column], at)
    at += one.steps.length
  }
  let from = 0
  while (from < count && all.steps[from]! < first) from++
  let to = count
  while (to > from && all.steps[to - 1]! > last) to--
  const cut = (column: Float64Array) => column.subarray(from, to)
  return { steps: cut(all.steps), values: cut(all.values), times: cut(all.times) }
}

/**
 * The points of an archived curve from one step to another, both included: two reads of a range, each verified. Throws
 * Damaged, which names the run and the object, where they are lost or changed.
 */
export async function readArchived(
  objects: Shelf,
  archive: Archive,
  asked: { name: string; first: number; last: number },
): Promise<Decoded> {
  const { parts, footer: end } = archive.layout
  const wanted = parts
    .map((part, place) => ({ part, place }))
    .filter(({ part }) => part.name === asked.name && part.first <= asked.last && part.last >= asked.first)
  if (wanted.length === 0) return join([], asked.first, asked.last)
  // The parts of one curve lie one after the other.
  const start = wanted[0]!.part.start
  const [tail, bytes] = await Promise.all([
    fetch(objects, archive, end),
    fetch(objects, archive, { start, end: wanted.at(-1)!.part.end }),
  ])
  verify(archive, end, tail)
  const slice = (part: Part) => bytes.subarray(part.start - start, part.end - start)
  for (const { part } of wanted) verify(archive, part, slice(part))
  const footer: Footer = decodeFooter(tail)
  const decoded: Decoded[] = []
  for (const { part, place } of wanted) decoded.push(await decodePart(footer, place, part, slice(part)))
  return join(decoded, asked.first, asked.last)
}
