import { gzipSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { cifar100, openCifar } from '../../src/data/cifar.ts'
import { datasets } from '../../src/data/index.ts'
import { knownFiles, verifyFile } from '../../src/data/known-files.ts'
import { defineMnist } from '../../src/data/mnist-family.ts'
import { openStl10 } from '../../src/data/stl-10.ts'
import { Damaged } from '../../src/errors.ts'
import { memoryFiles } from '../memory-files.ts'

async function refusal(work: Promise<unknown>): Promise<string> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown as Damaged,
  )
  expect(error).toBeInstanceOf(Damaged)
  return error!.message
}

/** A record as CIFAR stores it: labels, then red, green and blue planes, each row by row. */
function record(labels: number[], seed: number): Buffer {
  const planes = Buffer.alloc(3072)
  for (let i = 0; i < 3072; i++) planes[i] = (i * 7 + seed) % 256
  return Buffer.concat([Buffer.from(labels), planes])
}

describe('CIFAR', () => {
  const layout = {
    name: 'tiny',
    train: ['a.bin', 'b.bin'],
    test: 't.bin',
    perFile: 2,
    testImages: 1,
    labelBytes: 2,
  }
  const labels = { at: 1, classNames: ['x', 'y', 'z'] }
  const files = {
    'tiny/a.bin': Buffer.concat([record([9, 0], 1), record([9, 2], 2)]),
    'tiny/b.bin': Buffer.concat([record([9, 1], 3), record([9, 0], 4)]),
    'tiny/t.bin': record([9, 2], 5),
  }

  it('is read record by record over its files, its planes as colours side by side', async () => {
    const { train, test } = await openCifar(layout, {}, labels, memoryFiles(files))
    const { data, labels: found } = await train.read([2, 0])
    expect([train.size, test.size, train.classes]).toEqual([4, 1, 3])
    expect(found).toEqual(Int32Array.of(1, 0))
    // Pixel (y, x) of channel c lies at 1024 c + 32 y + x of the record.
    const stored = (seed: number, y: number, x: number) =>
      [0, 1, 2].map((c) => ((1024 * c + 32 * y + x) * 7 + seed) % 256)
    const shown = (image: number, y: number, x: number) => [
      ...data.subarray(3072 * image + (32 * y + x) * 3).subarray(0, 3),
    ]
    expect(shown(0, 0, 1)).toEqual(stored(3, 0, 1))
    expect(shown(0, 31, 5)).toEqual(stored(3, 31, 5))
    expect(shown(1, 7, 30)).toEqual(stored(1, 7, 30))
    expect((await test.read([0])).labels).toEqual(Int32Array.of(2))
  })

  it('reads no more files than are asked for', async () => {
    const reads: string[] = []
    const { train } = await openCifar(layout, { limit: 2 }, labels, memoryFiles(files, reads))
    expect([train.size, reads]).toEqual([2, ['tiny/a.bin', 'tiny/t.bin']])
  })

  it('refuses a file that is cut short, and a label that there is not', async () => {
    const open = (changes: object) => refusal(openCifar(layout, {}, labels, memoryFiles({ ...files, ...changes })))
    expect(await open({ 'tiny/b.bin': files['tiny/b.bin'].subarray(0, -5) })).toBe(
      'tiny/b.bin has 6143 bytes; 2 rows of 3074 take 6148: it is cut short',
    )
    expect(await open({ 'tiny/b.bin': Buffer.concat([record([9, 1], 3), record([9, 3], 4)]) })).toBe(
      'tiny/b.bin gives image 1 the label 3; labels from 0 to 2 are right',
    )
  })

  it('has 100 fine and 20 coarse classes', async () => {
    const sizes = Object.fromEntries(knownFiles['cifar-100'].map(({ name, size }) => [`cifar-100/${name}`, size]))
    const bytes = {
      ...memoryFiles({}),
      stat: async (path: string) => (sizes[path] ? { size: sizes[path] } : undefined),
    }
    expect((await cifar100.describe({ labels: 'fine' }, bytes)).classes).toBe(100)
    expect((await cifar100.describe({ labels: 'coarse' }, bytes)).classes).toBe(20)
  })
})

describe('STL-10', () => {
  const image = 27_648
  /** Image i: red is its column, green its row, blue is i. */
  const stored = (first: number, count: number) => {
    const out = Buffer.alloc(count * image)
    for (let i = 0; i < count; i++)
      for (let x = 0; x < 96; x++)
        for (let y = 0; y < 96; y++)
          for (let c = 0; c < 3; c++) out[i * image + c * 9216 + x * 96 + y] = [x, y, first + i][c]!
    return out
  }
  const sizes = { train: 2, unlabelled: 3, test: 1 }
  const files = {
    'stl-10/train_X.bin': stored(0, 2),
    'stl-10/train_y.bin': Buffer.of(1, 10),
    'stl-10/unlabeled_X.bin': stored(100, 3),
    'stl-10/test_X.bin': stored(200, 1),
    'stl-10/test_y.bin': Buffer.of(7),
  }
  const open = (images: 'labelled' | 'unlabelled' | 'both', changes: object = {}) =>
    openStl10({ images }, sizes, memoryFiles({ ...files, ...changes }))

  it('is turned upright from the columns that it is stored in', async () => {
    const { train, test } = await open('labelled')
    const { data, labels } = await train.read([1])
    const pixel = (y: number, x: number) => [...data.subarray((y * 96 + x) * 3).subarray(0, 3)]
    expect([pixel(0, 0), pixel(5, 90), pixel(95, 1)]).toEqual([
      [0, 0, 1],
      [90, 5, 1],
      [1, 95, 1],
    ])
    expect([labels, (await test.read([0])).labels]).toEqual([Int32Array.of(9), Int32Array.of(6)])
  })

  it('trains on the labelled images, on the others, or on both', async () => {
    const blue = async (images: 'labelled' | 'unlabelled' | 'both', indices: number[]) => {
      const { train } = await open(images)
      const { data, labels } = await train.read(indices)
      return [train.size, ...indices.map((_, i) => data[i * image + 2]), ...labels!]
    }
    expect(await blue('unlabelled', [2, 0])).toEqual([3, 102, 100, -1, -1])
    expect(await blue('both', [4, 1, 2])).toEqual([5, 102, 1, 100, -1, 9, -1])
  })

  it('refuses files of another size and labels that there are not', async () => {
    expect(await refusal(open('both', { 'stl-10/unlabeled_X.bin': stored(100, 2) }))).toMatch(
      /unlabeled_X\.bin has 55296 bytes; 3 rows of 27648 take 82944: it is cut short/,
    )
    expect(await refusal(open('labelled', { 'stl-10/train_y.bin': Buffer.of(1, 2, 3) }))).toMatch(
      /has 3 labels; there are 2/,
    )
    expect(await refusal(open('labelled', { 'stl-10/train_y.bin': Buffer.of(0, 2) }))).toMatch(
      /gives image 0 the label 0; labels from 1 to 10 are right/,
    )
  })
})

describe('the MNIST family', () => {
  const idx = (shape: number[], fill: number) => {
    const header = Buffer.alloc(4 + 4 * shape.length)
    header.set([0, 0, 8, shape.length])
    for (const [i, side] of shape.entries()) header.writeUInt32BE(side, 4 + 4 * i)
    return Buffer.concat([
      header,
      Buffer.alloc(
        shape.reduce((product, side) => product * side, 1),
        fill,
      ),
    ])
  }
  const names = ['ti', 'tl', 'ei', 'el'].map((name) => `${name}.gz`)
  const tiny = defineMnist({
    name: 'tiny',
    title: 't',
    source: 's',
    size: { train: 2, test: 1 },
    classNames: ['0', '1'],
    files: [1584, 10, 800, 9].map((size, i) => ({ name: names[i]!, size })),
    cure: 'c',
  })
  const contents = [idx([2, 28, 28], 5), idx([2], 1), idx([1, 28, 28], 6), idx([1], 0)]
  const open = (which: number, content: Buffer) =>
    tiny.open(
      {},
      memoryFiles(
        Object.fromEntries(names.map((name, i) => [`tiny/${name}`, gzipSync(i === which ? content : contents[i]!)])),
      ),
    )

  it('is read from four files, known ones or others of the same size', async () => {
    const { train, test } = await open(0, contents[0]!)
    expect([(await train.read([1])).labels, (await test.read([0])).data[0]]).toEqual([Int32Array.of(1), 6])
  })

  it('refuses other shapes and labels that there are not', async () => {
    expect(await refusal(open(0, idx([2, 14, 56], 5)))).toBe(
      'tiny/ti.gz holds 2 x 14 x 56 numbers instead of 2 x 28 x 28',
    )
    expect(await refusal(open(1, idx([2], 2)))).toBe(
      'tiny/tl.gz gives image 0 the label 2; labels from 0 to 1 are right',
    )
    expect(await refusal(open(1, idx([3], 1)))).toBe('tiny/tl.gz unpacks to 11 bytes instead of 10')
  })
})

it('every published dataset is described from its known files alone', async () => {
  for (const name of ['mnist', 'kmnist', 'cifar-10', 'stl-10'] as const) {
    const sizes = Object.fromEntries(knownFiles[name].map((file) => [`${name}/${file.name}`, file.size]))
    const bytes = {
      ...memoryFiles({}),
      stat: async (path: string) => (sizes[path] ? { size: sizes[path] } : undefined),
    }
    const { size, classes } = await datasets[name].describe({ images: 'both' } as never, bytes)
    expect([name, size.train >= 50_000, classes]).toEqual([name, true, 10])
  }
})

it('a file of which only the sum as published is known is refused where it differs', () => {
  const file = knownFiles.kmnist.at(-1)!
  expect(() => verifyFile(file.name, gzipSync(Buffer.alloc(file.size)), file)).toThrow(
    /t10k-labels-idx1-ubyte\.gz is not the published file: md5 \w{32} instead of 7320c461ea6c1c855c0b718fb2a4b134/,
  )
  expect(() => verifyFile(file.name, gzipSync(Buffer.alloc(5)), file)).toThrow(/unpacks to 5 bytes instead of 10008/)
})
