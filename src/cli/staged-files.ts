import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { ByteSource } from '../data/dataset.ts'
import { NotFound, Unavailable } from '../errors.ts'
import { readAll } from '../store/objects.ts'

/** A file on its way into the store: in memory, or where it lies. */
export type StagedFile = { bytes: Uint8Array } | { path: string; size: number }

/** A file of a mirror is a few MB and arrives within minutes, or the mirror is down. */
const downloadMilliseconds = 600_000

export const isUrl = (from: string) => /^https?:\/\//.test(from)

async function download(from: string, name: string): Promise<StagedFile | undefined> {
  const url = `${from.replace(/\/$/, '')}/${name}`
  const response = await fetch(url, { signal: AbortSignal.timeout(downloadMilliseconds) }).catch((cause: unknown) => {
    throw new Unavailable(
      `${url} cannot be fetched`,
      'check the address, or download the files and name their folder',
      { cause },
    )
  })
  if (response.status === 404) return undefined
  if (!response.ok)
    throw new NotFound(
      `${url} answers ${response.status}`,
      'check the address: the files are looked for right below it',
    )
  return { bytes: new Uint8Array(await response.arrayBuffer()) }
}

/** A file below a folder or a URL, under the first of these names that is there. */
export async function stageFile(from: string, names: readonly string[]): Promise<StagedFile | undefined> {
  for (const name of names) {
    if (isUrl(from)) {
      const found = await download(from, name)
      if (found) return found
      continue
    }
    const path = join(from, name)
    const found = await stat(path).catch(() => undefined)
    if (found?.isFile()) return { path, size: found.size }
  }
  return undefined
}

export function stagedMissing(from: string, name: string): NotFound {
  return new NotFound(
    isUrl(from) ? `${from.replace(/\/$/, '')}/${name} answers 404` : `there is no readable ${join(from, name)}`,
    isUrl(from)
      ? 'check the address: the files are looked for right below it'
      : 'name the folder that holds the files of the dataset',
  )
}

export const stagedSize = (file: StagedFile) => ('bytes' in file ? file.bytes.length : file.size)

/** The content as a stream, or at once where it is in memory. */
export function stagedContent(file: StagedFile): Uint8Array | AsyncIterable<Uint8Array> {
  return 'bytes' in file ? file.bytes : createReadStream(file.path, { highWaterMark: 2 ** 20 })
}

export async function stagedBytes(file: StagedFile): Promise<Uint8Array> {
  return 'bytes' in file ? file.bytes : readAll(createReadStream(file.path, { highWaterMark: 2 ** 20 }))
}

export async function stagedMd5(file: StagedFile): Promise<string> {
  const hash = createHash('md5')
  if ('bytes' in file) return hash.update(file.bytes).digest('hex')
  for await (const chunk of createReadStream(file.path, { highWaterMark: 2 ** 20 })) hash.update(chunk as Uint8Array)
  return hash.digest('hex')
}

/** The staged files as a dataset reads them, by path. */
export function stagedSource(files: ReadonlyMap<string, StagedFile>): ByteSource {
  return {
    async stat(path) {
      const file = files.get(path)
      return file && { size: stagedSize(file) }
    },
    async read(path, range) {
      const file = files.get(path)
      if (!file) throw new NotFound(`there is no dataset file ${path}`, 'add it')
      if ('bytes' in file) return range ? file.bytes.subarray(range.start, range.end) : file.bytes
      if (range && range.end <= range.start) return new Uint8Array()
      return readAll(createReadStream(file.path, range ? { start: range.start, end: range.end - 1 } : {}))
    },
  }
}
