import { Damaged } from '../errors.ts'
import type { ByteSource } from './dataset.ts'
import type { SetIndex } from './set-index.ts'

/** Bytes of one shard that are fetched together, and which of the wanted images lie in them. */
export interface Span {
  shard: number
  start: number
  end: number
  /** Places in what was asked for. */
  places: number[]
}

/** To read so many bytes for nothing costs less than another request. */
const gap = 64 * 2 ** 10
/** One request: more would only hold memory. */
const most = 4 * 2 ** 20
/**
 * Requests at once, and their bytes. A batch of small images is asked for all at once: while the thread that trains is
 * busy it sees no answer, and whatever waits for an answer to be asked for is late by a step.
 */
const parallel = 256
const parallelBytes = 64 * 2 ** 20

/** What has to be fetched for images of an index: neighbours in one piece, each byte once. */
export function planSpans(index: SetIndex, rows: ArrayLike<number>): Span[] {
  const { shard, offset, length } = index
  const places = Array.from({ length: rows.length }, (_, place) => place).sort((a, b) => {
    const [x, y] = [rows[a]!, rows[b]!]
    return shard[x]! - shard[y]! || offset[x]! - offset[y]!
  })
  const spans: Span[] = []
  for (const place of places) {
    const row = rows[place]!
    const [start, end] = [offset[row]!, offset[row]! + length[row]!]
    const last = spans.at(-1)
    if (last && last.shard === shard[row] && start - last.end <= gap && end - last.start <= most) {
      last.end = Math.max(last.end, end)
      last.places.push(place)
    } else spans.push({ shard: shard[row]!, start, end, places: [place] })
  }
  return spans
}

/** Hands each wanted image to `take` as soon as its bytes are there, several spans at a time. */
export async function readImages(
  bytes: ByteSource,
  index: SetIndex,
  rows: ArrayLike<number>,
  take: (place: number, image: Uint8Array) => Promise<void>,
): Promise<void> {
  const spans = planSpans(index, rows)
  const fetchSpan = async ({ shard, start, end, places }: Span) => {
    const { path, bytes: size } = index.shards[shard]!
    const content = await bytes.read(path, { start, end })
    if (content.length < end - start)
      throw new Damaged(
        `${path} ends at byte ${start + content.length} and should have ${size}`,
        'restore the shard from a copy, or add the set again',
      )
    await Promise.all(
      places.map((place) => {
        const row = rows[place]!
        const from = index.offset[row]! - start
        return take(place, content.subarray(from, from + index.length[row]!))
      }),
    )
  }
  const working = new Set<Promise<void>>()
  let held = 0
  for (const span of spans) {
    const size = span.end - span.start
    while (working.size > 0 && (working.size >= parallel || held + size > parallelBytes)) await Promise.race(working)
    held += size
    const work = fetchSpan(span).finally(() => {
      held -= size
      working.delete(work)
    })
    // What fails is told by the race or at the end; until then it must not count as unhandled.
    work.catch(() => {})
    working.add(work)
  }
  await Promise.all(working)
}
