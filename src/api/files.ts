import { Readable } from 'node:stream'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { ObjectStore } from '../store/objects.ts'
import { Refused } from './failures.ts'

/** A stored file as it is sent. */
export interface StoredFile {
  key: string
  name: string
  type: string
  size: number
  /** Strong: the bytes' own digest. */
  etag: string | undefined
}

/** `attachment` with the name in ASCII and in full (RFC 6266). */
export function disposition(name: string): string {
  const last = name.split('/').at(-1) || 'file'
  const ascii = last.replace(/[^\x20-\x7e]|["\\%]/g, '_')
  const full = encodeURIComponent(last).replace(
    /['()*]/g,
    (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`,
  )
  return `attachment; filename="${ascii}"; filename*=UTF-8''${full}`
}

/**
 * The bytes a Range header asks for, `end` included; undefined: the whole file. Several ranges, and units that are not
 * bytes, are answered with the whole, as RFC 9110 allows. Throws Refused (416) outside the file.
 */
export function readRange(header: string | undefined, size: number): { start: number; end: number } | undefined {
  const [, first, last] = /^bytes=(\d*)-(\d*)$/.exec(header?.trim() ?? '') ?? []
  if (first === undefined || last === undefined || (first === '' && last === '')) return undefined
  const start = first === '' ? Math.max(size - Number(last), 0) : Number(first)
  const end = first === '' || last === '' ? size - 1 : Math.min(Number(last), size - 1)
  if (first !== '' && last !== '' && Number(last) < Number(first)) return undefined
  if (start >= size || (first === '' && Number(last) === 0))
    throw new Refused(
      416,
      'range-outside',
      `'${header}' is outside a file of ${size} bytes`,
      'ask for a range inside it',
    )
  return { start, end }
}

/** Sends a file, or the part that was asked for, or word that the caller has it already. */
export async function sendFile(
  request: FastifyRequest,
  reply: FastifyReply,
  objects: ObjectStore,
  file: StoredFile,
): Promise<FastifyReply> {
  const { key, name, type, size, etag } = file
  reply.header('accept-ranges', 'bytes').header('content-disposition', disposition(name))
  reply.header('content-security-policy', "default-src 'none'; sandbox").header('cache-control', 'private, no-cache')
  if (etag) reply.header('etag', etag)
  const had = request.headers['if-none-match']
  if (etag && had?.split(/\s*,\s*/).some((tag) => tag === '*' || tag.replace(/^W\//, '') === etag))
    return reply.code(304).send()
  const fresh = request.headers['if-range'] === undefined || request.headers['if-range'] === etag
  let range: ReturnType<typeof readRange>
  try {
    range = fresh ? readRange(request.headers.range, size) : undefined
  } catch (error) {
    reply.header('content-range', `bytes */${size}`)
    throw error
  }
  reply.type(type)
  if (range) reply.code(206).header('content-range', `bytes ${range.start}-${range.end}/${size}`)
  reply.header('content-length', range ? range.end - range.start + 1 : size)
  // An empty stream, since Fastify would write the length of an empty text over ours.
  if (request.method === 'HEAD') return reply.send(Readable.from([]))
  return reply.send(await objects.get(key, range && { start: range.start, end: range.end + 1 }))
}
