import { describe, expect, it } from 'vitest'
import { arrays } from '../../src/data/arrays.ts'
import { datasets } from '../../src/data/index.ts'
import { openRows, planRanges } from '../../src/data/row-file.ts'
import { Damaged, InvalidDefinition, NotFound } from '../../src/errors.ts'
import { bytesOf, memoryFiles, npy } from '../memory-files.ts'

const place = (name: string) => `arrays/mine/${name}`
const pixels = (length: number) => Uint8Array.from({ length }, (_, i) => (i * 37) % 256)

const good = {
  [place('train-images.npy')]: npy('|u1', [5, 4, 6, 3], pixels(360)),
  [place('train-labels.npy')]: npy('<i8', [5], bytesOf(BigInt64Array.of(2n, 0n, -1n, 1n, 2n))),
  [place('test-images.npy')]: npy('|u1', [2, 4, 6, 3], pixels(144)),
  [place('test-labels.npy')]: npy('|u1', [2], Uint8Array.of(0, 3)),
}

const open = (files: Record<string, Uint8Array>) => arrays.open({ set: 'mine' }, memoryFiles(files))

/** What is said of a set in which some files are others. */
async function refusal(changes: Record<string, Uint8Array | undefined>): Promise<string> {
  const files = Object.fromEntries(
    Object.entries({ ...good, ...changes }).filter((entry): entry is [string, Uint8Array] => entry[1] !== undefined),
  )
  const error = await open(files).then(
    () => undefined,
    (thrown: unknown) => thrown as Damaged,
  )
  expect(error).toBeInstanceOf(Damaged)
  return `${error!.message}; ${error!.cure}`
}

describe('arrays of images', () => {
  it('are read as they lie, with their labels and as many classes as those name', async () => {
    const description = await arrays.describe({ set: 'mine', limit: 4 }, memoryFiles(good))
    expect(description).toMatchObject({ imageShape: [4, 6, 3], classes: 4, size: { train: 4, test: 2 } })
    const { train, test } = await open(good)
    const read = await train.read([4, 0])
    expect(read.data).toEqual(Uint8Array.from([...pixels(360).subarray(288), ...pixels(72)]))
    expect(read.labels).toEqual(Int32Array.of(2, 2))
    expect(await train.labels!()).toEqual(Int32Array.of(2, 0, -1, 1, 2))
    expect((await test.read([1])).labels).toEqual(Int32Array.of(3))
  })

  it('may be floats from 0 to 1, grey without a side of one, and without labels', async () => {
    const floats = Float32Array.from({ length: 32 }, (_, i) => i / 31)
    const doubles = Float64Array.from({ length: 16 }, () => 0.5)
    const { train, test } = await open({
      [place('train-images.npy')]: npy('<f4', [2, 4, 4], bytesOf(floats)),
      [place('test-images.npy')]: npy('<f8', [1, 4, 4, 1], bytesOf(doubles)),
    })
    expect([train.imageShape, train.classes]).toEqual([[4, 4, 1], 0])
    const read = await train.read([0, 1])
    expect(read.data).toEqual(Uint8Array.from(floats, (value) => Math.round(value * 255)))
    expect(read).not.toHaveProperty('labels')
    expect([...new Set((await test.read([0])).data)]).toEqual([128])
  })

  it('may be the files of MNIST, unpacked', async () => {
    const idx = (shape: number[], data: Uint8Array) => {
      const header = Buffer.alloc(4 + 4 * shape.length)
      header.set([0, 0, 8, shape.length])
      for (const [i, side] of shape.entries()) header.writeUInt32BE(side, 4 + 4 * i)
      return Buffer.concat([header, data])
    }
    const { train } = await open({
      [place('train-images-idx3-ubyte')]: idx([3, 4, 4], pixels(48)),
      [place('train-labels-idx1-ubyte')]: idx([3], Uint8Array.of(1, 0, 1)),
      [place('t10k-images-idx3-ubyte')]: idx([1, 4, 4], pixels(16)),
    })
    const read = await train.read([2])
    expect([read.data, read.labels]).toEqual([pixels(48).subarray(32), Int32Array.of(1)])
  })

  it('without test images need some that are held out', async () => {
    const [source, bytes] = [
      datasets.arrays,
      memoryFiles({ [place('train-images.npy')]: good[place('train-images.npy')]! }),
    ]
    const error = await source.describe({ set: 'mine' }, bytes).catch((thrown: unknown) => thrown)
    expect((error as InvalidDefinition).faults).toEqual([
      {
        pointer: '/holdOut',
        detail: 'is missing: there are no test images, so some of the training images must stand in for them',
      },
    ])
    const { train, test } = await source.open({ set: 'mine', holdOut: 2 }, bytes)
    expect([train.size, test.size]).toEqual([3, 2])
  })

  it('that are not there are told with how to add them', async () => {
    const error = await open({}).catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(NotFound)
    expect((error as NotFound).cure).toMatch(/gestalt dataset add arrays\/mine --from DIR/)
    await expect(arrays.describe({ set: 'mine', limit: 6 }, memoryFiles(good))).rejects.toBeInstanceOf(
      InvalidDefinition,
    )
  })
})

describe('a bad array', () => {
  const images = place('train-images.npy')
  const labels = place('train-labels.npy')
  const file = good[images]!

  it('of another dtype or order is refused with what to save', async () => {
    const of = (dtype: string, size: number, order?: string) =>
      refusal({ [images]: npy(dtype, [5, 4, 6, 3], new Uint8Array(360 * size), order) })
    expect(await of('<u2', 2)).toMatch(/dtype '<u2'; images are bytes .*; save \(array \/ 257\)\.round\(\)/)
    expect(await of('|b1', 1)).toMatch(/save array\.astype\(numpy\.uint8\) \* 255 instead/)
    expect(await of('>f4', 4)).toMatch(/save array\.astype\('<f4'\) instead/)
    expect(await of('<c8', 8)).toMatch(/save array\.astype\(numpy\.uint8\) instead/)
    expect(await of('|u1', 1, 'True')).toMatch(/column by column .*; save numpy\.ascontiguousarray\(array\) instead/)
    const structured = npy('|u1', [5], new Uint8Array(5))
    const text = structured.toString('latin1').replace("'|u1'", "[('a', '|u1')]")
    expect(await refusal({ [images]: Buffer.from(text, 'latin1') })).toMatch(/does not name a plain dtype/)
  })

  it('with numbers that are none, or outside [0, 1], is refused with the image they are in', async () => {
    const floats = new Float32Array(360)
    floats[100] = Number.NaN
    expect(await refusal({ [images]: npy('<f4', [5, 4, 6, 3], bytesOf(floats)) })).toMatch(
      /holds NaN in image 1; .*correct or leave out the images with NaN/,
    )
    floats[100] = 0
    floats[359] = 255
    expect(await refusal({ [images]: npy('<f4', [5, 4, 6, 3], bytesOf(floats)) })).toMatch(
      /holds 255 in image 4; floats are read from 0 to 1; bring them to \[0, 1\], or save bytes/,
    )
  })

  it('of a shape that images have not is refused with the right one', async () => {
    const of = (shape: number[]) =>
      refusal({ [images]: npy('|u1', shape, new Uint8Array(shape.reduce((product, side) => product * side, 1))) })
    expect(await of([5, 72])).toMatch(/has 2 dimensions \(5 x 72\); images are \[n, height, width\]/)
    expect(await of([5, 3, 4, 6])).toMatch(/5 x 3 x 4 x 6: 6 channels; .*transpose\(0, 2, 3, 1\)/)
    expect(await of([5, 8, 8, 4])).toMatch(/4 channels; .*choose 1 or 3 of them/)
    expect(await of([0, 4, 6, 3])).toMatch(/holds no images/)
    expect(await of([5, 2, 6, 3])).toMatch(/sides from 4 to 1024/)
    expect(await of([5, 8, 6, 3])).toMatch(/the test images of 'mine' are 4 x 6 x 3, those for training 8 x 6 x 3/)
  })

  it('that is cut short, too long or something else is refused by name', async () => {
    expect(await refusal({ [images]: file.subarray(0, -1) })).toMatch(
      /arrays\/mine\/train-images\.npy has 487 bytes; 5 rows of 72 after 128 take 488: it is cut short/,
    )
    expect(await refusal({ [images]: Buffer.concat([file, Buffer.of(0)]) })).toMatch(/it is too long/)
    expect(await refusal({ [images]: file.subarray(0, 8) })).toMatch(/8 bytes do not hold a \.npy header/)
    expect(await refusal({ [images]: file.subarray(0, 60) })).toMatch(/60 bytes do not hold its header/)
    expect(await refusal({ [images]: Buffer.from('<html>') })).toMatch(/starts with 3c68746d, which is neither/)
    expect(await refusal({ [images]: Buffer.alloc(0) })).toMatch(/starts with nothing/)
    const newer = Buffer.from(file)
    newer[6] = 9
    expect(await refusal({ [images]: newer })).toMatch(/has version 9 of the \.npy format; 1 to 3 are read/)
  })

  it('of labels is refused where they are none, too many or no whole numbers', async () => {
    const of = (values: number[]) =>
      refusal({ [labels]: npy('<i4', [values.length], bytesOf(Int32Array.from(values))) })
    expect(await of([0, 1, -2, 0, 0])).toMatch(/gives image 2 the label -2; labels from 0 to 999999, or -1 for none/)
    expect(await of([0, 1, 2, 0, 1_000_000])).toMatch(/gives image 4 the label 1000000/)
    expect(await of([0, 1, 2])).toMatch(/is 3; there are 5 images, so \[5\] would be right/)
    expect(await refusal({ [labels]: npy('<f4', [5], bytesOf(new Float32Array(5))) })).toMatch(
      /dtype '<f4'; labels are whole numbers; save array\.astype\(numpy\.int64\) instead/,
    )
  })
})

describe('rows of a large file', () => {
  it('are read in ranges, neighbours together and each once', async () => {
    expect(planRanges([5, 3, 200, 4, 3], 1000).map(({ first, end }) => [first, end])).toEqual([
      [3, 6],
      [200, 201],
    ])
    const reads: string[] = []
    const rowBytes = 300 * 2 ** 20
    const file = { path: 'f', header: 2, rowBytes, rows: 2 }
    const sparse = {
      stat: async () => ({ size: 2 + 2 * rowBytes }),
      read: async (path: string, range?: { start: number; end: number }) => {
        reads.push(`${path} ${range?.start}-${range?.end}`)
        return Uint8Array.from({ length: 1 })
      },
    }
    const rows = await openRows(file, sparse)
    await expect(rows([1])).rejects.toThrow(`f ends at byte ${2 + rowBytes + 1}`)
    expect(reads).toEqual([`f ${2 + rowBytes}-${2 + 2 * rowBytes}`])
  })
})
