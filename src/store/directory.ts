import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { createReadStream, createWriteStream } from 'node:fs'
import { mkdir, open, readdir, rename, rm, rmdir, stat } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { GestaltError, Misconfigured, NoRoom, NotFound } from '../errors.ts'
import { newId } from './id.ts'
import {
  asStream,
  damaged,
  digesting,
  isKey,
  type ObjectStore,
  readAll,
  refuseKey,
  type StoredObject,
  verified,
} from './objects.ts'

/** A store that serves its own links: `verify` says whether a request for `GET /objects/<key>` carries a valid one. */
export interface DirectoryStore extends ObjectStore {
  verify(key: string, query: Record<string, unknown>): boolean
}

interface DirectoryOptions {
  root: string
  /** Signs the links. */
  secret: string
  /** What links start with. */
  publicUrl: string
}

/** A key is a folder, and the file in it carries the digest, the size and the media type of its bytes in its name. */
interface Entry extends StoredObject {
  file: string
  type?: string
}

const entryName = /^@([0-9a-f]{64})\.(\d+)\.([A-Za-z0-9_-]*)$/

function nameOf({ sha256, size }: StoredObject, type = ''): string {
  return `@${sha256}.${size}.${Buffer.from(type).toString('base64url')}`
}

function parseName(folder: string, name: string, key: string): Entry | undefined {
  const [, sha256, size, type] = entryName.exec(name) ?? []
  if (!sha256) return undefined
  const media = type ? Buffer.from(type, 'base64url').toString() : undefined
  return { key, file: join(folder, name), sha256, size: Number(size), type: media }
}

const isMissing = (error: unknown) => ['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')

function translate(error: unknown, root: string): unknown {
  if (error instanceof GestaltError) return error
  const { code, message } = error as NodeJS.ErrnoException
  if (code === 'ENOSPC' || code === 'EDQUOT' || code === 'EFBIG')
    return new NoRoom(`there is no room for a file in ${root}: ${message}`, 'free some disk space and try again', {
      cause: error,
    })
  if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS' || code === 'ENOTDIR' || code === 'EEXIST')
    return new Misconfigured(
      `files cannot be kept in ${root}: ${message}`,
      'give this account the right to write there, or choose another folder with GESTALT_HOME',
      { cause: error },
    )
  return error
}

/** The file of a key; where a replacement was interrupted there are two, and the newer one counts. */
async function find(folder: string, key: string): Promise<Entry | undefined> {
  const names = await readdir(folder).catch((error: unknown) => {
    if (isMissing(error)) return []
    throw error
  })
  const entries = names.flatMap((name) => parseName(folder, name, key) ?? [])
  if (entries.length < 2) return entries[0]
  const dated = await Promise.all(entries.map(async (entry) => ({ entry, at: (await stat(entry.file)).mtimeMs })))
  return dated.sort((a, b) => b.at - a.at)[0]?.entry
}

async function sync(folder: string): Promise<void> {
  const handle = await open(folder, 'r')
  await handle.sync().finally(() => handle.close())
}

/** Moves a finished file to its place so that it is there after a power failure too. */
async function place(temporary: string, target: string): Promise<void> {
  const folder = dirname(target)
  for (let attempt = 1; ; attempt++) {
    const created = await mkdir(folder, { recursive: true })
    try {
      await rename(temporary, target)
    } catch (error) {
      if (!isMissing(error) || attempt === 5) throw error // `remove` took the empty folder away meanwhile: again
      continue
    }
    await sync(folder)
    for (let at = folder; created && at.length >= created.length; at = dirname(at)) await sync(dirname(at))
    return
  }
}

async function write(file: string, bytes: AsyncIterable<Uint8Array> | Uint8Array, key: string): Promise<StoredObject> {
  const digest = digesting()
  await pipeline(asStream(bytes), digest.stream, createWriteStream(file, { flush: true, mode: 0o600 }))
  const put = { key, size: digest.size(), sha256: digest.sha256() }
  for await (const _ of verified(createReadStream(file, { highWaterMark: 2 ** 18 }), put));
  return put
}

async function* walk(folder: string, key: string): AsyncIterable<Entry> {
  const entries = await readdir(folder, { withFileTypes: true }).catch((error: unknown) => {
    if (isMissing(error)) return []
    throw error
  })
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    if (entry.isDirectory()) yield* walk(join(folder, entry.name), key ? `${key}/${entry.name}` : entry.name)
    else if (key) yield* [parseName(folder, entry.name, key) ?? []].flat()
  }
}

/** Temporary files of processes that were killed a day ago or earlier. */
async function sweep(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    const file = join(folder, name)
    const { mtimeMs } = await stat(file).catch(() => ({ mtimeMs: Date.now() }))
    if (Date.now() - mtimeMs > 86_400_000) await rm(file, { force: true })
  }
}

/** Objects as files below `root`: written beside their place, synced, verified, then moved there in one step. */
export function openDirectory({ root: given, secret, publicUrl }: DirectoryOptions): DirectoryStore {
  const root = resolve(given)
  const objects = join(root, 'keys')
  const temporary = join(root, 'temporary')
  const folderOf = (key: string) => join(objects, key)

  const signature = (key: string, query: Record<string, unknown>) =>
    createHmac('sha256', secret)
      .update(JSON.stringify(['GET', key, query.expires, query.name ?? '', query.type ?? '']))
      .digest()

  async function entryOf(key: string): Promise<Entry> {
    const entry = isKey(key) ? await find(folderOf(key), key) : undefined
    if (!entry) throw new NotFound(`there is no object ${key}`, 'it may have been removed; read its row again')
    return entry
  }

  const store: DirectoryStore = {
    async put(key, bytes, options) {
      refuseKey(key)
      const half = join(temporary, randomBytes(12).toString('hex'))
      try {
        await mkdir(temporary, { recursive: true, mode: 0o700 })
        const put = await write(half, bytes, key)
        const name = nameOf(put, options?.type)
        await place(half, join(folderOf(key), name))
        for (const other of await readdir(folderOf(key)))
          if (other !== name && entryName.test(other)) await rm(join(folderOf(key), other), { force: true })
        return put
      } catch (error) {
        await rm(half, { force: true }).catch(() => {})
        throw translate(error, root)
      }
    },
    async get(key, range) {
      const entry = await entryOf(key)
      const { size } = await stat(entry.file)
      if (size !== entry.size) throw damaged(key, `it has ${size} bytes instead of ${entry.size}`)
      const last = Math.min(range?.end ?? size, size) - 1
      if (range && last < range.start) return asStream(new Uint8Array(0))
      const source = createReadStream(entry.file, { start: range?.start, end: range && last, highWaterMark: 2 ** 18 })
      return range ? source : verified(source, entry)
    },
    async stat(key) {
      const entry = isKey(key) ? await find(folderOf(key), key) : undefined
      if (!entry) return undefined
      const { size, mtime } = await stat(entry.file)
      return { size, type: entry.type, modified: mtime }
    },
    async *list(prefix) {
      const parents = prefix.split('/').slice(0, -1)
      if (parents.length > 0 && !isKey(parents.join('/'))) return
      for await (const { key, size } of walk(join(objects, ...parents), parents.join('/')))
        if (key.startsWith(prefix)) yield { key, size }
    },
    async remove(key) {
      if (!isKey(key)) return
      const folder = folderOf(key)
      const names = await readdir(folder).catch(() => [])
      for (const name of names) if (entryName.test(name)) await rm(join(folder, name), { force: true })
      // Folders that are empty now go too; the first that is not ends it.
      for (let at = folder; at !== objects; at = dirname(at))
        if (
          !(await rmdir(at).then(
            () => true,
            () => false,
          ))
        )
          break
    },
    async link(key, { seconds, name, type }) {
      refuseKey(key)
      const expires = String(Math.floor(Date.now() / 1000) + seconds)
      const query = { expires, ...(name ? { name } : {}), ...(type ? { type } : {}) }
      const path = key.split('/').map(encodeURIComponent).join('/')
      const signed = new URLSearchParams({ ...query, signature: signature(key, query).toString('base64url') })
      return `${publicUrl}/objects/${path}?${signed}`
    },
    file: async (key) => (isKey(key) ? (await find(folderOf(key), key))?.file : undefined),
    verify(key, query) {
      const given = Buffer.from(typeof query.signature === 'string' ? query.signature : '', 'base64url')
      const right = signature(key, { ...query, expires: String(query.expires) })
      return given.length === right.length && timingSafeEqual(given, right) && Number(query.expires) * 1000 > Date.now()
    },
    async check() {
      const key = `check/${newId()}`
      await store.put(key, Buffer.from(key))
      await readAll(await store.get(key))
      await store.remove(key)
      await sweep(temporary)
    },
  }
  return store
}
