import { type Static, Type } from 'typebox'
import { Damaged, NotFound, TooLarge } from '../errors.ts'
import { type ArrayHeader, mostHeaderBytes, readArrayHeader } from './array-header.ts'
import { arraySplit } from './array-split.ts'
import { type ByteSource, type Dataset, type DatasetDescription, defineDataset, type ImageShape } from './dataset.ts'
import { applyLimits, limitParameters } from './limits.ts'
import { checkRowFile, openRows, type ReadRows, rowFileMemory, rowsOf } from './row-file.ts'
import { longestSetName, setNamePattern } from './set-manifest.ts'

const parameters = Type.Object(
  {
    set: Type.String({
      minLength: 1,
      maxLength: longestSetName,
      pattern: setNamePattern,
      description: 'The name under which the arrays were added.',
    }),
    ...limitParameters,
  },
  { additionalProperties: false },
)

type Split = 'train' | 'test'

/** The names that an array may have: as NumPy saves it, or as the files of MNIST are called once unpacked. */
export const arrayFiles: Record<Split, { images: readonly string[]; labels: readonly string[] }> = {
  train: {
    images: ['train-images.npy', 'train-images-idx3-ubyte', 'train-images-idx4-ubyte'],
    labels: ['train-labels.npy', 'train-labels-idx1-ubyte'],
  },
  test: {
    images: ['test-images.npy', 't10k-images-idx3-ubyte', 't10k-images-idx4-ubyte'],
    labels: ['test-labels.npy', 't10k-labels-idx1-ubyte'],
  },
}

/** Highest label: more classes than any benchmark has. */
const mostLabel = 999_999

/** Numbers that have to become bytes are converted once, in memory. */
const mostConverted = 2 * 2 ** 30
const atOnce = 16 * 2 ** 20

interface ArrayFile extends ArrayHeader {
  path: string
  rows: number
  rowBytes: number
}

const byteFloats: Record<string, 4 | 8> = { '<f4': 4, '<f8': 8 }
const integers: Record<string, (bytes: DataView, i: number) => number> = {
  '|u1': (bytes, i) => bytes.getUint8(i),
  '|i1': (bytes, i) => bytes.getInt8(i),
  '<u2': (bytes, i) => bytes.getUint16(2 * i, true),
  '<i2': (bytes, i) => bytes.getInt16(2 * i, true),
  '<u4': (bytes, i) => bytes.getUint32(4 * i, true),
  '<i4': (bytes, i) => bytes.getInt32(4 * i, true),
  '<u8': (bytes, i) => Number(bytes.getBigUint64(8 * i, true)),
  '<i8': (bytes, i) => Number(bytes.getBigInt64(8 * i, true)),
}

const itemBytes = (dtype: string) => Number(dtype.slice(2))

/** The first of the names that is there, with its header; undefined where none is. */
async function findArray(set: string, names: readonly string[], bytes: ByteSource): Promise<ArrayFile | undefined> {
  for (const file of names) {
    const path = `arrays/${set}/${file}`
    const found = await bytes.stat(path)
    if (!found) continue
    const header = readArrayHeader(
      path,
      await bytes.read(path, { start: 0, end: Math.min(found.size, mostHeaderBytes) }),
    )
    const [rows = 0, ...sides] = header.shape
    const rowBytes = sides.reduce((product, side) => product * side, itemBytes(header.dtype))
    return { ...header, path, rows, rowBytes }
  }
  return undefined
}

/** What images of this dtype should be. */
function refuseDtype(path: string, dtype: string): void {
  if (dtype === '|u1' || byteFloats[dtype]) return
  const cures: Record<string, string> = {
    '<u2': '(array / 257).round().astype(numpy.uint8)',
    '|b1': 'array.astype(numpy.uint8) * 255',
    '<f2': 'array.astype(numpy.float32)',
    '>f4': "array.astype('<f4')",
    '>f8': "array.astype('<f4')",
  }
  throw new Damaged(
    `${path} holds numbers of dtype '${dtype}'; images are bytes ('|u1') from 0 to 255, or floats ('<f4', '<f8') in [0, 1]`,
    `save ${cures[dtype] ?? 'array.astype(numpy.uint8)'} instead`,
  )
}

function imageShapeOf({ path, shape, dtype, rows }: ArrayFile): ImageShape {
  refuseDtype(path, dtype)
  const shown = shape.join(' x ')
  const [, height = 0, width = 0, channels = 1] = shape
  if (shape.length < 3 || shape.length > 4)
    throw new Damaged(
      `${path} has ${shape.length} dimensions (${shown}); images are [n, height, width] or [n, height, width, channels]`,
      'reshape the array and save it again',
    )
  if (rows === 0) throw new Damaged(`${path} holds no images`, 'save at least one')
  if (channels !== 1 && channels !== 3) {
    const first = height === 1 || height === 3
    throw new Damaged(
      `${path} is ${shown}: ${channels} channels; there are 1 (grey) or 3 (red, green, blue), after height and width`,
      first ? 'save numpy.ascontiguousarray(array.transpose(0, 2, 3, 1)) instead' : 'choose 1 or 3 of them',
    )
  }
  if (Math.min(height, width) < 4 || Math.max(height, width) > 1024)
    throw new Damaged(`${path} is ${shown}: sides from 4 to 1024 pixels are read`, 'resize the images')
  return [height, width, channels]
}

/** Labels from -1 (none) on. Throws Damaged where they are none, or not one for each image. */
async function readLabels(file: ArrayFile, images: number, bytes: ByteSource): Promise<Int32Array> {
  const { path, shape, dtype, rows, offset } = file
  const read = integers[dtype]
  if (!read)
    throw new Damaged(
      `${path} holds numbers of dtype '${dtype}'; labels are whole numbers`,
      'save array.astype(numpy.int64) instead',
    )
  if (shape.length !== 1 || rows !== images)
    throw new Damaged(
      `${path} is ${shape.join(' x ')}; there are ${images} images, so [${images}] would be right`,
      'save one label an image',
    )
  await checkRowFile({ path, header: offset, rowBytes: file.rowBytes, rows }, bytes)
  const content = await bytes.read(path)
  const view = new DataView(content.buffer, content.byteOffset + offset, content.byteLength - offset)
  return Int32Array.from({ length: rows }, (_, i) => {
    const label = read(view, i)
    if (label >= -1 && label <= mostLabel) return label
    throw new Damaged(
      `${path} gives image ${i} the label ${label}; labels from 0 to ${mostLabel}, or -1 for none, are right`,
      'number the classes from 0 on',
    )
  })
}

/** Floats in [0, 1] as bytes. */
async function convertFloats(file: ArrayFile, bytes: ByteSource): Promise<Uint8Array> {
  const { path, rows, rowBytes, offset } = file
  const size = byteFloats[file.dtype]!
  const numbers = (rows * rowBytes) / size
  if (numbers > mostConverted)
    throw new TooLarge(
      `${path} holds ${numbers} floats; at most ${mostConverted} are converted`,
      'save (array * 255).round().astype(numpy.uint8) instead',
    )
  const out = new Uint8Array(numbers)
  for (let first = 0; first < numbers; first += atOnce / size) {
    const count = Math.min(atOnce / size, numbers - first)
    const range = { start: offset + first * size, end: offset + (first + count) * size }
    const content = await bytes.read(path, range)
    const view = new DataView(content.buffer, content.byteOffset, content.byteLength)
    for (let i = 0; i < count; i++) {
      const value = size === 4 ? view.getFloat32(4 * i, true) : view.getFloat64(8 * i, true)
      if (!(value >= 0 && value <= 1))
        throw new Damaged(
          `${path} holds ${value} in image ${Math.floor((first + i) / (rowBytes / size))}; floats are read from 0 to 1`,
          Number.isNaN(value) ? 'correct or leave out the images with NaN' : 'bring them to [0, 1], or save bytes',
        )
      out[first + i] = Math.round(value * 255)
    }
  }
  return out
}

async function openImages(file: ArrayFile, bytes: ByteSource): Promise<ReadRows> {
  const { path, rows, rowBytes, offset, dtype } = file
  if (dtype === '|u1') return openRows({ path, header: offset, rowBytes, rows }, bytes)
  return rowsOf(await convertFloats(file, bytes), rowBytes / byteFloats[dtype]!)
}

interface SplitFiles {
  images: ArrayFile
  shape: ImageShape
  labels: Int32Array | undefined
}

async function findSplit(set: string, split: Split, bytes: ByteSource): Promise<SplitFiles | undefined> {
  const images = await findArray(set, arrayFiles[split].images, bytes)
  if (!images) return undefined
  const shape = imageShapeOf(images)
  await checkRowFile({ ...images, header: images.offset }, bytes)
  const file = await findArray(set, arrayFiles[split].labels, bytes)
  return { images, shape, labels: file && (await readLabels(file, images.rows, bytes)) }
}

/** Both splits, as far as they are there. */
async function findSet(set: string, bytes: ByteSource) {
  const train = await findSplit(set, 'train', bytes)
  if (!train)
    throw new NotFound(
      `there are no arrays '${set}': no arrays/${set}/${arrayFiles.train.images[0]}`,
      `add them: gestalt dataset add arrays/${set} --from DIR, a folder with ${arrayFiles.train.images[0]}`,
    )
  const test = await findSplit(set, 'test', bytes)
  if (test && String(test.shape) !== String(train.shape))
    throw new Damaged(
      `the test images of '${set}' are ${test.shape.join(' x ')}, those for training ${train.shape.join(' x ')}`,
      'save both in one size',
    )
  const highest = (labels: Int32Array | undefined) => labels?.reduce((most, label) => Math.max(most, label), -1) ?? -1
  return { train, test, classes: Math.max(highest(train.labels), highest(test?.labels)) + 1 }
}

const imageMemory = ({ images, shape }: SplitFiles) =>
  images.dtype === '|u1' ? rowFileMemory(images) : images.rows * shape[0] * shape[1] * shape[2]

function describeSet(wanted: Static<typeof parameters>, { train, test, classes }: Awaited<ReturnType<typeof findSet>>) {
  const size = applyLimits({ train: train.images.rows, test: test?.images.rows ?? 0 }, wanted)
  const memoryBytes = imageMemory(train) + (test ? imageMemory(test) : 0)
  return { imageShape: train.shape, classes, size, memoryBytes } satisfies DatasetDescription
}

/** Images that come as one array: `.npy` of bytes or of floats in [0, 1], or IDX. */
export const arrays = defineDataset({
  name: 'arrays',
  title: 'Your own arrays of images, .npy or IDX, added with gestalt dataset add arrays/NAME',
  source: 'added here',
  parameters,
  async describe(wanted, bytes): Promise<DatasetDescription> {
    return describeSet(wanted, await findSet(wanted.set, bytes))
  },
  async open(wanted, bytes) {
    const found = await findSet(wanted.set, bytes)
    const { size, classes } = describeSet(wanted, found)
    const openSplit = async (split: Split, files: SplitFiles | undefined): Promise<Dataset> => {
      const labels = classes > 0 ? (files?.labels ?? new Int32Array(files?.images.rows ?? 0).fill(-1)) : undefined
      return arraySplit({
        name: 'arrays',
        split,
        size: size[split],
        imageShape: found.train.shape,
        classes,
        images: files ? await openImages(files.images, bytes) : rowsOf(new Uint8Array(), 0),
        ...(labels ? { labels } : {}),
      })
    }
    return { train: await openSplit('train', found.train), test: await openSplit('test', found.test) }
  },
})
