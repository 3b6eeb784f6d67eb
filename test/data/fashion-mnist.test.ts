import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync, gzipSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import type { ByteSource } from '../../src/data/dataset.ts'
import { fashionMnist, fashionMnist12k } from '../../src/data/fashion-mnist.ts'
import { knownFiles, verifyFile } from '../../src/data/known-files.ts'
import { Damaged, NotFound } from '../../src/errors.ts'
import { folderBytes, shipped } from '../folder-bytes.ts'

const bytes = folderBytes(shipped)
const path = (name: string) => `fashion-mnist-12k/${name}`
const [, trainLabels] = knownFiles['fashion-mnist-12k']
const file = readFileSync(join(shipped, path(trainLabels.name)))

/** The shipped files with one of them put in another's place. */
function withFile(content: Uint8Array): ByteSource {
  return { ...bytes, read: async (wanted) => (wanted === path(trainLabels.name) ? content : bytes.read(wanted)) }
}

async function damage(content: Uint8Array): Promise<string> {
  const error = await fashionMnist12k.open({}, withFile(content)).catch((thrown: unknown) => thrown)
  expect(error).toBeInstanceOf(Damaged)
  return (error as Damaged).message
}

describe('the shipped Fashion-MNIST', () => {
  it('holds the first images of the published set, with known labels and pixels', async () => {
    const { train, test } = await fashionMnist12k.open({}, bytes)
    const read = await train.read([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    // The first labels of the published file, as its own documentation prints them.
    expect([...(read.labels ?? [])]).toEqual([9, 0, 0, 3, 0, 2, 7, 2, 5, 5])
    expect([...((await test.read([0, 1, 2, 3])).labels ?? [])]).toEqual([9, 2, 1, 1])
    expect(train.classNames?.[9]).toBe('Ankle boot')
    const all = await train.read(Int32Array.from({ length: train.size }, (_, i) => i))
    const mean = all.data.reduce((sum, byte) => sum + byte, 0) / all.data.length / 255
    // 0.2860 over the full training set.
    expect(mean).toBeCloseTo(0.286, 2)
  })

  it('says which file is missing and how to get it', async () => {
    const error = await fashionMnist.open({}, bytes).catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(NotFound)
    expect((error as NotFound).message).toMatch(/train-images-idx3-ubyte\.gz, train-labels/)
    expect((error as NotFound).cure).toMatch(/gestalt dataset add fashion-mnist --from DIR\|URL/)
    expect((error as NotFound).cure).toMatch(/dataset-fashion-mnist/)
  })

  it('names the damage of a file that is cut short, is none of its own or was altered', async () => {
    expect(await damage(file.subarray(0, 2000))).toMatch(/train-labels-idx1-ubyte\.gz .*cut short/)
    expect(await damage(Buffer.from('<html>not found</html>'))).toMatch(/not a gzip file/)
    const content = gunzipSync(file)
    expect(await damage(gzipSync(content.subarray(0, -1)))).toMatch(/10000 needs 10000 bytes, it has 9999/)
    const altered = Buffer.from(content)
    altered[100]! ^= 1
    expect(await damage(gzipSync(altered))).toMatch(/is not the published file: sha256/)
  })

  it('accepts the same content packed by another gzip', async () => {
    const repacked = gzipSync(gunzipSync(file), { level: 1 })
    expect(() => verifyFile(trainLabels.name, repacked, trainLabels)).not.toThrow()
    await expect(fashionMnist12k.open({}, withFile(repacked))).resolves.toBeDefined()
    expect(() => verifyFile('x', gzipSync(Buffer.alloc(5)), trainLabels)).toThrow(/unpacks to 5 bytes instead of 10008/)
  })
})
