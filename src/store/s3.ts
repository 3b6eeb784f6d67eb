import { createHash } from 'node:crypto'
import { createReadStream, createWriteStream } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { Client } from 'minio'
import type { S3Config } from '../config.ts'
import { GestaltError, Misconfigured, NoRoom, NotFound, Unavailable } from '../errors.ts'
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

/** Larger objects are sent in parts of this size, in bytes. */
export const partSize = 16 * 2 ** 20

const absent = new Set(['NotFound', 'NoSuchKey'])
const wrongKeys = new Set([
  'InvalidAccessKeyId',
  'SignatureDoesNotMatch',
  'AccessDenied',
  'AuthorizationHeaderMalformed',
  'XAdminUserNotFound',
])
const noSpace = new Set(['XMinioStorageFull', 'InsufficientStorage', 'QuotaExceeded', 'ENOSPC', 'EDQUOT', 'EFBIG'])

function translator({ bucket, endPoint, port }: S3Config) {
  return (error: unknown, key = ''): unknown => {
    if (error instanceof GestaltError) return error
    const { code = '', message } = error as { code?: string; message?: string }
    const options = { cause: error }
    if (absent.has(code)) return new NotFound(`there is no object ${key}`, 'it may have been removed', options)
    if (code === 'NoSuchBucket')
      return new Misconfigured(`there is no bucket ${bucket}`, 'create it, or correct S3_BUCKET', options)
    if (wrongKeys.has(code))
      return new Misconfigured(
        `the object store refuses us: ${message}`,
        'correct S3_ACCESS_KEY, S3_SECRET_KEY and S3_REGION, and give the key the right to read and write the bucket',
        options,
      )
    if (noSpace.has(code))
      return new NoRoom(`the object store has no room: ${message}`, 'make room there, then try again', options)
    return new Unavailable(
      `the object store at ${endPoint}:${port} does not answer as it should: ${message || code}`,
      'see that it runs and that S3_ENDPOINT names it, then try again',
      options,
    )
  }
}

/** Bytes whose size and digest are known before they are sent; a stream is put into a file first. */
interface Ready extends StoredObject {
  open(): Readable
  dispose(): Promise<void>
}

async function ready(key: string, bytes: AsyncIterable<Uint8Array> | Uint8Array): Promise<Ready> {
  if (bytes instanceof Uint8Array) {
    const sha256 = createHash('sha256').update(bytes).digest('hex')
    return { key, size: bytes.length, sha256, open: () => asStream(bytes), dispose: async () => {} }
  }
  const folder = await mkdtemp(join(tmpdir(), 'gestalt-upload-'))
  const dispose = () => rm(folder, { recursive: true, force: true })
  try {
    const file = join(folder, 'object')
    const digest = digesting()
    await pipeline(asStream(bytes), digest.stream, createWriteStream(file, { mode: 0o600 }))
    return { key, size: digest.size(), sha256: digest.sha256(), open: () => createReadStream(file), dispose }
  } catch (error) {
    await dispose()
    throw error
  }
}

/**
 * Objects in an S3 bucket. Each request carries the digest of what it sends, so that the server refuses what was changed
 * on the way; the digest of the whole is kept as metadata for whoever reads it.
 */
export function openS3(config: S3Config): ObjectStore {
  const { bucket, pathStyle, endPoint, port, useSSL, region, accessKey, secretKey } = config
  const client = new Client({ endPoint, port, useSSL, region, accessKey, secretKey, pathStyle, partSize })
  const translate = translator(config)

  async function attempt<T>(key: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      throw translate(error, key)
    }
  }

  async function send(object: Ready, type = 'application/octet-stream'): Promise<void> {
    const { key, size, sha256 } = object
    await client.putObject(bucket, key, object.open(), size, { 'Content-Type': type, sha256 })
    const stored = await client.statObject(bucket, key)
    if (stored.size === size && stored.metaData.sha256 === sha256) return
    await client.removeObject(bucket, key)
    throw damaged(key, `${stored.size} of ${size} bytes arrived`)
  }

  async function* list(prefix: string) {
    try {
      for await (const { name, size } of client.listObjectsV2(bucket, prefix, true)) yield { key: name, size }
    } catch (error) {
      throw translate(error)
    }
  }

  const store: ObjectStore = {
    async put(key, bytes, options) {
      refuseKey(key)
      return attempt(key, async () => {
        const object = await ready(key, bytes)
        try {
          await send(object, options?.type)
        } finally {
          await object.dispose()
        }
        return { key, size: object.size, sha256: object.sha256 }
      })
    },
    async get(key, range) {
      if (range?.end !== undefined && range.end <= range.start) return Readable.from([])
      return attempt(isKey(key) ? key : '', async () => {
        const length = range?.end === undefined ? 0 : range.end - range.start
        try {
          const response = await client.getPartialObject(bucket, key, range?.start ?? 0, length)
          const { headers } = response as IncomingMessage
          const sha256 = headers['x-amz-meta-sha256']
          // Objects that others put there carry no digest.
          if (range || typeof sha256 !== 'string') return response
          return verified(response, { key, size: Number(headers['content-length']), sha256 })
        } catch (error) {
          if (range && (error as { code?: string }).code === 'InvalidRange') return Readable.from([])
          throw error
        }
      })
    },
    async stat(key) {
      if (!isKey(key)) return undefined
      try {
        const { size, lastModified, metaData } = await client.statObject(bucket, key)
        return { size, modified: lastModified, type: metaData['content-type'] }
      } catch (error) {
        if (absent.has((error as { code?: string }).code ?? '')) return undefined
        throw translate(error, key)
      }
    },
    list,
    async remove(key) {
      if (isKey(key)) await attempt(key, () => client.removeObject(bucket, key))
    },
    async link(key, { seconds, name, type }) {
      refuseKey(key)
      const headers: Record<string, string> = {}
      if (type) headers['response-content-type'] = type
      if (name) headers['response-content-disposition'] = `attachment; filename*=UTF-8''${encodeURIComponent(name)}`
      return attempt(key, () => client.presignedGetObject(bucket, key, seconds, headers))
    },
    async check() {
      const key = `check/${newId()}`
      await store.put(key, Buffer.from(key))
      await readAll(await store.get(key))
      await store.remove(key)
    },
  }
  return store
}
