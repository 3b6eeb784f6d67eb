import { describe, expect, it } from 'vitest'
import { type Layout, readSamples, splitIn } from '../../src/data/set-samples.ts'
import { tarEntry } from '../../src/data/tar.ts'
import { inPieces, tarOf } from '../fixtures/pictures.ts'

const limits = { imageBytes: 2 ** 20, entries: 1000 }

async function samplesOf(stream: AsyncIterable<Uint8Array>, layout: Layout) {
  const found = []
  for await (const sample of readSamples('set.tar', stream, { layout, limits, passOver: () => {} })) found.push(sample)
  return found
}

/** The same file again and again, and how many were asked for. */
function endless(names: readonly string[], content: string) {
  const asked = { files: 0 }
  async function* stream() {
    for (;;) yield tarEntry(names[asked.files++ % names.length]!, Buffer.from(content))
  }
  return { asked, stream: stream() }
}

describe('the samples of an archive', () => {
  it('are of the split train where a folder or a key only sounds like a word of the language', async () => {
    for (const layout of ['folders', 'webdataset', 'flat', 'frames'] as const) {
      const files = tarOf({ 'constructor/a.png': 'x', 'toString/b.png': 'y' })
      const samples = await samplesOf(inPieces(files), layout)
      expect(samples.map(({ split }) => split)).toEqual(['train', 'train'])
      if (layout === 'folders') expect(samples.map(({ label }) => label)).toEqual(['constructor', 'toString'])
    }
    expect(splitIn('constructor-1.tar')).toBeUndefined()
    expect(splitIn('set-val-1.tar')).toBe('test')
  })

  it.each([
    ['a.png', 'a.jpg', /two images have the key 'a': a\.png and a\.jpg/],
    ['a.png', 'a.png', /holds two files called 'a\.png'/],
    ['a.json', 'a.json', /holds two files called 'a\.json'/],
  ])('are refused at the second of %s and %s, not when all of that key are in memory', async (one, other, reason) => {
    const { asked, stream } = endless([one, other], '{}')
    await expect(samplesOf(stream, 'webdataset')).rejects.toThrow(reason)
    expect(asked.files).toBeLessThanOrEqual(3)
  })
})
