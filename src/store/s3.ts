import type { IncomingMessage } from 'node:http'
import { Readable } from 'node:stream'
import { Client } from 'minio'
import type { S3Config } from '../config.ts'
import { Misconfigured, NotFound, Unavailable } from '../errors.ts'
import { recordedChecksum } from './checksum.ts'
import { newId } from './id.ts'
import { isKey, type ObjectStore, readAll, refuseKey } from './objects.ts'
import { ask, type Bucket, codeOf } from './s3-bucket.ts'
import { download } from './s3-download.ts'
import { absent, isForeign, notS3, translator } from './s3-faults.ts'
import { ready } from './s3-ready.ts'
import { openTransport } from './s3-transport.ts'
import { again, type Persistence, Tries } from './s3-tries.ts'
import { upload } from './s3-upload.ts'

export { partSize } from './s3-ready.ts'

/** Where our objects are: nothing else in the bucket is cleaned up. */
const ownPrefixes = ['runs/', 'datasets/', 'check/']

export interface S3Options extends Persistence {
  /** Uploads that were begun so long ago and are not finished have lost their process. */
  staleSeconds: number
}

const defaults: S3Options = { patienceSeconds: 10, silenceSeconds: 30, pauseSeconds: 0.1, staleSeconds: 86_400 }

/** Who asks whether the store is fit for use wants to know soon, and what it is asked then is little. */
const checkSilenceSeconds = 2.5

function openBucket(config: S3Config, persistence: Persistence): Bucket {
  const { bucket: name, pathStyle, endPoint, port, useSSL, region, accessKey, secretKey } = config
  const { agent: transportAgent, transport } = openTransport(useSSL, persistence.silenceSeconds)
  const place = { endPoint, port, useSSL, region, pathStyle, transport, transportAgent }
  const client = new Client({ ...place, accessKey, secretKey, retryOptions: { disableRetry: true } })
  return { client, name, encrypted: useSSL, persistence, translate: translator(config) }
}

async function read(bucket: Bucket, key: string, range?: { start: number; end?: number }): Promise<Readable> {
  const { client, name, persistence, translate } = bucket
  const end = range?.end
  const open = async (start: number) =>
    (await client.getPartialObject(name, key, start, end === undefined ? 0 : end - start)) as IncomingMessage
  const start = range?.start ?? 0
  try {
    const first = await again(persistence, () => open(start))
    const checksum = range ? undefined : recordedChecksum(first.headers)
    const source = { key, open, start, checksum, translate: (error: unknown) => translate(error, 'read', key) }
    return download(source, first, persistence)
  } catch (error) {
    if (range && codeOf(error) === 'InvalidRange') return Readable.from([])
    throw translate(error, 'read', key)
  }
}

async function* list({ client, name, persistence, translate }: Bucket, prefix: string) {
  const tries = new Tries(persistence)
  for (let after = ''; ; )
    try {
      for await (const { name: key, size } of client.listObjectsV2(name, prefix, true, after)) {
        tries.succeeded()
        after = key
        yield { key, size }
      }
      return
    } catch (error) {
      await tries.failed(error).catch((last: unknown) => {
        throw translate(last, 'list')
      })
    }
}

/** Removes the parts of uploads that were never finished, since nothing else shows that they take room. */
async function sweep({ client, name }: Bucket, staleSeconds: number): Promise<void> {
  for (const prefix of ownPrefixes)
    for await (const { key, uploadId, initiated } of client.listIncompleteUploads(name, prefix, true))
      if (Date.now() - new Date(initiated).getTime() > staleSeconds * 1000)
        await client.abortMultipartUpload(name, key, uploadId)
}

async function check(store: Omit<ObjectStore, 'check'>, bucket: Bucket, config: S3Config): Promise<void> {
  try {
    await bucket.client.listObjectsV2Query(bucket.name, 'check/', '', '', 1, '')
  } catch (error) {
    const said = bucket.translate(error, 'list')
    throw isForeign(error) && !(said instanceof Misconfigured) ? notS3(config, error) : said
  }
  const key = `check/${newId()}`
  await store.put(key, Buffer.from(key))
  const found = String(await readAll(await store.get(key)))
  await store.remove(key)
  if (found !== key) throw new Unavailable('the object store gives back other bytes', 'see that its disks are well')
}

function storeOf(bucket: Bucket): Omit<ObjectStore, 'check'> {
  const { client, name } = bucket
  return {
    async put(key, bytes, options) {
      refuseKey(key)
      const object = await ready(key, bytes)
      try {
        await upload(bucket, object, options?.type ?? 'application/octet-stream')
      } catch (error) {
        throw bucket.translate(error, 'write', key)
      } finally {
        await object.dispose()
      }
      return { key, size: object.size, sha256: object.sha256 }
    },
    async get(key, range) {
      if (!isKey(key)) throw new NotFound(`there is no object ${key.slice(0, 100)}`, 'correct the key')
      if (range?.end !== undefined && range.end <= range.start) return Readable.from([])
      return read(bucket, key, range)
    },
    async stat(key) {
      if (!isKey(key)) return undefined
      return ask(bucket, 'read', key, async () => {
        try {
          const { size, lastModified, metaData } = await client.statObject(name, key)
          return { size, modified: lastModified, type: metaData['content-type'] }
        } catch (error) {
          if (absent.has(codeOf(error))) return undefined
          throw error
        }
      })
    },
    list: (prefix) => list(bucket, prefix),
    async remove(key) {
      if (isKey(key)) await ask(bucket, 'remove', key, () => client.removeObject(name, key))
    },
    async link(key, { seconds, name: given, type }) {
      refuseKey(key)
      const headers: Record<string, string> = {}
      if (type) headers['response-content-type'] = type
      if (given) headers['response-content-disposition'] = `attachment; filename*=UTF-8''${encodeURIComponent(given)}`
      return ask(bucket, 'read', key, () => client.presignedGetObject(name, key, seconds, headers))
    },
  }
}

/**
 * Objects in an S3 bucket. Each request carries a digest of what it sends, so that the server refuses what was changed
 * on the way; the digest of the whole is kept as metadata for whoever reads it. What fails in passing is tried again in
 * bounds, then calls throw Unavailable; `check` tells at once.
 */
export function openS3(config: S3Config, options: Partial<S3Options> = {}): ObjectStore {
  const { staleSeconds, ...persistence } = { ...defaults, ...options }
  const bucket = openBucket(config, persistence)
  const silenceSeconds = Math.min(persistence.silenceSeconds, checkSilenceSeconds)
  const eager = openBucket(config, { ...persistence, silenceSeconds, patienceSeconds: 0 })
  let swept = false
  const store: ObjectStore = {
    ...storeOf(bucket),
    async check() {
      await check(storeOf(eager), eager, config)
      if (swept) return
      swept = true
      // What stays takes room, and hinders nobody.
      await sweep(eager, staleSeconds).catch(() => {})
    },
  }
  return store
}
