import { Damaged } from '../errors.ts'
import { mostPictureBytes } from './decoding.ts'
import { readTar, type TarFile, type TarLimits } from './tar.ts'

/**
 * How the files of an archive are read:
 * - webdataset: `<key>.jpg` with `<key>.cls` (a number or a name) or `<key>.json` (label, split, sequence) beside it
 * - folders: `[train/|test/]<class>/...`
 * - flat: images without labels, `[train/|test/]...`
 * - frames: `[train/|test/][<class>/]<video>/<frame>`, in the order of the archive
 */
export const layouts = ['webdataset', 'folders', 'flat', 'frames'] as const
export type Layout = (typeof layouts)[number]

export interface SetLimits {
  /** Bytes of one image. */
  imageBytes: number
  /** Of one archive. */
  entries: number
}

export const setLimits: SetLimits = { imageBytes: mostPictureBytes, entries: 200_000_000 }

/** A file that goes with an image. */
export interface Member {
  name: string
  bytes: Uint8Array
}

/** An image as it came, with what is said of it. */
export interface Sample {
  key: string
  /** `bytes` is absent where there are more than may be read. */
  image: { name: string; offset: number; size: number; bytes?: Uint8Array }
  /** Its label and the like, as files. */
  beside: Member[]
  split: 'train' | 'test'
  label?: string
  sequence?: string
}

/** What is decoded. */
export const imageNames = /\.(jpe?g|png|webp|gif|tiff?|avif|p[gp]m)$/i
/** Looked up by whatever somebody calls a folder, so that it has no other words, such as 'constructor'. */
const splitNames: Record<string, Sample['split']> = Object.assign(Object.create(null), {
  ...{ train: 'train', test: 'test', val: 'test', validation: 'test' },
})
const sidecars = new Set(['cls', 'json'])
const longestSidecar = 2 ** 20
const cure = 'correct the files and pack them again'

/** Images by folder, label and sequence from where they lie. */
function placed(file: TarFile, layout: Exclude<Layout, 'webdataset'>): Omit<Sample, 'image' | 'beside'> {
  const folders = file.name.split('/').slice(0, -1)
  const split = splitNames[folders[0] ?? '']
  if (split !== undefined) folders.shift()
  const base = { key: file.name, split: split ?? 'train' }
  const [first] = folders
  if (layout === 'flat') return base
  if (first === undefined)
    throw new Damaged(
      `the image '${file.name}' lies in no folder`,
      layout === 'folders'
        ? 'put it into the folder of its class, or take the layout flat'
        : 'put the frames of each video into a folder',
    )
  if (layout === 'folders') return { ...base, label: first }
  const sequence = [base.split, ...folders].join('/')
  return folders.length > 1 ? { ...base, sequence, label: first } : { ...base, sequence }
}

interface Said {
  label?: string
  split?: Sample['split']
  sequence?: string
}

function readJson(name: string, bytes: Uint8Array): Said {
  let value: unknown
  try {
    value = JSON.parse(new TextDecoder().decode(bytes))
  } catch (cause) {
    throw new Damaged(`'${name}' is no JSON`, cure, { cause })
  }
  const { label, cls, class: named, split, sequence } = (value ?? {}) as Record<string, unknown>
  const word = (given: unknown) => (typeof given === 'string' || typeof given === 'number' ? String(given) : undefined)
  const [labelWord, splitWord, sequenceWord] = [word(label ?? cls ?? named), word(split), word(sequence)]
  if (splitWord !== undefined && !(splitWord in splitNames))
    throw new Damaged(
      `'${name}' names the split '${splitWord}'; there are: ${Object.keys(splitNames).join(', ')}`,
      cure,
    )
  return {
    ...(labelWord === undefined ? {} : { label: labelWord }),
    ...(splitWord === undefined ? {} : { split: splitNames[splitWord]! }),
    ...(sequenceWord === undefined ? {} : { sequence: sequenceWord }),
  }
}

function readSidecar(file: Member): Said {
  if (file.name.endsWith('.json')) return readJson(file.name, file.bytes)
  const label = new TextDecoder().decode(file.bytes).trim()
  if (label === '' || label.length > 200 || label.includes('\n'))
    throw new Damaged(`'${file.name}' is not one label`, cure)
  return { label }
}

/** The word of a file or folder name that says which split it is. */
export function splitIn(name: string): Sample['split'] | undefined {
  const found = name
    .toLowerCase()
    .split(/[^a-z]+/)
    .find((word) => word in splitNames)
  return found === undefined ? undefined : splitNames[found]
}

/** WebDataset: all up to the first dot of the file's name is the key. */
function keyOf(name: string): { key: string; extension: string } {
  const slash = name.lastIndexOf('/') + 1
  const dot = name.indexOf('.', slash)
  return dot < 0 ? { key: name, extension: '' } : { key: name.slice(0, dot), extension: name.slice(dot + 1) }
}

/** The files of one key as one sample; undefined where none of them is an image. */
function joined(
  key: string,
  image: Sample['image'] | undefined,
  beside: Member[],
  fallback: Sample['split'],
): Sample | undefined {
  if (!image) return undefined
  const said = beside.map(readSidecar)
  const labels = [...new Set(said.flatMap(({ label }) => label ?? []))]
  if (labels.length > 1) throw new Damaged(`'${key}' has two labels: ${labels.join(' and ')}`, cure)
  const inPath = splitNames[key.split('/')[0]!]
  return { key, image, beside, split: inPath ?? fallback, ...Object.assign({}, ...said) } as Sample
}

export interface SampleOptions {
  layout: Layout
  limits: SetLimits
  /** Told the name of a file that is neither an image nor a label. */
  passOver(name: string): void
}

const isHidden = (name: string) => name.slice(name.lastIndexOf('/') + 1).startsWith('.')

async function taken(file: TarFile, limits: SetLimits): Promise<Sample['image']> {
  const { name, offset, size } = file
  return size > limits.imageBytes ? { name, offset, size } : { name, offset, size, bytes: await file.read() }
}

async function* webdataset(archive: string, files: AsyncIterable<TarFile>, { limits, passOver }: SampleOptions) {
  const fallback = splitIn(archive.slice(archive.lastIndexOf('/') + 1)) ?? 'train'
  let at = ''
  let image: Sample['image'] | undefined
  let beside: Member[] = []
  for await (const file of files) {
    const { key, extension } = keyOf(file.name)
    if (key !== at) {
      const sample = joined(at, image, beside, fallback)
      if (sample) yield sample
      ;[at, image, beside] = [key, undefined, []]
    }
    // At once: what has one key is held until another key comes, and an archive may have one key alone.
    const held = [...(image ? [image] : []), ...beside].find(({ name }) => name === file.name)
    if (held) throw new Damaged(`${archive} holds two files called '${file.name}'`, cure)
    if (isHidden(file.name)) passOver(file.name)
    else if (imageNames.test(`.${extension}`) && !extension.includes('.')) {
      if (image) throw new Damaged(`two images have the key '${key}': ${image.name} and ${file.name}`, cure)
      image = await taken(file, limits)
    } else if (sidecars.has(extension) && file.size <= longestSidecar)
      beside.push({ name: file.name, bytes: await file.read() })
    else passOver(file.name)
  }
  const last = joined(at, image, beside, fallback)
  if (last) yield last
}

/** The images of an archive, each with what is said of it, in their order. Throws Damaged as `readTar` does. */
export async function* readSamples(
  archive: string,
  stream: AsyncIterable<Uint8Array>,
  options: SampleOptions,
): AsyncGenerator<Sample, void, undefined> {
  const { layout, limits, passOver } = options
  const tarLimits: TarLimits = { entries: limits.entries, fileBytes: limits.imageBytes }
  const files = readTar(archive, stream, tarLimits)
  if (layout === 'webdataset') return yield* webdataset(archive, files, options)
  for await (const file of files)
    if (!imageNames.test(file.name) || isHidden(file.name)) passOver(file.name)
    else yield { ...placed(file, layout), image: await taken(file, limits), beside: [] }
}
