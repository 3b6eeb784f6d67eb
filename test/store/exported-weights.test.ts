import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Damaged, InvalidDefinition } from '../../src/errors.ts'
import { nets } from '../../src/models/nets/index.ts'
import { arrange } from '../../src/models/weights/layout.ts'
import { applyMap } from '../../src/models/weights/name-map.ts'
import { presets } from '../../src/models/weights/presets.ts'
import { openDirectory } from '../../src/store/directory.ts'
import { exportWeights } from '../../src/store/exported-weights.ts'
import type { ObjectStore } from '../../src/store/objects.ts'
import { decodeSafetensors, encodeSafetensors } from '../../src/store/safetensors.ts'
import { readHeader, streamTensors, toFloats } from '../../src/store/tensor-stream.ts'
import { defaultsOf } from '../models/tiny.ts'

type Tensors = Parameters<typeof encodeSafetensors>[0]

let root: string
let objects: ObjectStore

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'gestalt-exported-'))
  objects = openDirectory({ root, secret: 's', publicUrl: 'http://localhost' })
})
afterAll(() => rm(root, { recursive: true, force: true }))

let seed = 0
const filled = (shape: readonly number[]): Tensors[string] => {
  const length = shape.reduce((a, b) => a * b, 1)
  return { dtype: 'F32', shape, data: Float32Array.from({ length }, (_, i) => i + 1000 * seed++) }
}

/** A checkpoint of a narrow residual net with a head and an optimiser's slot. */
function checkpoint(): Tensors {
  const parameters = defaultsOf(nets.resnet.parameters, { width: 2 })
  const { tensors } = nets.resnet.plan(parameters as never, [32, 32, 3])
  const own = { ...tensors, 'weights/head/weights': [16, 5], 'weights/head/bias': [5], 'optimizer/conv1/filter': [1] }
  return Object.fromEntries(Object.entries(own).map(([name, shape]) => [name, filled(shape)]))
}

async function put(tensors: Tensors) {
  const { key, size, sha256 } = await objects.put('checkpoint', Buffer.concat([...encodeSafetensors(tensors, {})]))
  return { key, size, fileSha256: sha256 }
}

async function collect(pieces: AsyncIterable<Uint8Array>) {
  const all: Uint8Array[] = []
  for await (const piece of pieces) all.push(piece)
  return decodeSafetensors(Buffer.concat(all), 'the export').tensors
}

describe('weights that are taken along', () => {
  it("have another program's names and layouts, and come back as they were", async () => {
    const kept = checkpoint()
    const naming = { preset: 'torchvision-resnet18', classifies: true }
    const theirs = await collect(await exportWeights(objects, await put(kept), naming, {}))
    expect(theirs['conv1.weight']!.shape).toEqual([2, 3, 7, 7])
    expect(theirs['fc.weight']!.shape).toEqual([5, 16])
    const { mapped, faults } = applyMap(presets['torchvision-resnet18']!, theirs)
    expect(faults).toEqual([])
    expect(mapped).toHaveLength(Object.keys(kept).length - 1)
    for (const entry of mapped) {
      const { shape, data } = theirs[entry.from]!
      expect(arrange(entry, shape, data as Float32Array), entry.to).toEqual(kept[entry.to]!.data)
    }
  })

  it('have no head where none tells classes apart, and are refused where the net is another', async () => {
    const stored = await put(checkpoint())
    const without = { preset: 'torchvision-resnet18', classifies: false }
    expect(Object.keys(await collect(await exportWeights(objects, stored, without, {})))).not.toContain('fc.weight')
    const other = exportWeights(objects, stored, { preset: 'torchvision-resnet50', classifies: true }, {})
    await expect(other).rejects.toThrow(InvalidDefinition)
  })

  it('are their average where one was kept', async () => {
    const tensors = {
      'weights/a': filled([2]),
      'weights/b': filled([2]),
      'average/a': filled([2]),
      'memory/m': filled([1]),
    }
    const naming = { preset: undefined, classifies: false }
    const exported = await collect(await exportWeights(objects, await put(tensors), naming, {}))
    expect(Object.keys(exported).sort()).toEqual(['memory/m', 'weights/a', 'weights/b'])
    expect(exported['weights/a']!.data).toEqual(tensors['average/a'].data)
  })
})

describe('a stored file of tensors', () => {
  it('is read as 32-bit floats, whatever floats it holds', () => {
    const bytes = (array: { buffer: ArrayBufferLike }) => Buffer.from(array.buffer)
    const read = (dtype: string, array: { buffer: ArrayBufferLike }) => [
      ...toFloats({ name: 'x', dtype }, bytes(array)),
    ]
    expect(read('F16', Uint16Array.of(0x3c00, 0xc100, 0x0001, 0x7c00))).toEqual([
      1,
      -2.5,
      2 ** -24,
      Number.POSITIVE_INFINITY,
    ])
    expect(read('BF16', Uint16Array.of(0x3f80, 0xc020, 0x7fc0))).toEqual([1, -2.5, Number.NaN])
    expect(read('F64', Float64Array.of(0.5, -3))).toEqual([0.5, -3])
    expect(() => read('I32', Int32Array.of(1))).toThrow(InvalidDefinition)
  })

  it('is Damaged where it is not what was stored', async () => {
    const stored = await put({ a: filled([2]) })
    const read = async (fileSha256: string) => {
      for await (const _ of streamTensors(objects, { ...stored, fileSha256 }, () => true));
    }
    await read(stored.fileSha256)
    await expect(read('0'.repeat(64))).rejects.toThrow(Damaged)
  })

  it.each([
    ['ends within its header', Buffer.from([255, 0, 0, 0, 0, 0, 0, 0, 123]), /no header/],
    ['has a header without end', Buffer.alloc(16, 255), /no header/],
    ['has no JSON', Buffer.from([1, 0, 0, 0, 0, 0, 0, 0, 123]), /no JSON/],
    ['is empty', Buffer.alloc(0), /no header/],
  ])('has no header where it %s', async (_, bytes, why) => {
    const { key, size } = await objects.put('odd', bytes)
    expect(await readHeader(objects, key, size)).toMatch(why)
  })
})
