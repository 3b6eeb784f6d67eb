import { Type } from 'typebox'
import { NotFound } from '../errors.ts'
import {
  type ByteSource,
  checkIndex,
  type Dataset,
  type DatasetDescription,
  defineDataset,
  type ImageShape,
} from './dataset.ts'
import { readIdx, unzip } from './idx.ts'
import { type KnownFile, knownFiles, verifyContent } from './known-files.ts'
import { applyLimits, limitParameters } from './limits.ts'

const imageShape: ImageShape = [28, 28, 1]

/** The labels 0 to 9. */
const classNames = [
  'T-shirt/top',
  'Trouser',
  'Pullover',
  'Dress',
  'Coat',
  'Sandal',
  'Shirt',
  'Sneaker',
  'Bag',
  'Ankle boot',
]

const parameters = Type.Object({ ...limitParameters }, { additionalProperties: false })

interface Variant<Name extends keyof typeof knownFiles> {
  name: Name
  title: string
  source: string
  size: { train: number; test: number }
  cure: string
}

function split(name: string, kind: 'train' | 'test', size: number, images: Uint8Array, labels: Uint8Array): Dataset {
  const image = imageShape[0] * imageShape[1] * imageShape[2]
  return {
    name,
    split: kind,
    size,
    imageShape,
    classes: classNames.length,
    classNames,
    async read(indices) {
      const data = new Uint8Array(indices.length * image)
      const chosenLabels = new Int32Array(indices.length)
      for (let i = 0; i < indices.length; i++) {
        const index = indices[i]!
        checkIndex(this, index)
        data.set(images.subarray(index * image, (index + 1) * image), i * image)
        chosenLabels[i] = labels[index]!
      }
      return { data, shape: imageShape, labels: chosenLabels }
    },
    labels: async () => Int32Array.from(labels.subarray(0, size)),
  }
}

/** The four files of one variant, in the order of `knownFiles`: unpacked, parsed, then compared with what is known. */
async function readFile(name: string, file: KnownFile, dimensions: number, bytes: ByteSource) {
  const path = `${name}/${file.name}`
  const unpacked = unzip(path, await bytes.read(path))
  // Parsed first: 'is cut short' says more than a sum that differs.
  const { data } = readIdx(path, unpacked, dimensions)
  verifyContent(path, unpacked, file)
  return data
}

function defineFashion<const Name extends keyof typeof knownFiles>(variant: Variant<Name>) {
  const { name } = variant
  const files = knownFiles[name]
  async function findFiles(bytes: ByteSource): Promise<void> {
    const found = await Promise.all(files.map((file) => bytes.stat(`${name}/${file.name}`)))
    const missing = files.filter((_, i) => !found[i]).map((file) => file.name)
    if (missing.length > 0)
      throw new NotFound(`the files of dataset '${name}' are not here: ${missing.join(', ')}`, variant.cure)
  }
  return defineDataset({
    name,
    title: variant.title,
    source: variant.source,
    parameters,
    async describe(wanted, bytes): Promise<DatasetDescription> {
      const size = applyLimits(variant.size, wanted)
      await findFiles(bytes)
      const memoryBytes = files.reduce((sum, file) => sum + file.size, 0)
      return { imageShape, classes: classNames.length, size, memoryBytes }
    },
    async open(wanted, bytes) {
      const size = applyLimits(variant.size, wanted)
      await findFiles(bytes)
      // One after the other: the largest unpacks to 47 MB.
      const trainImages = await readFile(name, files[0], 3, bytes)
      const trainLabels = await readFile(name, files[1], 1, bytes)
      const testImages = await readFile(name, files[2], 3, bytes)
      const testLabels = await readFile(name, files[3], 1, bytes)
      return {
        train: split(name, 'train', size.train, trainImages, trainLabels),
        test: split(name, 'test', size.test, testImages, testLabels),
      }
    },
  })
}

const source = 'Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747 (MIT licence)'

/** All of Fashion-MNIST, where it was added or is installed. */
export const fashionMnist = defineFashion({
  name: 'fashion-mnist',
  title: 'Fashion-MNIST: 60,000 training and 10,000 test images of clothes, 28 x 28 grey, 10 classes',
  source,
  size: { train: 60_000, test: 10_000 },
  cure: 'add it: gestalt dataset add fashion-mnist --from DIR|URL, or install the Debian package dataset-fashion-mnist',
})

/** The part that comes with the installation. */
export const fashionMnist12k = defineFashion({
  name: 'fashion-mnist-12k',
  title: 'Fashion-MNIST, the first 10,000 training and 2,000 test images',
  source,
  size: { train: 10_000, test: 2_000 },
  cure: 'these files come with the installation, in its folder datasets/; restore them',
})
