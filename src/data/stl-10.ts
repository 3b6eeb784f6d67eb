import { type Static, Type } from 'typebox'
import { Damaged } from '../errors.ts'
import { arraySplit, checkLabels, interleave } from './array-split.ts'
import { type ByteSource, type Corpus, type DatasetDescription, defineDataset, type ImageShape } from './dataset.ts'
import { findFiles } from './known-files.ts'
import { applyLimits, limitParameters } from './limits.ts'
import { checkRowFile, openRows, type ReadRows, type RowFile, rowFileMemory } from './row-file.ts'

const imageShape: ImageShape = [96, 96, 3]
const rowBytes = 96 * 96 * 3

/** The labels 1 to 10 of the files, which are 0 to 9 here. */
const classNames = ['airplane', 'bird', 'car', 'cat', 'deer', 'dog', 'horse', 'monkey', 'ship', 'truck']

const parameters = Type.Object(
  {
    images: Type.Union([Type.Literal('labelled'), Type.Literal('unlabelled'), Type.Literal('both')], {
      default: 'labelled',
      description: 'Which images train: the 5,000 with a label, the 100,000 without, or the former before the latter.',
    }),
    ...limitParameters,
  },
  { additionalProperties: false },
)

type Parameters = Static<typeof parameters>

/** Images of each of the published files. */
export interface Stl10Sizes {
  train: number
  unlabelled: number
  test: number
}

const published: Stl10Sizes = { train: 5_000, unlabelled: 100_000, test: 8_000 }

const name = 'stl-10'
const cure = `add it: gestalt dataset add ${name} --from DIR, the folder of the unpacked stl10_binary.tar.gz`

const imageFile = (file: string, rows: number): RowFile => ({ path: `${name}/${file}`, header: 0, rowBytes, rows })

/** The training files in the order in which their images count. */
function trainingFiles({ images }: Parameters, sizes: Stl10Sizes): { file: RowFile; labels?: string }[] {
  const labelled = { file: imageFile('train_X.bin', sizes.train), labels: `${name}/train_y.bin` }
  const unlabelled = { file: imageFile('unlabeled_X.bin', sizes.unlabelled) }
  return images === 'labelled' ? [labelled] : images === 'unlabelled' ? [unlabelled] : [labelled, unlabelled]
}

export async function describeStl10(
  wanted: Parameters,
  sizes: Stl10Sizes,
  bytes: ByteSource,
): Promise<DatasetDescription> {
  const files = trainingFiles(wanted, sizes).map(({ file }) => file)
  const test = imageFile('test_X.bin', sizes.test)
  const size = applyLimits({ train: files.reduce((sum, { rows }) => sum + rows, 0), test: sizes.test }, wanted)
  const names = [...files, test].map(({ path }) => path.slice(name.length + 1))
  const labelFiles = wanted.images === 'unlabelled' ? ['test_y.bin'] : ['train_y.bin', 'test_y.bin']
  await findFiles(name, [...names, ...labelFiles], cure, bytes)
  await Promise.all([...files, test].map((file) => checkRowFile(file, bytes)))
  const memoryBytes = [...files, test].reduce((sum, file) => sum + rowFileMemory(file), 0)
  return { imageShape, classes: classNames.length, size, memoryBytes }
}

async function readLabels(path: string, images: number, bytes: ByteSource): Promise<Int32Array> {
  const content = await bytes.read(path)
  if (content.length !== images)
    throw new Damaged(
      `${path} has ${content.length} labels; there are ${images} images`,
      'put the published file there',
    )
  checkLabels(path, content, 1, classNames.length)
  return Int32Array.from(content, (label) => label - 1)
}

/** Images as they are shown: the files hold each channel column by column. */
const upright =
  (rows: ReadRows): ReadRows =>
  async (wanted) =>
    interleave(await rows(wanted), imageShape, true)

/** Rows of several files, as if they were one. */
function joinRows(parts: readonly { rows: ReadRows; count: number }[]): ReadRows {
  if (parts.length === 1) return parts[0]!.rows
  return async (wanted) => {
    const data = new Uint8Array(wanted.length * rowBytes)
    let first = 0
    for (const { rows, count } of parts) {
      const places = Array.from(wanted, (_, place) => place).filter(
        (place) => wanted[place]! >= first && wanted[place]! < first + count,
      )
      const read = await rows(places.map((place) => wanted[place]! - first))
      for (const [i, place] of places.entries())
        data.set(read.subarray(i * rowBytes, (i + 1) * rowBytes), place * rowBytes)
      first += count
    }
    return data
  }
}

export async function openStl10(wanted: Parameters, sizes: Stl10Sizes, bytes: ByteSource): Promise<Corpus> {
  const { size } = await describeStl10(wanted, sizes, bytes)
  const parts = []
  const labels = new Int32Array(size.train).fill(-1)
  for (const { file, labels: path } of trainingFiles(wanted, sizes)) {
    parts.push({ rows: await openRows(file, bytes), count: file.rows })
    // Those with a label come first.
    if (path) labels.set((await readLabels(path, file.rows, bytes)).subarray(0, size.train))
  }
  const testRows = await openRows(imageFile('test_X.bin', sizes.test), bytes)
  const testLabels = await readLabels(`${name}/test_y.bin`, sizes.test, bytes)
  const known = { name, imageShape, classes: classNames.length, classNames }
  return {
    train: arraySplit({ ...known, split: 'train', size: size.train, images: upright(joinRows(parts)), labels }),
    test: arraySplit({ ...known, split: 'test', size: size.test, images: upright(testRows), labels: testLabels }),
  }
}

export const stl10 = defineDataset({
  name,
  title: 'STL-10: 5,000 labelled, 100,000 unlabelled and 8,000 test images, 96 x 96 colour, 10 classes',
  source: 'Coates, Lee and Ng 2011, An Analysis of Single Layer Networks in Unsupervised Feature Learning',
  parameters,
  describe: (wanted, bytes) => describeStl10(wanted, published, bytes),
  open: (wanted, bytes) => openStl10(wanted, published, bytes),
})
