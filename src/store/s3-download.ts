import type { IncomingMessage } from 'node:http'
import { Readable } from 'node:stream'
import type { Checksum } from './checksum.ts'
import { damaged } from './objects.ts'
import { Silence } from './s3-faults.ts'
import { type Persistence, Tries } from './s3-tries.ts'

/** A download that goes on after losing its connection has achieved something once it has read so many bytes. */
const progress = 65_536

export interface Source {
  key: string
  /** Asks for the bytes of the object from this place on. */
  open(start: number): Promise<IncomingMessage>
  /** Of the first byte wanted. */
  start: number
  /** What all the bytes must be; undefined where that is not known, or not all of them are read. */
  checksum?: Checksum
  translate(error: unknown): unknown
}

/** Bytes of an object, going on where a lost connection left them; fails with Damaged where they are not what was put. */
class Download extends Readable {
  private readonly source: Source
  private readonly persistence: Persistence
  private readonly tries: Tries
  private readonly etag: string | undefined
  private readonly size: number
  private response: IncomingMessage | undefined
  private seen = 0
  private progressAt = progress
  private timer: NodeJS.Timeout | undefined
  /** The reader waits for bytes. */
  private wanted = false

  constructor(source: Source, first: IncomingMessage, persistence: Persistence) {
    super({ highWaterMark: 2 ** 18 })
    this.source = source
    this.persistence = persistence
    this.tries = new Tries(persistence)
    this.etag = first.headers.etag
    this.size = Number(first.headers['content-length'])
    this.attach(first)
  }

  override _read(): void {
    this.wanted = true
    if (!this.response?.isPaused()) return
    this.watch(this.response)
    this.response.resume()
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    clearTimeout(this.timer)
    this.response?.destroy()
    done(error)
  }

  private attach(response: IncomingMessage): void {
    this.response = response
    // Who reads slowly is not told that the server is silent: here only the wait for the next bytes counts.
    response.socket.setTimeout(0)
    response.pause()
    response.on('data', (chunk: Buffer) => this.accept(response, chunk))
    response.once('end', () => this.finish())
    response.once('error', (error) => void this.resumeAfter(error))
    if (this.wanted) this._read()
  }

  private watch(response: IncomingMessage): void {
    clearTimeout(this.timer)
    const { silenceSeconds } = this.persistence
    this.timer = setTimeout(() => response.destroy(new Silence(silenceSeconds)), silenceSeconds * 1000)
  }

  private accept(response: IncomingMessage, chunk: Buffer): void {
    this.source.checksum?.update(chunk)
    this.seen += chunk.length
    if (this.seen >= this.progressAt) {
      this.progressAt = this.seen + progress
      this.tries.succeeded()
    }
    if (this.push(chunk)) this.timer?.refresh()
    else {
      this.wanted = false
      clearTimeout(this.timer)
      response.pause()
    }
  }

  private finish(): void {
    clearTimeout(this.timer)
    const { key, checksum } = this.source
    if (Number.isFinite(this.size) && this.seen !== this.size)
      this.destroy(damaged(key, `it has ${this.seen} bytes instead of ${this.size}`))
    else if (checksum?.holds() === false) this.destroy(damaged(key, 'its digest differs'))
    else this.push(null)
  }

  private async resumeAfter(failure: Error): Promise<void> {
    clearTimeout(this.timer)
    this.response = undefined
    let error: unknown = failure
    while (!this.destroyed)
      try {
        await this.tries.failed(error)
        if (this.destroyed) return
        if (this.seen === this.size) return this.finish()
        const response = await this.source.open(this.source.start + this.seen)
        if (response.headers.etag !== this.etag) {
          response.destroy()
          throw damaged(this.source.key, 'it was replaced while it was read')
        }
        if (this.destroyed) response.destroy()
        else this.attach(response)
        return
      } catch (next) {
        if (next === error) this.destroy(this.source.translate(error) as Error)
        error = next
      }
  }
}

export function download(source: Source, first: IncomingMessage, persistence: Persistence): Readable {
  return new Download(source, first, persistence)
}
