import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterAll, describe, expect, it } from 'vitest'
import { openDatasetBytes } from '../../src/cli/dataset.ts'
import { addKnown, unpackArchive } from '../../src/cli/known-datasets.ts'
import type { Output } from '../../src/cli/output.ts'
import { stagedBytes } from '../../src/cli/staged-files.ts'
import { readConfig } from '../../src/config.ts'
import { arrays } from '../../src/data/arrays.ts'
import { tarEnd, tarEntry } from '../../src/data/tar.ts'
import { bytesOf, npy } from '../memory-files.ts'

const folder = mkdtempSync(join(tmpdir(), 'gestalt-known-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

function put(name: string, files: Record<string, Uint8Array>): string {
  const to = join(folder, name)
  mkdirSync(to)
  for (const [file, content] of Object.entries(files)) writeFileSync(join(to, file), content)
  return to
}

const homeOf = (name: string) => readConfig({ GESTALT_HOME: join(folder, name) })

/** What a person is told, and why it ended where it did. */
async function add(home: string, name: string, from: string) {
  const said: string[] = []
  const output: Output = {
    json: false,
    say: (line = '') => said.push(line),
    result: (value, words) => said.push(words(value)),
  }
  const error = await addKnown(homeOf(home), output, name, from).then(
    () => undefined,
    (thrown: unknown) => thrown as Error,
  )
  return { said, error: error?.message }
}

const images = (count: number) => npy('|u1', [count, 4, 4], new Uint8Array(count * 16).fill(9))

describe('adding arrays', () => {
  it('takes those of a folder, IDX ones unpacked, once they read as a dataset', async () => {
    const labels = Buffer.concat([Buffer.of(0, 0, 8, 1, 0, 0, 0, 3), Buffer.of(1, 0, 1)])
    const from = put('good', { 'train-images.npy': images(3), 'train-labels-idx1-ubyte.gz': gzipSync(labels) })
    expect(await add('home', 'arrays/mine', from)).toEqual({
      said: ['verified 3 training and 0 test images, 4 x 4 x 1, 2 classes', 'dataset arrays/mine is ready'],
      error: undefined,
    })
    const { train } = await arrays.open({ set: 'mine' }, openDatasetBytes(homeOf('home')))
    expect((await train.read([0, 1])).labels).toEqual(Int32Array.of(1, 0))
  })

  it('keeps nothing of those that do not read, or have no place', async () => {
    const nan = npy('<f4', [1, 4, 4], bytesOf(new Float32Array(16).fill(Number.NaN)))
    const from = put('bad', { 'train-images.npy': nan })
    expect((await add('other', 'arrays/mine', from)).error).toMatch(
      /arrays\/mine\/train-images\.npy holds NaN in image 0/,
    )
    expect((await add('other', 'arrays/My set', from)).error).toMatch(/is 'arrays\/My set'; small letters and digits/)
    expect((await add('other', 'arrays/mine', folder)).error).toMatch(/there is no readable .*train-images\.npy/)
    expect((await add('other', 'arrays/mine', 'http://127.0.0.1:1')).error).toMatch(/are added from a folder/)
    expect(existsSync(join(folder, 'other/objects'))).toBe(false)
  })
})

describe('adding published files', () => {
  it('refuses ones of another size or sum by name', async () => {
    const short = put('stl-short', { 'train_X.bin': new Uint8Array(5) })
    expect((await add('other', 'stl-10', short)).error).toBe('train_X.bin has 5 bytes instead of 138240000')
    expect((await add('other', 'stl-10', folder)).error).toMatch(/there is no readable .*train_X\.bin/)
    const archive = put('cifar', { 'cifar-10-binary.tar.gz': gzipSync(tarEnd) })
    expect((await add('other', 'cifar-10', archive)).error).toMatch(
      /cifar-10-binary\.tar\.gz is not the published file: md5/,
    )
  })

  it('takes them out of the archive that they come in, whatever else is in it', async () => {
    const tar = Buffer.concat([
      tarEntry('set/readme.html', Buffer.from('x')),
      tarEntry('set/a.bin', Buffer.from('abc')),
      tarEntry('set/b.bin', Buffer.from('de')),
      tarEnd,
    ])
    const bytes = gzipSync(tar)
    const archive = { name: 's.tar.gz', folder: 'set', md5: createHash('md5').update(bytes).digest('hex') }
    const files = [
      { name: 'b.bin', size: 2 },
      { name: 'a.bin', size: 3 },
    ]
    const staged = await unpackArchive(archive, files, { bytes })
    expect([...staged.keys()].sort()).toEqual(['a.bin', 'b.bin'])
    expect(Buffer.from(await stagedBytes(staged.get('b.bin')!)).toString()).toBe('de')
    const [first] = files
    await expect(unpackArchive(archive, [{ ...first!, size: 3 }], { bytes })).rejects.toThrow('b.bin has 2 bytes')
    await expect(unpackArchive(archive, [{ name: 'c', size: 1 }], { bytes })).rejects.toThrow('s.tar.gz holds no c')
    const short = gzipSync(tar.subarray(0, 1100))
    const md5 = createHash('md5').update(short).digest('hex')
    await expect(unpackArchive({ ...archive, md5 }, files, { bytes: short })).rejects.toThrow(/cut short/)
  })
})
