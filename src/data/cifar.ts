import { type Static, Type } from 'typebox'
import { arraySplit, checkLabels, interleave } from './array-split.ts'
import { type ByteSource, type DatasetDescription, defineDataset, type ImageShape } from './dataset.ts'
import { findFiles } from './known-files.ts'
import { applyLimits, limitParameters } from './limits.ts'
import { checkRowFile, rowsOf } from './row-file.ts'

const imageShape: ImageShape = [32, 32, 3]
const imageBytes = 32 * 32 * 3

const classNames10 = ['airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck']

/** Labels 0 to 99, in the order of the alphabet. */
const classNames100 = (
  'apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle ' +
  'caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant ' +
  'flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man ' +
  'maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree ' +
  'plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper ' +
  'snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train ' +
  'trout tulip turtle wardrobe whale willow_tree wolf woman worm'
).split(' ')

/** Groups of five of those, 0 to 19. */
const classNames20 = (
  'aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices ' +
  'household_furniture insects large_carnivores large_man-made_outdoor_things large_natural_outdoor_scenes ' +
  'large_omnivores_and_herbivores medium_mammals non-insect_invertebrates people reptiles small_mammals trees ' +
  'vehicles_1 vehicles_2'
).split(' ')

/** Where the label of a record is, and what it can be. */
export interface CifarLabels {
  at: number
  classNames: readonly string[]
}

/** How the records of one variant look. */
export interface CifarLayout {
  name: string
  train: readonly string[]
  test: string
  /** Records a training file, and in the test file. */
  perFile: number
  testImages: number
  /** Bytes before the pixels of a record. */
  labelBytes: number
}

/** The records of one file, in memory: labels apart, pixels as [n, h, w, c]. Throws Damaged. */
async function readRecords(layout: CifarLayout, file: string, images: number, labels: CifarLabels, bytes: ByteSource) {
  const path = `${layout.name}/${file}`
  const content = await bytes.read(path)
  const record = layout.labelBytes + imageBytes
  const found = Int32Array.from({ length: images }, (_, i) => content[i * record + labels.at]!)
  checkLabels(path, found, 0, labels.classNames.length - 1)
  const pixels = new Uint8Array(images * imageBytes)
  for (let i = 0; i < images; i++)
    pixels.set(content.subarray(i * record + layout.labelBytes, (i + 1) * record), i * imageBytes)
  return { labels: found, pixels: interleave(pixels, imageShape, false) }
}

/** What is known before anything is read. */
export async function describeCifar(
  layout: CifarLayout,
  wanted: { limit?: number; testLimit?: number },
  { classNames }: CifarLabels,
  bytes: ByteSource,
): Promise<DatasetDescription> {
  const all = { train: layout.perFile * layout.train.length, test: layout.testImages }
  const size = applyLimits(all, wanted)
  const cureMissing = `add it: gestalt dataset add ${layout.name} --from DIR|URL`
  await findFiles(layout.name, [...layout.train, layout.test], cureMissing, bytes)
  const file = (file: string, rows: number) =>
    checkRowFile({ path: `${layout.name}/${file}`, header: 0, rowBytes: layout.labelBytes + imageBytes, rows }, bytes)
  await Promise.all([...layout.train.map((name) => file(name, layout.perFile)), file(layout.test, layout.testImages)])
  return { imageShape, classes: classNames.length, size, memoryBytes: (all.train + all.test) * imageBytes }
}

export async function openCifar(
  layout: CifarLayout,
  wanted: { limit?: number; testLimit?: number },
  labels: CifarLabels,
  bytes: ByteSource,
) {
  const { size } = await describeCifar(layout, wanted, labels, bytes)
  const { name } = layout
  const known = { name, imageShape, classes: labels.classNames.length, classNames: labels.classNames }
  const pixels = new Uint8Array(size.train * imageBytes)
  const trainLabels = new Int32Array(size.train)
  // One file after the other, and no more of them than are asked for.
  for (let i = 0; i * layout.perFile < size.train; i++) {
    const from = i * layout.perFile
    const read = await readRecords(layout, layout.train[i]!, layout.perFile, labels, bytes)
    const count = Math.min(layout.perFile, size.train - from)
    pixels.set(read.pixels.subarray(0, count * imageBytes), from * imageBytes)
    trainLabels.set(read.labels.subarray(0, count), from)
  }
  const test = await readRecords(layout, layout.test, layout.testImages, labels, bytes)
  return {
    train: arraySplit({
      ...known,
      split: 'train',
      size: size.train,
      images: rowsOf(pixels, imageBytes),
      labels: trainLabels,
    }),
    test: arraySplit({
      ...known,
      split: 'test',
      size: size.test,
      images: rowsOf(test.pixels, imageBytes),
      labels: test.labels,
    }),
  }
}

const source = 'Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images'

const ten: CifarLayout = {
  name: 'cifar-10',
  train: [1, 2, 3, 4, 5].map((i) => `data_batch_${i}.bin`),
  test: 'test_batch.bin',
  perFile: 10_000,
  testImages: 10_000,
  labelBytes: 1,
}
const tenLabels = { at: 0, classNames: classNames10 }

export const cifar10 = defineDataset({
  name: 'cifar-10',
  title: 'CIFAR-10: 50,000 training and 10,000 test images of things and animals, 32 x 32 colour, 10 classes',
  source,
  parameters: Type.Object({ ...limitParameters }, { additionalProperties: false }),
  describe: (wanted, bytes) => describeCifar(ten, wanted, tenLabels, bytes),
  open: (wanted, bytes) => openCifar(ten, wanted, tenLabels, bytes),
})

const hundred: CifarLayout = {
  name: 'cifar-100',
  train: ['train.bin'],
  test: 'test.bin',
  perFile: 50_000,
  testImages: 10_000,
  labelBytes: 2,
}

const parameters100 = Type.Object(
  {
    labels: Type.Union([Type.Literal('fine'), Type.Literal('coarse')], {
      default: 'fine',
      description: 'The 100 classes, or the 20 groups of five that they form.',
    }),
    ...limitParameters,
  },
  { additionalProperties: false },
)

const hundredLabels = ({ labels }: Static<typeof parameters100>): CifarLabels =>
  labels === 'coarse' ? { at: 0, classNames: classNames20 } : { at: 1, classNames: classNames100 }

export const cifar100 = defineDataset({
  name: 'cifar-100',
  title: 'CIFAR-100: 50,000 training and 10,000 test images, 32 x 32 colour, 100 classes in 20 groups',
  source,
  parameters: parameters100,
  describe: (wanted, bytes) => describeCifar(hundred, wanted, hundredLabels(wanted), bytes),
  open: (wanted, bytes) => openCifar(hundred, wanted, hundredLabels(wanted), bytes),
})
