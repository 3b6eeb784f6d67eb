import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { chooseEngine } from '../../src/engine/choose.ts'
import { parseDefinition } from '../../src/experiments/definition.ts'
import { createMemoryContext } from '../../src/experiments/memory-context.ts'
import { perform } from '../../src/experiments/perform.ts'
import { datasetBytes } from '../../src/store/dataset-bytes.ts'
import { openDirectory } from '../../src/store/directory.ts'
import { folders, putSet } from '../fixtures/pictures.ts'

const root = mkdtempSync(join(tmpdir(), 'gestalt-trained-'))
const objects = openDirectory({ root, secret: 'secret', publicUrl: 'http://127.0.0.1' })
beforeAll(async () => {
  await chooseEngine('auto')
  await putSet(objects, 'birds', {
    ...(await folders(['owl', 'jay'], 16, 'train/')),
    ...(await folders(['owl', 'jay'], 4, 'val/')),
  })
})
afterAll(() => rmSync(root, { recursive: true, force: true }))

it('trains on a registered set, measures it and exports its embeddings with their labels', async () => {
  const definition = parseDefinition({
    version: 1,
    name: 'birds',
    dataset: { name: 'images', set: 'birds', side: 8 },
    net: { name: 'small', widths: [4, 4] },
    method: { name: 'npid', dimension: 8 },
    training: { epochs: 2, batchSize: 8, optimizer: { name: 'sgd', learningRate: 0.02 } },
    evaluations: [{ name: 'nearest-neighbours', k: [1] }],
  })
  const context = createMemoryContext(datasetBytes(objects, []))
  expect(await perform(definition, context)).toBe('succeeded')
  const { findings, embeddings } = context.recorded
  expect(Object.keys(findings[0]!.findings.scores).length).toBeGreaterThan(0)
  const labels = [...embeddings.values()].map(({ meta }) => [...meta.labels!])
  expect(labels.map((given) => given.length).sort()).toEqual([32, 8])
  for (const given of labels) expect(new Set(given)).toEqual(new Set([0, 1]))
})
