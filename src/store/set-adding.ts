import { createHash } from 'node:crypto'
import { decodePixels } from '../data/image-pixels.ts'
import type { ImageCheck } from '../data/inspection.ts'
import { writePortable } from '../data/portable-map.ts'
import { type BuiltSet, SetBuilder } from '../data/set-builder.ts'
import { encodeIndex, type Shard } from '../data/set-index.ts'
import { type CheckedSample, type IntakeReport, openReport, soundSamples } from '../data/set-intake.ts'
import { manifestVersion, type SetManifest, setsFolder } from '../data/set-manifest.ts'
import { type Layout, readSamples, type SetLimits, setLimits } from '../data/set-samples.ts'
import { Damaged, InvalidDefinition, TooLarge } from '../errors.ts'
import { bucketPath } from './dataset-bytes.ts'
import { digesting, type ObjectStore } from './objects.ts'
import { ShardWriter } from './shard-writer.ts'

/** Images decoded once and kept as they will be read: what takes the least to read, and more room than a JPEG. */
export interface Prepared {
  side: number
  channels: 1 | 3
  fit: 'crop' | 'stretch'
}

/** How the files of a set are read and judged. */
export interface AddingOptions {
  layout: Layout
  check: ImageCheck
  skipDamaged: boolean
  prepared?: Prepared | undefined
}

export interface Sources {
  /** Archives as they come; their images are packed anew into shards. */
  archives?: AsyncIterable<{ name: string; stream: AsyncIterable<Uint8Array> }>
  /** Shards that lie in the object store already: they stay there. */
  prefix?: string | undefined
}

export interface AddingLimits extends SetLimits {
  /** Of all archives together, in bytes. */
  totalBytes: number
  shardBytes: number
}

export const addingLimits: AddingLimits = { ...setLimits, totalBytes: 2 ** 40, shardBytes: 256 * 2 ** 20 }

/** Breaks a stream off that is longer than a set may be. */
async function* bounded(stream: AsyncIterable<Uint8Array>, limits: AddingLimits, seen: { bytes: number }) {
  for await (const chunk of stream) {
    seen.bytes += chunk.length
    if (seen.bytes > limits.totalBytes)
      throw new TooLarge(
        `the archives have more than ${limits.totalBytes} bytes`,
        'raise GESTALT_UPLOAD_LIMIT, or put shards into the object store and name their prefix',
      )
    yield chunk
  }
}

/** What came is at fault, and not what is stored here: who sent it can correct it. */
async function* judged<T>(samples: AsyncIterable<T>): AsyncGenerator<T> {
  try {
    yield* samples
  } catch (error) {
    if (!(error instanceof Damaged)) throw error
    const detail = `${error.message}; ${error.cure}`
    throw new InvalidDefinition([{ pointer: '', detail }], 'the set')
  }
}

/** The image as it is kept. */
async function keep(sample: CheckedSample['sample'], prepared: Prepared | undefined) {
  const { name, bytes } = sample.image
  if (!prepared) return { name, bytes: bytes! }
  const { side, channels, fit } = prepared
  const pixels = await decodePixels(`'${name}'`, bytes!, { shape: [side, side, channels], fit })
  const stem = name.replace(/\.[^./]*$/, '')
  return {
    name: `${stem}.${channels === 3 ? 'ppm' : 'pgm'}`,
    bytes: writePortable({ height: side, width: side, channels }, pixels),
  }
}

export interface AddedParts extends BuiltSet {
  report: IntakeReport
}

interface Adding {
  objects: ObjectStore
  /** Of the new shards, as a ByteSource names it. */
  folder: string
  options: AddingOptions
  limits: AddingLimits
  onImages(count: number): void
}

/** Reads archives, and packs their sound images into shards of this set. */
async function pack(adding: Adding, archives: NonNullable<Sources['archives']>): Promise<AddedParts> {
  const { objects, folder, options, limits, onImages } = adding
  const writer = new ShardWriter(objects, folder, limits.shardBytes)
  const builder = new SetBuilder()
  const report = openReport()
  const seen = { bytes: 0 }
  try {
    for await (const { name, stream } of archives) {
      const samples = readSamples(name, bounded(stream, limits, seen), {
        ...options,
        limits,
        passOver: report.passOver,
      })
      for await (const { sample, shape } of soundSamples(judged(samples), report, { ...options, limits })) {
        const image = await keep(sample, options.prepared)
        const at = await writer.write([image, ...sample.beside])
        const { key, split, label, sequence } = sample
        const kept = options.prepared
          ? { ...options.prepared, height: options.prepared.side, width: options.prepared.side }
          : shape
        builder.add({ ...at, key, split, label, sequence, length: image.bytes.length, shape: kept })
        onImages(builder.count)
      }
    }
    return { ...finished(builder, await writer.finish(), options), report }
  } catch (error) {
    await writer.abort()
    throw error
  }
}

function finished(builder: SetBuilder, shards: readonly Shard[], { layout }: AddingOptions): BuiltSet {
  const labels = layout === 'folders' ? 'expected' : 'optional'
  return builder.finish(shards, { labels, numbered: layout === 'webdataset' })
}

/** Looks through shards where they lie. */
async function survey(adding: Adding, prefix: string): Promise<AddedParts> {
  const { objects, options, limits, onImages } = adding
  const builder = new SetBuilder()
  const report = openReport()
  const keys: string[] = []
  for await (const { key } of objects.list(prefix)) if (key.endsWith('.tar')) keys.push(key)
  const refuse = (detail: string) => new InvalidDefinition([{ pointer: '/prefix', detail }], 'the set')
  const own = keys.find((key) => key.startsWith(`datasets/${setsFolder}/`))
  if (own)
    throw refuse(`'${prefix}' reaches into another set, at ${own}, which may be removed: a longer one would be right`)
  if (keys.length === 0) throw refuse(`no object whose key starts with '${prefix}' ends in .tar`)
  const shards: Shard[] = []
  for (const key of keys.sort()) {
    const digest = digesting()
    const source = await objects.get(key)
    source.on('error', (error) => digest.stream.destroy(error))
    digest.stream.on('close', () => source.destroy())
    const samples = readSamples(key, source.pipe(digest.stream), { ...options, limits, passOver: report.passOver })
    for await (const { sample, shape } of soundSamples(judged(samples), report, { ...options, limits })) {
      const { key: name, image, split, label, sequence } = sample
      // Shards of others may number their images anew in each.
      builder.add({
        key: `${key}/${name}`,
        shard: shards.length,
        offset: image.offset,
        length: image.size,
        split,
        label,
        sequence,
        shape,
      })
      onImages(builder.count)
    }
    shards.push({ path: `${bucketPath}${key}`, bytes: digest.size(), sha256: digest.sha256() })
  }
  return { ...finished(builder, shards, options), report }
}

/** Reads what a set is made of, and stores its shards (unless they are there) and its index; the manifest is not stored. */
export async function storeSet(
  objects: ObjectStore,
  set: { id: string; name: string },
  sources: Sources,
  options: AddingOptions,
  more: { limits: AddingLimits; onImages(count: number): void },
): Promise<{ manifest: SetManifest; report: IntakeReport }> {
  const folder = `${setsFolder}/${set.name}/${set.id}`
  const adding = { objects, folder, options, ...more }
  const { prefix, archives } = sources
  const { index, known, report } = prefix === undefined ? await pack(adding, archives!) : await survey(adding, prefix)
  const bytes = encodeIndex(index)
  const path = `${folder}/index`
  await objects.put(`datasets/${path}`, bytes, { type: 'application/octet-stream' })
  const sha256 = createHash('sha256').update(bytes).digest('hex')
  const manifest: SetManifest = {
    ...{ version: manifestVersion, ...set, ...known },
    bytes: index.shards.reduce((sum, shard) => sum + shard.bytes, 0),
    shards: index.shards.length,
    index: { path, bytes: bytes.length, sha256 },
  }
  return { manifest, report }
}
