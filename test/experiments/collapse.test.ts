import { beforeAll, describe, expect, it } from 'vitest'
import { chooseEngine } from '../../src/engine/choose.ts'
import { parseDefinition } from '../../src/experiments/definition.ts'
import { createMemoryContext, memoryBytes } from '../../src/experiments/memory-context.ts'
import { perform } from '../../src/experiments/perform.ts'
import { npy } from '../memory-files.ts'

beforeAll(async () => {
  await chooseEngine('cpu', { threads: 1 })
})

const warningsOf = async (pixels: Uint8Array, method = 'raw-pixels') => {
  const images = npy('|u1', [12, 8, 8], pixels)
  const files = { 'arrays/same/train-images.npy': images, 'arrays/same/test-images.npy': images }
  const context = createMemoryContext(memoryBytes(files))
  const definition = parseDefinition({
    version: 1,
    name: 'collapse',
    dataset: { name: 'arrays', set: 'same' },
    net: { name: 'small', widths: [4] },
    method: { name: method },
    training: { batchSize: 4 },
  })
  expect(await perform(definition, context)).toBe('succeeded')
  return context.recorded.log.filter(({ level }) => level === 'warn').map(({ text }) => text)
}

describe('embeddings that tell no image from another', () => {
  it('are reported as a collapse, in both splits', async () => {
    const warnings = await warningsOf(new Uint8Array(12 * 64).fill(7))
    expect(warnings).toHaveLength(2)
    expect(warnings[0]).toMatch(/^collapse: the embeddings of all 12 train images are the same; see whether/)
  })

  it('are reported where most are all zeros', async () => {
    const some = new Uint8Array(12 * 64)
    some.fill(9, 0, 64 * 4 - 5)
    expect((await warningsOf(some, 'untrained'))[0]).toMatch(
      /^collapse: the embeddings of 8 of 12 train images are all zeros/,
    )
  })

  it('are not reported where images differ', async () => {
    expect(await warningsOf(Uint8Array.from({ length: 12 * 64 }, (_, i) => i % 251))).toEqual([])
  })
})
