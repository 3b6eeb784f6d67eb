import { Damaged } from '../errors.ts'
import type { ByteSource } from './dataset.ts'

/** A file of rows of one length after a header. */
export interface RowFile {
  path: string
  /** Bytes before the first row. */
  header: number
  rowBytes: number
  rows: number
}

/** Rows in the order of `wanted`, [n, rowBytes]; outside [0, rows) is the caller's fault. */
export type ReadRows = (wanted: ArrayLike<number>) => Promise<Uint8Array>

/** Larger files are read in parts when their rows are wanted, smaller ones once. */
export const mostInMemory = 512 * 2 ** 20

/** Rows between two wanted ones that are read for nothing, in bytes: that costs less than another request. */
const gap = 64 * 2 ** 10
const mostAtOnce = 4 * 2 ** 20
const parallel = 16

/** What such a file takes in memory once opened. */
export function rowFileMemory({ rowBytes, rows }: Pick<RowFile, 'rowBytes' | 'rows'>): number {
  return rowBytes * rows <= mostInMemory ? rowBytes * rows : 0
}

/** Throws Damaged where the file has not the size that its rows need. */
export async function checkRowFile({ path, header, rowBytes, rows }: RowFile, bytes: ByteSource): Promise<void> {
  const wanted = header + rowBytes * rows
  const found = (await bytes.stat(path))?.size ?? 0
  if (found === wanted) return
  throw new Damaged(
    `${path} has ${found} bytes; ${rows} rows of ${rowBytes}${header > 0 ? ` after ${header}` : ''} take ${wanted}: it is ${found < wanted ? 'cut short' : 'too long'}`,
    'put the whole file there again',
  )
}

interface Span {
  first: number
  end: number
  places: number[]
}

/** Wanted rows in ranges: neighbours together, each row once. */
export function planRanges(wanted: ArrayLike<number>, rowBytes: number): Span[] {
  const order = Array.from({ length: wanted.length }, (_, place) => place).sort((a, b) => wanted[a]! - wanted[b]!)
  const spans: Span[] = []
  for (const place of order) {
    const row = wanted[place]!
    const last = spans.at(-1)
    if (last && (row - last.end) * rowBytes <= gap && (row + 1 - last.first) * rowBytes <= mostAtOnce) {
      last.end = Math.max(last.end, row + 1)
      last.places.push(place)
    } else spans.push({ first: row, end: row + 1, places: [place] })
  }
  return spans
}

function readByRange({ path, header, rowBytes }: RowFile, bytes: ByteSource): ReadRows {
  return async (wanted) => {
    const data = new Uint8Array(wanted.length * rowBytes)
    const spans = planRanges(wanted, rowBytes)
    const fetchSpan = async ({ first, end, places }: Span) => {
      const range = { start: header + first * rowBytes, end: header + end * rowBytes }
      const content = await bytes.read(path, range)
      if (content.length < range.end - range.start)
        throw new Damaged(`${path} ends at byte ${range.start + content.length}`, 'put the whole file there again')
      for (const place of places) {
        const from = (wanted[place]! - first) * rowBytes
        data.set(content.subarray(from, from + rowBytes), place * rowBytes)
      }
    }
    let next = 0
    const line = async () => {
      while (next < spans.length) await fetchSpan(spans[next++]!)
    }
    await Promise.all(Array.from({ length: Math.min(parallel, spans.length) }, line))
    return data
  }
}

/** Rows that are in memory already. */
export function rowsOf(content: Uint8Array, rowBytes: number): ReadRows {
  return async (wanted) => {
    const data = new Uint8Array(wanted.length * rowBytes)
    for (let place = 0; place < wanted.length; place++) {
      const from = wanted[place]! * rowBytes
      data.set(content.subarray(from, from + rowBytes), place * rowBytes)
    }
    return data
  }
}

/** Random access to the rows: from memory where the file is small, by ranges where it is large. */
export async function openRows(file: RowFile, bytes: ByteSource): Promise<ReadRows> {
  await checkRowFile(file, bytes)
  if (rowFileMemory(file) === 0) return readByRange(file, bytes)
  return rowsOf((await bytes.read(file.path)).subarray(file.header), file.rowBytes)
}
