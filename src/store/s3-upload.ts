import { createHash } from 'node:crypto'
import { writeCrc } from './checksum.ts'
import { damaged } from './objects.ts'
import { type Bucket, isStored } from './s3-bucket.ts'
import { absent, isPassing, Refusal } from './s3-faults.ts'
import { partSize, partsOf, type Ready } from './s3-ready.ts'
import { again } from './s3-tries.ts'

/** Parts of one object that are on their way at once. */
const partsAtOnce = 3
/** Up to here a digest of ours is had sooner than another answer of the server. Bytes. */
const smallSize = 2 ** 20

type Headers = Record<string, string>

const md5Of = (bytes: Uint8Array) => createHash('md5').update(bytes).digest()

/** Sends bytes that the server must refuse where they are changed on the way. Returns their ETag. */
async function send(bucket: Bucket, key: string, query: string, bytes: Buffer, headers: Headers, md5?: Buffer) {
  // Without TLS the signature of the request covers a digest of the bytes.
  const digest = bucket.encrypted ? { 'Content-MD5': (md5 ?? md5Of(bytes)).toString('base64') } : {}
  const request = { method: 'PUT', bucketName: bucket.name, objectName: key, query, headers: { ...headers, ...digest } }
  const answer = await bucket.client.makeRequestAsyncOmit(request, bytes)
  return (answer.headers.etag ?? '').replaceAll('"', '')
}

async function refuseOther(bucket: Bucket, object: Ready): Promise<void> {
  if (await again(bucket.persistence, () => isStored(bucket, object))) return
  await bucket.client.removeObject(bucket.name, object.key)
  throw damaged(object.key, `what the store has is not the ${object.size} bytes that were sent`)
}

async function putWhole(bucket: Bucket, object: Ready, headers: Headers): Promise<void> {
  const bytes = await object.part(0, object.size)
  const md5 = object.size <= smallSize ? md5Of(bytes) : undefined
  const etag = await again(bucket.persistence, () => send(bucket, object.key, '', bytes, headers, md5))
  // The ETag is the digest of what has arrived, unless the store encrypts; then it is asked.
  if (!md5 || etag !== md5.toString('hex')) await refuseOther(bucket, object)
}

/** Sends the parts, some at a time; the first that fails for good ends it. */
async function sendParts(bucket: Bucket, object: Ready, upload: string) {
  const waiting = partsOf(object.size)
  const sent: { part: number; etag: string }[] = []
  let failure: { cause: unknown } | undefined
  const line = async () => {
    for (let next = waiting.shift(); next && !failure; next = waiting.shift()) {
      const { number, start, end } = next
      const bytes = await object.part(start, end)
      const query = `partNumber=${number}&uploadId=${encodeURIComponent(upload)}`
      const etag = await again(bucket.persistence, () => {
        if (failure) throw failure.cause
        return send(bucket, object.key, query, bytes, {})
      })
      sent.push({ part: number, etag })
    }
  }
  const lines = Array.from({ length: partsAtOnce }, () =>
    line().catch((cause: unknown) => {
      failure ??= { cause }
    }),
  )
  await Promise.all(lines)
  if (failure) throw failure.cause
  return sent.sort((a, b) => a.part - b.part)
}

/** Has the parts put together. Where the answer to that is lost, what is stored tells. */
async function join(bucket: Bucket, object: Ready, upload: string, parts: { part: number; etag: string }[]) {
  const { client, name, persistence } = bucket
  await again(persistence, async () => {
    try {
      await client.completeMultipartUpload(name, object.key, upload, parts)
    } catch (error) {
      const stored = await isStored(bucket, object).catch((cause: unknown) => {
        if (absent.has((cause as { code?: string }).code ?? '')) return false
        throw isPassing(error) ? error : cause
      })
      if (stored) return
      // A failure that shows after the answer has begun comes without a status.
      throw error instanceof TypeError ? new Refusal(200, '', 'it did not put the parts together') : error
    }
  })
}

async function putParts(bucket: Bucket, object: Ready, headers: Headers): Promise<void> {
  const { client, name, persistence } = bucket
  const upload = await again(persistence, () => client.initiateNewMultipartUpload(name, object.key, headers))
  try {
    const parts = await sendParts(bucket, object, upload)
    await join(bucket, object, upload, parts)
  } catch (error) {
    // What is left after this too is removed when it is a day old.
    await again(persistence, () => client.abortMultipartUpload(name, object.key, upload)).catch(() => {})
    throw error
  }
  await refuseOther(bucket, object)
}

/** Sends an object, whole or in parts, and verifies that the store has it. */
export function upload(bucket: Bucket, object: Ready, type: string): Promise<void> {
  const { sha256, crc32 } = object
  const headers = { 'Content-Type': type, 'x-amz-meta-sha256': sha256, 'x-amz-meta-crc32': writeCrc(crc32) }
  return object.size > partSize ? putParts(bucket, object, headers) : putWhole(bucket, object, headers)
}
