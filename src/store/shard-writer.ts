import { once } from 'node:events'
import { PassThrough } from 'node:stream'
import type { Shard } from '../data/set-index.ts'
import { tarEnd, tarHeader, tarPadding } from '../data/tar.ts'
import type { ObjectStore, StoredObject } from './objects.ts'

/** One shard on its way into the store. */
interface Upload {
  number: number
  path: string
  pipe: PassThrough
  stored: Promise<StoredObject>
  at: number
}

/** Packs files into tar shards of a bounded size, as they come; no more than a few hundred kilobytes wait in memory. */
export class ShardWriter {
  readonly shards: Shard[] = []
  private readonly objects: ObjectStore
  private readonly folder: string
  private readonly shardBytes: number
  private upload: Upload | undefined

  /** `folder`: where the shards go, as a ByteSource names it. */
  constructor(objects: ObjectStore, folder: string, shardBytes: number) {
    this.objects = objects
    this.folder = folder
    this.shardBytes = shardBytes
  }

  /** Files that stay together; returns where the bytes of the first one will lie. */
  async write(files: readonly { name: string; bytes: Uint8Array }[]): Promise<{ shard: number; offset: number }> {
    const size = files.reduce((sum, { bytes }) => sum + bytes.length + 1024, 0)
    if (this.upload && this.upload.at + size > this.shardBytes) await this.finishShard()
    this.upload ??= this.begin()
    const { number } = this.upload
    let offset = 0
    for (const { name, bytes } of files) {
      const header = tarHeader(name, bytes.length)
      offset ||= this.upload.at + header.length
      for (const part of [header, bytes, tarPadding(bytes.length)]) await this.send(this.upload, part)
    }
    return { shard: number, offset }
  }

  /** When all that was written is stored and verified. */
  async finish(): Promise<readonly Shard[]> {
    if (this.upload) await this.finishShard()
    return this.shards
  }

  /** Gives up the shard at work. */
  async abort(): Promise<void> {
    this.upload?.pipe.destroy(new Error('given up'))
    await this.upload?.stored.catch(() => {})
  }

  private begin(): Upload {
    const number = this.shards.length
    const path = `${this.folder}/${String(number).padStart(5, '0')}.tar`
    const pipe = new PassThrough({ highWaterMark: 2 ** 18 })
    pipe.on('error', () => {}) // told by `stored`
    const stored = this.objects.put(`datasets/${path}`, pipe, { type: 'application/x-tar' })
    stored.catch(() => {})
    return { number, path, pipe, stored, at: 0 }
  }

  private async send({ pipe, stored }: Upload, bytes: Uint8Array): Promise<void> {
    if (bytes.length === 0) return
    this.upload!.at += bytes.length
    // A store that fails reads no more, so that nothing would ever drain.
    if (!pipe.write(bytes)) await Promise.race([once(pipe, 'drain'), stored])
  }

  private async finishShard(): Promise<void> {
    const { pipe, stored, path } = this.upload!
    pipe.end(tarEnd)
    const { size, sha256 } = await stored
    this.shards.push({ path, bytes: size, sha256 })
    this.upload = undefined
  }
}
