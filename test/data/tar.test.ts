import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readTar, tarEnd, tarEntry } from '../../src/data/tar.ts'
import { inPieces, tarOf } from '../fixtures/pictures.ts'

const limits = { entries: 100, fileBytes: 5000 }
const long = `${'deep/'.repeat(40)}${'n'.repeat(120)}.png`
let folder: string

/** What GNU tar packs of the folder. */
function pack(...args: string[]): Buffer {
  return execFileSync('tar', ['-C', folder, '-cf', '-', ...args])
}

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'gestalt-tar-'))
  mkdirSync(join(folder, long, '..'), { recursive: true })
  writeFileSync(join(folder, long), 'long')
  writeFileSync(join(folder, 'a.txt'), 'first')
  writeFileSync(join(folder, 'ü.txt'), 'x'.repeat(1024))
  writeFileSync(join(folder, 'empty'), '')
  symlinkSync('/etc/passwd', join(folder, 'link'))
  writeFileSync(join(folder, 'sparse'), '')
  truncateSync(join(folder, 'sparse'), 10_000_000)
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

async function list(bytes: Uint8Array, pieces = 777) {
  const found: { name: string; content: string; offset: number }[] = []
  for await (const file of readTar('a.tar', inPieces(bytes, pieces), limits))
    found.push({ name: file.name, offset: file.offset, content: Buffer.from(await file.read()).toString() })
  return found
}

describe('a tar archive', () => {
  it.each(['gnu', 'pax', 'ustar', 'posix'])('of the form %s gives its files with their places', async (format) => {
    const names = format === 'ustar' ? ['a.txt', 'ü.txt', 'empty', '.'] : ['a.txt', 'ü.txt', 'empty', './deep']
    const archive = pack(`--format=${format}`, ...(format === 'ustar' ? names.slice(0, 3) : names))
    for (const pieces of [100, 512, 1_000_000]) {
      const files = await list(archive, pieces)
      expect(files.slice(0, 3).map(({ name, content }) => [name, content.length])).toEqual([
        ['a.txt', 5],
        ['ü.txt', 1024],
        ['empty', 0],
      ])
      if (format !== 'ustar') expect(files.at(-1)).toMatchObject({ name: long, content: 'long' })
      for (const { offset, content } of files)
        expect(archive.subarray(offset, offset + content.length).toString()).toBe(content)
    }
  })

  it('that is written here is read by tar, long names included', () => {
    const files = { 'a/b.txt': 'one', [long]: 'two', 'c.bin': 'x'.repeat(513) }
    const listed = execFileSync('tar', ['-tvf', '-'], { input: tarOf(files) }).toString()
    for (const [name, content] of Object.entries(files))
      expect(listed).toMatch(new RegExp(` ${content.length} .* ${name}`))
  })

  it('passes over what nobody reads', async () => {
    const names = []
    for await (const { name } of readTar('a.tar', inPieces(pack('a.txt', 'ü.txt', 'empty')), limits)) names.push(name)
    expect(names).toEqual(['a.txt', 'ü.txt', 'empty'])
  })
})

describe('a bad archive', () => {
  const refused = async (bytes: Uint8Array) =>
    list(bytes).then(
      () => 'nothing was wrong',
      (error: Error) => `${error.name}: ${error.message}`,
    )
  const renamed = (name: string) => Buffer.concat([tarEntry(name, Buffer.from('x')), tarEnd])

  it('is refused where it is cut short, anywhere', async () => {
    const whole = pack('a.txt', 'ü.txt')
    const end = whole.indexOf(Buffer.alloc(1024), 2000)
    for (const length of [0, 100, 511, 512, 515, 1024, 1800, end])
      expect(await refused(whole.subarray(0, length))).toMatch(/Damaged: a\.tar is cut short at byte/)
  })

  it.each([
    ['../up.txt', /'\.\.\/up\.txt', which lies outside/],
    ['/etc/passwd', /outside/],
    ['a/../../b', /outside/],
    ['a\\b', /outside/],
  ])('is refused with the name %s', async (name, reason) => {
    expect(await refused(renamed(name))).toMatch(reason)
  })

  it('is refused with links, sparse files, and what is no archive', async () => {
    expect(await refused(pack('link'))).toMatch(/holds a symbolic link, 'link'/)
    for (const format of ['gnu', 'posix'])
      expect(await refused(pack(`--format=${format}`, '-S', 'sparse'))).toMatch(/holds a sparse file/)
    expect(await refused(Buffer.alloc(2000, 'x'))).toMatch(/is no tar archive at byte 0/)
    expect(await refused(execFileSync('gzip', ['-c'], { input: pack('a.txt') }))).toMatch(/is compressed/)
    expect(await refused(Buffer.concat([tarOf({ a: 'a' }), tarOf({ b: 'b' })]))).toMatch(/goes on behind its end mark/)
  })

  it('is refused where it is a bomb: too many entries, a file too large, a name without end', async () => {
    const many = Buffer.concat([...Array.from({ length: 101 }, (_, i) => tarEntry(`${i}`, Buffer.alloc(0))), tarEnd])
    expect(await refused(many)).toMatch(/more than 100 entries/)
    expect(
      await refused(
        renamed('large')
          .fill(0)
          .fill(tarEntry('large', Buffer.alloc(6000)), 0),
      ),
    ).toMatch(/6000 bytes; at most 5000/)
    const header = tarEntry('x'.repeat(150), Buffer.from('x')).subarray(0, 512)
    header.write('77777777777', 124, 'latin1')
    header.fill(' ', 148, 156)
    header.write(
      `${header
        .reduce((sum, byte) => sum + byte, 0)
        .toString(8)
        .padStart(6, '0')}\0 `,
      148,
      'latin1',
    )
    expect(await refused(header)).toMatch(/a name of 8589934591 bytes/)
  })
})
