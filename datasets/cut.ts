// Cuts datasets/fashion-mnist-12k out of the full Fashion-MNIST:
//   npx tsx datasets/cut.ts /usr/share/datasets/fashion-mnist
// takes the first 10,000 training and the first 2,000 test images with their labels, in their order, and packs them
// with gzip level 9 without a name or a time, so that the same input gives the same content everywhere.
import { createHash } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync, gzipSync } from 'node:zlib'

const source = process.argv[2]
if (!source) throw new Error('name the folder that holds the four files of Fashion-MNIST')

for (const [split, count] of [
  ['train', 10_000],
  ['t10k', 2_000],
] as const)
  for (const [file, dimensions] of [
    [`${split}-images-idx3-ubyte.gz`, 3],
    [`${split}-labels-idx1-ubyte.gz`, 1],
  ] as const) {
    const whole = gunzipSync(readFileSync(join(source, file)))
    const header = Buffer.from(whole.subarray(0, 4 + 4 * dimensions))
    let item = 1
    for (let i = 1; i < dimensions; i++) item *= header.readUInt32BE(4 + 4 * i)
    header.writeUInt32BE(count, 4)
    const cut = Buffer.concat([header, whole.subarray(header.length, header.length + count * item)])
    const packed = gzipSync(cut, { level: 9 })
    writeFileSync(join(import.meta.dirname, 'fashion-mnist-12k', file), packed)
    const sum = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')
    console.log(`${file}\n  packed   ${packed.length} ${sum(packed)}\n  unpacked ${cut.length} ${sum(cut)}`)
  }
