import { createHash } from 'node:crypto'
import { Damaged, NotFound } from '../errors.ts'
import type { ByteSource } from './dataset.ts'
import { sha256, unzip } from './idx.ts'

/**
 * A file that is known beforehand. Size and sha256 are those of the content, unpacked where the name ends in .gz:
 * packers differ. Where only a sum of the file as it was published is known, that is its md5. One with neither is told
 * by its size, and by what it holds when it is opened.
 */
export interface KnownFile {
  name: string
  /** Bytes once unpacked. */
  size: number
  sha256?: string
  md5?: string
}

/** An archive in which the files of a dataset are published, by its sum, and the folder that they are in. */
export interface KnownArchive {
  name: string
  md5: string
  folder: string
}

const idx = (images: number) => ({ images: 16 + images * 784, labels: 8 + images })

/** The four files of a dataset of the MNIST family, with what is known of each. */
function mnistFiles(known: readonly [object, object, object, object]): readonly KnownFile[] {
  const [train, test] = [idx(60_000), idx(10_000)]
  return [
    { name: 'train-images-idx3-ubyte.gz', size: train.images, ...known[0] },
    { name: 'train-labels-idx1-ubyte.gz', size: train.labels, ...known[1] },
    { name: 't10k-images-idx3-ubyte.gz', size: test.images, ...known[2] },
    { name: 't10k-labels-idx1-ubyte.gz', size: test.labels, ...known[3] },
  ]
}

/** The files of the datasets that are read from bytes, by dataset; each lies at '<dataset>/<name>' of a ByteSource. */
export const knownFiles = {
  'fashion-mnist': [
    {
      name: 'train-images-idx3-ubyte.gz',
      size: 47_040_016,
      sha256: 'c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888',
    },
    {
      name: 'train-labels-idx1-ubyte.gz',
      size: 60_008,
      sha256: 'bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9',
    },
    {
      name: 't10k-images-idx3-ubyte.gz',
      size: 7_840_016,
      sha256: '5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b',
    },
    {
      name: 't10k-labels-idx1-ubyte.gz',
      size: 10_008,
      sha256: '0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34',
    },
  ],
  'fashion-mnist-12k': [
    {
      name: 'train-images-idx3-ubyte.gz',
      size: 7_840_016,
      sha256: 'ed2e37ed5a3a57d212141a69fe0a0de5a7126ffba14ac3f7e76f5f52cc04b1f0',
    },
    {
      name: 'train-labels-idx1-ubyte.gz',
      size: 10_008,
      sha256: 'a69f2dad024ca220a8c4d85f621fdf929042d40c444abde2868903e9220ad517',
    },
    {
      name: 't10k-images-idx3-ubyte.gz',
      size: 1_568_016,
      sha256: '862035b0a96959b614c9574f4c2b0ae9584ca234813e8d6d7adb7838b12ca46b',
    },
    {
      name: 't10k-labels-idx1-ubyte.gz',
      size: 2_008,
      sha256: 'aa3f574d30afaf0d4d9da084a6f8541771e20693d6a97fae6e9a4953fca8f078',
    },
  ],
  mnist: mnistFiles([
    { sha256: 'ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db' },
    { sha256: '65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5' },
    { sha256: '0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7' },
    { sha256: 'ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2' },
  ]),
  kmnist: mnistFiles([
    { md5: 'bdb82020997e1d708af4cf47b453dcf7' },
    { md5: 'e144d726b3acfaa3e44228e80efcd344' },
    { md5: '5c965bf0a639b31b8f53240b1b52f4d7' },
    { md5: '7320c461ea6c1c855c0b718fb2a4b134' },
  ]),
  // Sums are published of the archives alone.
  'cifar-10': ['data_batch_1', 'data_batch_2', 'data_batch_3', 'data_batch_4', 'data_batch_5', 'test_batch'].map(
    (name) => ({ name: `${name}.bin`, size: 30_730_000 }),
  ),
  'cifar-100': [
    { name: 'train.bin', size: 153_700_000 },
    { name: 'test.bin', size: 30_740_000 },
  ],
  'stl-10': [
    { name: 'train_X.bin', size: 138_240_000, md5: '918c2871b30a85fa023e0c44e0bee87f' },
    { name: 'train_y.bin', size: 5_000, md5: '5a34089d4802c674881badbb80307741' },
    { name: 'unlabeled_X.bin', size: 2_764_800_000, md5: '5242ba1fed5e4be9e1e742405eb56ca4' },
    { name: 'test_X.bin', size: 221_184_000, md5: '7f263ba9f9e0b06b93213547f721ac82' },
    { name: 'test_y.bin', size: 8_000, md5: '36f9794fa4beb8a2c72628de14fa638e' },
  ],
} as const satisfies Record<string, readonly KnownFile[]>

/** Where the files of a dataset come packed together. */
export const knownArchives: Partial<Record<keyof typeof knownFiles, KnownArchive>> = {
  'cifar-10': {
    name: 'cifar-10-binary.tar.gz',
    md5: 'c32a1d4ab5d03f1284b67883e8d87530',
    folder: 'cifar-10-batches-bin',
  },
  'cifar-100': {
    name: 'cifar-100-binary.tar.gz',
    md5: '03b5dce01913d631647c71ecec9e9cb8',
    folder: 'cifar-100-binary',
  },
}

const cure = 'fetch the file again from where it came from'

/** Throws NotFound, with the cure, where files of a dataset are not there. */
export async function findFiles(name: string, files: readonly string[], how: string, bytes: ByteSource): Promise<void> {
  const found = await Promise.all(files.map((file) => bytes.stat(`${name}/${file}`)))
  const missing = files.filter((_, i) => !found[i])
  if (missing.length > 0) throw new NotFound(`the files of dataset '${name}' are not here: ${missing.join(', ')}`, how)
}

/** Throws Damaged where unpacked bytes are not those of the known file. */
export function verifyContent(name: string, unpacked: Uint8Array, file: KnownFile): void {
  const unpacks = file.name.endsWith('.gz') ? 'unpacks to' : 'has'
  if (unpacked.length !== file.size)
    throw new Damaged(`${name} ${unpacks} ${unpacked.length} bytes instead of ${file.size}`, cure)
  const sum = file.sha256 === undefined ? undefined : sha256(unpacked)
  if (sum !== file.sha256)
    throw new Damaged(`${name} is not the published file: sha256 ${sum} instead of ${file.sha256}`, cure)
}

/** Throws Damaged where a file or an archive is not as it was published. */
export function verifyPublished(name: string, md5: string, wanted: { md5?: string }): void {
  if (wanted.md5 !== undefined && md5 !== wanted.md5)
    throw new Damaged(`${name} is not the published file: md5 ${md5} instead of ${wanted.md5}`, cure)
}

/** Throws Damaged where the bytes of a file, packed as it comes, are not those of the known file. */
export function verifyFile(name: string, bytes: Uint8Array, file: KnownFile): void {
  verifyContent(name, file.name.endsWith('.gz') ? unzip(name, bytes) : bytes, file)
  if (file.md5 !== undefined) verifyPublished(name, createHash('md5').update(bytes).digest('hex'), file)
}
