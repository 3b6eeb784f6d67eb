import { type Static, Type } from 'typebox'
import { Damaged, type Fault, InvalidDefinition } from '../errors.ts'
import {
  type ByteSource,
  type Corpus,
  checkIndex,
  type Dataset,
  type DatasetDescription,
  defineDataset,
  type ImageShape,
} from './dataset.ts'
import { rollDice } from './dice.ts'
import { cutMiddle, decodePixels } from './image-pixels.ts'
import { applyLimits, limitParameters, type SplitSizes } from './limits.ts'
import { decodeIndex, type SetIndex } from './set-index.ts'
import { longestSetName, readManifest, type SetManifest, setNamePattern } from './set-manifest.ts'
import { readImages } from './shard-reads.ts'

const side = (description: string) => Type.Optional(Type.Integer({ minimum: 4, maximum: 1024, description }))

const parameters = Type.Object(
  {
    set: Type.String({
      minLength: 1,
      maxLength: longestSetName,
      pattern: setNamePattern,
      description: 'The name under which the set was added.',
    }),
    side: side('Height and width in pixels as nets see them; that of the images, where all are squares of one size.'),
    sourceSide: side('Height and width that views are cut out of, where they are to be larger than what nets see.'),
    fit: Type.Enum(['crop', 'stretch'], {
      default: 'crop',
      description: 'How an image becomes a square: cut to its middle, or stretched.',
    }),
    channels: Type.Union([Type.Literal(1), Type.Literal(3)], { default: 3, description: '1 is grey, 3 is colour.' }),
    testShare: Type.Number({
      minimum: 0,
      maximum: 0.9,
      default: 0.1,
      description: 'Share of the images that are kept for testing, where the set has no test images of its own.',
    }),
    ...limitParameters,
  },
  { additionalProperties: false },
)

type Parameters = Static<typeof parameters>

/** What of a set is used, and in which shapes. */
interface View {
  shape: ImageShape
  source: ImageShape
  size: SplitSizes
  /** Images taken from those of training, since there are no others. */
  heldOut: number
}

function squareSide({ shapes: { height, width } }: SetManifest): number | undefined {
  const one = height.least === height.most && width.least === width.most && height.least === width.least
  return one ? height.least : undefined
}

function describeView(wanted: Parameters, manifest: SetManifest): View {
  const { name, shapes, images } = manifest
  const { height, width } = shapes
  const faults: Fault[] = []
  const pixels = wanted.side ?? squareSide(manifest)
  if (pixels === undefined)
    faults.push({
      pointer: '/side',
      detail: `is missing: the images of '${name}' are ${height.least} to ${height.most} pixels high and ${width.least} to ${width.most} wide`,
    })
  const source = wanted.sourceSide ?? pixels
  if (pixels !== undefined && source! < pixels)
    faults.push({ pointer: '/sourceSide', detail: `is ${source}; it should be at least the side, ${pixels}` })
  const heldOut = images.test > 0 ? 0 : Math.round(images.train * wanted.testShare)
  const all = { train: images.train - heldOut, test: images.test + heldOut }
  if (all.test === 0)
    faults.push({
      pointer: '/testShare',
      detail: `leaves none of ${images.train} images for testing, and the set has no test images of its own: ${
        images.train > 1 ? 'a larger share would be right' : 'add a set of more images'
      }`,
    })
  if (all.train === 0) faults.push({ pointer: '/set', detail: `'${name}' has no images for training` })
  if (faults.length > 0) throw new InvalidDefinition(faults, 'the dataset')
  const { channels } = wanted
  return {
    shape: [pixels!, pixels!, channels],
    source: [source!, source!, channels],
    size: applyLimits(all, wanted),
    heldOut,
  }
}

/** Rows of the index, by split; drawn from the set alone where some are held out, so that all runs hold out the same. */
function rowsOf({ train, test }: SetIndex, { size, heldOut }: View): Record<'train' | 'test', Int32Array> {
  if (heldOut === 0) {
    const row = (first: number, n: number) => Int32Array.from({ length: n }, (_, i) => first + i)
    return { train: row(0, size.train), test: row(train, size.test) }
  }
  const drawn = rollDice(0)
    .for('images', 'test')
    .permutation(train + test)
  return {
    train: Int32Array.from(drawn.subarray(heldOut)).sort().subarray(0, size.train),
    test: Int32Array.from(drawn.subarray(0, heldOut)).sort().subarray(0, size.test),
  }
}

interface Opened {
  manifest: SetManifest
  index: SetIndex
  bytes: ByteSource
  wanted: Parameters
  view: View
}

function openSplit(
  { manifest, index, bytes, wanted, view }: Opened,
  split: 'train' | 'test',
  rows: Int32Array,
): Dataset {
  const classes = manifest.classes.length
  async function readAs(dataset: Dataset, shape: ImageShape, indices: ArrayLike<number>) {
    const image = shape[0] * shape[1] * shape[2]
    const data = new Uint8Array(indices.length * image)
    const wantedRows = Int32Array.from(indices, (i) => {
      checkIndex(dataset, i)
      return rows[i]!
    })
    const decoding = { shape, fit: wanted.fit }
    await readImages(bytes, index, wantedRows, async (place, file) => {
      const called = `image ${indices[place]} of ${split} in the set '${manifest.name}'`
      data.set(await decodePixels(called, file, decoding), place * image)
    })
    const labels = classes > 0 ? { labels: wantedRows.map((row) => index.label[row]!) } : {}
    return { data, shape, ...labels }
  }
  const { shape, source } = view
  const larger = source[0] > shape[0]
  const { sequence, frame } = index
  const dataset: Dataset = {
    ...{ name: 'images', split, size: rows.length, imageShape: shape, classes },
    classNames: manifest.classes.map((known) => known.name),
    async read(indices) {
      const read = await readAs(dataset, source, indices)
      return { ...read, data: cutMiddle(read.data, source, shape), shape }
    },
    ...(classes > 0 ? { labels: async () => rows.map((row) => index.label[row]!) } : {}),
    ...(sequence && frame
      ? {
          frames: async () => ({
            sequence: rows.map((row) => sequence[row]!),
            frame: rows.map((row) => frame[row]!),
          }),
        }
      : {}),
    ...(larger
      ? { source: { shape: source, read: (indices: ArrayLike<number>) => readAs(dataset, source, indices) } }
      : {}),
  }
  return dataset
}

/** Throws Damaged where a shard is not there or has another size: truncated, or replaced. */
async function checkShards({ shards }: SetIndex, bytes: ByteSource): Promise<void> {
  let next = 0
  const line = async () => {
    while (next < shards.length) {
      const { path, bytes: size } = shards[next++]!
      const found = await bytes.stat(path)
      if (found?.size !== size)
        throw new Damaged(
          `the shard ${path} ${found ? `has ${found.size} bytes instead of ${size}` : 'is not there'}`,
          'restore it from a copy, or add the set again',
        )
    }
  }
  await Promise.all(Array.from({ length: 16 }, line))
}

async function openSet(wanted: Parameters, bytes: ByteSource): Promise<Corpus> {
  const manifest = await readManifest(wanted.set, bytes)
  const view = describeView(wanted, manifest)
  const index = decodeIndex(manifest.index.path, await bytes.read(manifest.index.path))
  if (index.train !== manifest.images.train || index.test !== manifest.images.test)
    throw new Damaged(`the index of '${manifest.name}' is one of another set`, 'add the set again')
  await checkShards(index, bytes)
  const rows = rowsOf(index, view)
  const opened = { manifest, index, bytes, wanted, view }
  return { train: openSplit(opened, 'train', rows.train), test: openSplit(opened, 'test', rows.test) }
}

/** 26 bytes of the index and two row numbers, an image. */
const bytesPerImage = 26 + 8

/** Images that somebody has added: tar shards, read at random through an index. Their number takes no memory. */
export const images = defineDataset({
  name: 'images',
  title: 'A set of your own images, added with gestalt dataset add or POST /v1/datasets',
  source: 'added here: GET /v1/datasets/sets lists the sets',
  parameters,
  async describe(wanted, bytes): Promise<DatasetDescription> {
    const manifest = await readManifest(wanted.set, bytes)
    const { shape, size } = describeView(wanted, manifest)
    const total = manifest.images.train + manifest.images.test
    return { imageShape: shape, classes: manifest.classes.length, size, memoryBytes: total * bytesPerImage }
  },
  open: openSet,
})
