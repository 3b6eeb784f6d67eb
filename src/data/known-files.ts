import { Damaged } from '../errors.ts'
import { sha256, unzip } from './idx.ts'

/** A file whose content is known beforehand. Size and sum are those of the unpacked content: packers differ. */
export interface KnownFile {
  name: string
  /** Bytes once unpacked. */
  size: number
  sha256: string
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
} as const satisfies Record<string, readonly KnownFile[]>

/** Throws Damaged where unpacked bytes are not those of the known file. */
export function verifyContent(name: string, unpacked: Uint8Array, file: KnownFile): void {
  const cure = 'fetch the file again from where it came from'
  if (unpacked.length !== file.size)
    throw new Damaged(`${name} unpacks to ${unpacked.length} bytes instead of ${file.size}`, cure)
  const sum = sha256(unpacked)
  if (sum !== file.sha256)
    throw new Damaged(`${name} is not the published file: sha256 ${sum} instead of ${file.sha256}`, cure)
}

/** Throws Damaged where gzipped bytes do not hold the content of the known file. */
export function verifyFile(name: string, bytes: Uint8Array, file: KnownFile): void {
  verifyContent(name, unzip(name, bytes), file)
}
