import type { Client } from 'minio'
import type { StoredObject } from './objects.ts'
import type { Doing, Translate } from './s3-faults.ts'
import { again, type Persistence } from './s3-tries.ts'

/** A bucket with what is needed to ask for it. */
export interface Bucket {
  client: Client
  name: string
  /** Whether the connection guards what it carries; then the requests need not be hashed for their signature. */
  encrypted: boolean
  persistence: Persistence
  translate: Translate
}

export const codeOf = (error: unknown) => (error as { code?: string }).code ?? ''

/** Asks as often as it helps, and says in the end what the reader must do. */
export async function ask<T>(bucket: Bucket, doing: Doing, key: string, work: () => Promise<T>): Promise<T> {
  try {
    return await again(bucket.persistence, work)
  } catch (error) {
    throw bucket.translate(error, doing, key)
  }
}

/** Whether the object is there with this size, and with the digest it was sent with. */
export async function isStored({ client, name }: Bucket, { key, size, sha256 }: StoredObject): Promise<boolean> {
  const stored = await client.statObject(name, key)
  return stored.size === size && stored.metaData.sha256 === sha256
}
