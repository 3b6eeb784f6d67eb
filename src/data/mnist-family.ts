import { Type } from 'typebox'
import { Damaged } from '../errors.ts'
import { arraySplit, checkLabels } from './array-split.ts'
import { type ByteSource, type Dataset, type DatasetDescription, defineDataset, type ImageShape } from './dataset.ts'
import { readIdx, unzip } from './idx.ts'
import { findFiles, type KnownFile, verifyContent } from './known-files.ts'
import { applyLimits, limitParameters, type SplitSizes } from './limits.ts'
import { rowsOf } from './row-file.ts'

const imageShape: ImageShape = [28, 28, 1]

const parameters = Type.Object({ ...limitParameters }, { additionalProperties: false })

/** A dataset in the four files of MNIST. */
export interface MnistVariant<Name extends string> {
  name: Name
  title: string
  source: string
  size: SplitSizes
  /** The labels 0 to 9. */
  classNames: readonly string[]
  /** Training images and labels, test images and labels. */
  files: readonly KnownFile[]
  cure: string
}

/** One file: unpacked, parsed, then compared with what is known. */
async function readFile(name: string, file: KnownFile, shape: readonly number[], bytes: ByteSource) {
  const path = `${name}/${file.name}`
  const unpacked = unzip(path, await bytes.read(path))
  // Parsed first: 'is cut short' says more than a sum that differs.
  const found = readIdx(path, unpacked, shape.length)
  verifyContent(path, unpacked, file)
  if (String(found.shape) !== String(shape))
    throw new Damaged(
      `${path} holds ${found.shape.join(' x ')} numbers instead of ${shape.join(' x ')}`,
      'put the published file there',
    )
  const { data } = found
  return data
}

/** 28 x 28 grey images and their labels, four gzipped IDX files that are read into memory. */
export function defineMnist<const Name extends string>(variant: MnistVariant<Name>) {
  const { name, files, classNames } = variant
  const find = (bytes: ByteSource) =>
    findFiles(
      name,
      files.map((file) => file.name),
      variant.cure,
      bytes,
    )
  async function openSplit(split: 'train' | 'test', size: number, bytes: ByteSource): Promise<Dataset> {
    const count = variant.size[split]
    const [imageFile, labelFile] = split === 'train' ? files : files.slice(2)
    const images = await readFile(name, imageFile!, [count, 28, 28], bytes)
    const labels = await readFile(name, labelFile!, [count], bytes)
    checkLabels(`${name}/${labelFile!.name}`, labels, 0, classNames.length - 1)
    const known = { name, split, size, imageShape, classes: classNames.length, classNames }
    return arraySplit({ ...known, images: rowsOf(images, 784), labels: Int32Array.from(labels) })
  }
  return defineDataset({
    name,
    title: variant.title,
    source: variant.source,
    parameters,
    async describe(wanted, bytes): Promise<DatasetDescription> {
      const size = applyLimits(variant.size, wanted)
      await find(bytes)
      const memoryBytes = files.reduce((sum, file) => sum + file.size, 0)
      return { imageShape, classes: classNames.length, size, memoryBytes }
    },
    async open(wanted, bytes) {
      const size = applyLimits(variant.size, wanted)
      await find(bytes)
      // One after the other: the largest file unpacks to 47 MB.
      const train = await openSplit('train', size.train, bytes)
      return { train, test: await openSplit('test', size.test, bytes) }
    },
  })
}
