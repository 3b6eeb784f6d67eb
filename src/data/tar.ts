import { Damaged } from '../errors.ts'

/** A file in a tar archive. Its bytes are handed out once, before the next file is asked for. */
export interface TarFile {
  name: string
  size: number
  /** Where its bytes begin in the archive. */
  offset: number
  /** The whole of it. Throws Damaged where the archive ends before it does. */
  read(): Promise<Uint8Array>
}

export interface TarLimits {
  /** Headers of any kind, so that an archive of a billion empty files ends. */
  entries: number
  /** Bytes of one file that may be read. */
  fileBytes: number
}

const block = 512
/** Long names and attributes take a block or two; more is no name. */
const longestExtension = 2 ** 20
const cure = 'make the archive again with tar: plain files, names inside of it, no links'

/** Bytes of a stream in the lengths that are asked for. */
class Source {
  at = 0
  private readonly chunks: AsyncIterator<Uint8Array>
  private rest: Uint8Array = new Uint8Array(0)

  constructor(stream: AsyncIterable<Uint8Array>) {
    this.chunks = stream[Symbol.asyncIterator]()
  }

  /** As many bytes as there are, `length` at most; a view where they lie together. */
  async take(length: number): Promise<Uint8Array> {
    const parts: Uint8Array[] = []
    let missing = length
    while (missing > 0) {
      if (this.rest.length === 0) {
        const next = await this.chunks.next()
        if (next.done) break
        this.rest = next.value
      }
      const part = this.rest.subarray(0, missing)
      this.rest = this.rest.subarray(part.length)
      parts.push(part)
      missing -= part.length
    }
    this.at += length - missing
    return parts.length === 1 ? parts[0]! : Buffer.concat(parts)
  }

  /** Passes over bytes without keeping them; false where there are fewer. */
  async skip(length: number): Promise<boolean> {
    for (let missing = length; missing > 0; ) {
      const passed = await this.take(Math.min(missing, 2 ** 20))
      if (passed.length === 0) return false
      missing -= passed.length
    }
    return true
  }

  async close(): Promise<void> {
    await this.chunks.return?.()
  }
}

const text = new TextDecoder('utf-8', { fatal: false })

function field(header: Uint8Array, start: number, length: number): string {
  const bytes = header.subarray(start, start + length)
  const end = bytes.indexOf(0)
  return text.decode(end < 0 ? bytes : bytes.subarray(0, end))
}

/** Octal digits, or with the first bit set a binary number (GNU); NaN where it is neither. */
function number(header: Uint8Array, start: number, length: number): number {
  const bytes = header.subarray(start, start + length)
  if (bytes[0]! & 0x80) return bytes.subarray(1).reduce((sum, byte) => sum * 256 + byte, bytes[0]! & 0x7f)
  const digits = field(header, start, length).trim()
  return /^[0-7]*$/.test(digits) ? Number.parseInt(digits || '0', 8) : Number.NaN
}

function sumFits(header: Uint8Array): boolean {
  let sum = 0
  for (let i = 0; i < block; i++) sum += i >= 148 && i < 156 ? 32 : header[i]!
  return sum === number(header, 148, 8)
}

/** Records `<length> <key>=<value>\n` of a pax header. */
function attributes(bytes: Uint8Array): Record<string, string> {
  const found: Record<string, string> = {}
  for (let at = 0; at < bytes.length; ) {
    const space = bytes.indexOf(32, at)
    const length = space < 0 ? 0 : Number(text.decode(bytes.subarray(at, space)))
    if (!Number.isInteger(length) || length < 5 || at + length > bytes.length) break
    const [, key, value] = /^([^=]*)=([\s\S]*)\n$/.exec(text.decode(bytes.subarray(space + 1, at + length))) ?? []
    if (key !== undefined) found[key] = value!
    at += length
  }
  return found
}

/** The name as a path inside of the archive, without a leading './'. Throws Damaged where it leads out of it. */
function insideName(archive: string, name: string): string {
  const parts = name.split('/').filter((part) => part !== '' && part !== '.')
  if (name.startsWith('/') || name.includes('\\') || name.includes('\0') || parts.includes('..'))
    throw new Damaged(`${archive} holds a file '${name.slice(0, 200)}', which lies outside of it`, cure)
  return parts.join('/')
}

const links: Record<string, string> = {
  1: 'a hard link',
  2: 'a symbolic link',
  3: 'a device',
  4: 'a device',
  6: 'a pipe',
}

interface Header {
  name: string
  size: number
  kind: string
}

function readHeader(archive: string, bytes: Uint8Array, at: number): Header {
  if (!sumFits(bytes))
    throw new Damaged(`${archive} is no tar archive at byte ${at}: the sum of the header differs`, cure)
  // GNU's own form, 'ustar ', keeps times where the prefix of a name would be.
  const prefix = field(bytes, 257, 6) === 'ustar' ? field(bytes, 345, 155) : ''
  const name = field(bytes, 0, 100)
  const size = number(bytes, 124, 12)
  if (!Number.isSafeInteger(size) || size < 0) throw new Damaged(`${archive} says no size of '${name}'`, cure)
  return { name: prefix ? `${prefix}/${name}` : name, size, kind: String.fromCharCode(bytes[156] || 48) }
}

/** What the headers before a file say of it. */
interface Told {
  name?: string | undefined
  size?: number | undefined
}

function told(archive: string, kind: string, bytes: Uint8Array, before: Told): Told {
  if (kind === 'L') return { ...before, name: field(bytes, 0, bytes.length) }
  const { path, size, ...others } = attributes(bytes)
  if (Object.keys(others).some((key) => key.startsWith('GNU.sparse')))
    throw new Damaged(`${archive} holds a sparse file`, cure)
  if (size !== undefined && !Number.isSafeInteger(Number(size)))
    throw new Damaged(`${archive} says a size '${size}'`, cure)
  return { name: path ?? before.name, size: size === undefined ? before.size : Number(size) }
}

/** Throws Damaged where something stands behind the end mark: a second archive would be lost in silence. */
async function refuseRest(archive: string, source: Source): Promise<void> {
  for (let bytes = await source.take(2 ** 16); bytes.length > 0; bytes = await source.take(2 ** 16))
    if (bytes.some((byte) => byte !== 0))
      throw new Damaged(
        `${archive} goes on behind its end mark`,
        'send several archives one by one, or join them with tar -A',
      )
}

/**
 * The files of a tar archive (ustar, GNU or pax) in their order, as they stream by. Directories are passed over. Throws
 * Damaged on an archive that is cut short or is none, on links, devices and sparse files, on names that lead out of it,
 * and on more entries or larger files than the limits allow.
 */
export async function* readTar(
  archive: string,
  stream: AsyncIterable<Uint8Array>,
  limits: TarLimits,
): AsyncGenerator<TarFile, void, undefined> {
  const source = new Source(stream)
  const cutShort = () => new Damaged(`${archive} is cut short at byte ${source.at}`, 'send the whole of it')
  let before: Told = {}
  try {
    for (let entries = 1; ; entries++) {
      const bytes = await source.take(block)
      if (entries === 1 && bytes[0] === 0x1f && bytes[1] === 0x8b)
        throw new Damaged(`${archive} is compressed`, 'unpack it with gunzip first: images are compressed already')
      if (bytes.length < block) throw cutShort()
      if (bytes.every((byte) => byte === 0)) return await refuseRest(archive, source)
      if (entries > limits.entries) throw new Damaged(`${archive} has more than ${limits.entries} entries`, 'split it')
      const { name: own, size: ownSize, kind } = readHeader(archive, bytes, source.at - block)
      const padding = (size: number) => (block - (size % block)) % block
      if ('LKxg'.includes(kind)) {
        if (ownSize > longestExtension) throw new Damaged(`${archive} has a name of ${ownSize} bytes`, cure)
        const extension = await source.take(ownSize)
        if (extension.length < ownSize || !(await source.skip(padding(ownSize)))) throw cutShort()
        if (kind === 'L' || kind === 'x') before = told(archive, kind, extension, before)
        continue
      }
      const name = insideName(archive, before.name ?? own)
      const size = kind === '5' ? 0 : (before.size ?? ownSize)
      before = {}
      if (kind === 'S') throw new Damaged(`${archive} holds a sparse file, '${name}'`, cure)
      if (kind !== '0' && kind !== '7' && kind !== '5')
        throw new Damaged(`${archive} holds ${links[kind] ?? `an entry of kind '${kind}'`}, '${name}'`, cure)
      const offset = source.at
      if (kind !== '5' && !name.endsWith('/') && name !== '')
        yield {
          name,
          size,
          offset,
          async read() {
            if (source.at !== offset) throw new Error(`'${name}' has passed by`)
            if (size > limits.fileBytes)
              throw new Damaged(
                `'${name}' in ${archive} has ${size} bytes; at most ${limits.fileBytes} are read`,
                'leave it out',
              )
            const content = await source.take(size)
            if (content.length < size) throw cutShort()
            return content
          },
        }
      const left = offset + size + padding(size) - source.at
      if (!(await source.skip(left))) throw cutShort()
    }
  } finally {
    await source.close()
  }
}

function octal(value: number, length: number): string {
  return `${value.toString(8).padStart(length - 1, '0')}\0`
}

function plainHeader(name: string, size: number, kind: string): Buffer {
  const header = Buffer.alloc(block)
  header.write(name, 0, 100, 'utf8')
  header.write(octal(0o644, 8) + octal(0, 8) + octal(0, 8), 100, 'latin1')
  header.write(octal(size, 12) + octal(0, 12), 124, 'latin1')
  header.write(`        ${kind}`, 148, 'latin1')
  header.write('ustar\x0000', 257, 'latin1')
  const sum = header.reduce((total, byte) => total + byte, 0)
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
  return header
}

function padded(bytes: Uint8Array): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((block - (bytes.length % block)) % block)])
}

/** The header of a file, whose bytes and `tarPadding` follow. Long names go into a pax header before it. */
export function tarHeader(name: string, size: number): Buffer {
  if (Buffer.byteLength(name) < 100) return plainHeader(name, size, '0')
  const record = (length: number) => `${length} path=${name}\n`
  let length = Buffer.byteLength(record(0))
  while (Buffer.byteLength(record(length)) !== length) length = Buffer.byteLength(record(length))
  const path = Buffer.from(record(length))
  return Buffer.concat([plainHeader('pax', path.length, 'x'), padded(path), plainHeader('long-name', size, '0')])
}

/** What fills the last block of a file. */
export function tarPadding(size: number): Buffer {
  return Buffer.alloc((block - (size % block)) % block)
}

/** A whole file of an archive. */
export function tarEntry(name: string, bytes: Uint8Array): Buffer {
  return Buffer.concat([tarHeader(name, bytes.length), bytes, tarPadding(bytes.length)])
}

/** What an archive ends with. */
export const tarEnd = Buffer.alloc(2 * block)
