import { beforeAll, describe, expect, it } from 'vitest'
import type { Corpus } from '../../../src/data/dataset.ts'
import { chooseEngine } from '../../../src/engine/choose.ts'
import { rollDice } from '../../../src/models/dice.ts'
import { clusterAgreement } from '../../../src/models/evaluations/cluster-agreement.ts'
import type { Learner } from '../../../src/models/method.ts'
import { npid } from '../../../src/models/methods/npid.ts'
import { tf } from '../../../src/tf.ts'
import { buildTiny, defaultsOf, tinyCorpus } from '../tiny.ts'

let corpus: Corpus

beforeAll(async () => {
  await chooseEngine('auto')
  corpus = await tinyCorpus(60, 40)
})

/** A learner that sees nothing but the class of an image: its place among those of the batch is looked up. */
function knowing(labels: Int32Array): Learner {
  const learner = buildTiny(npid, { dimension: 8 }, corpus).learner
  const encode: Learner['encode'] = (images) => {
    const rows = Array.from({ length: images.shape[0] }, (_, i) => [0, 1, 2, 3].map((c) => (labels[i] === c ? 1 : 0)))
    return { embed: tf.tensor2d(rows) }
  }
  return { ...learner, taps: { embed: [4] }, encode }
}

async function measure(
  given: Record<string, unknown>,
  build = () => buildTiny(npid, { dimension: 8 }, corpus).learner,
) {
  const learner = build()
  const shares: number[] = []
  try {
    const findings = await clusterAgreement.measure(
      { learner, untrained: () => buildTiny(npid, { dimension: 8 }, corpus, 9).learner, corpus },
      defaultsOf(clusterAgreement.parameters, given) as never,
      rollDice(1),
      { onProgress: (share) => void shares.push(share), stop: new AbortController().signal },
    )
    return { scores: findings.scores, tables: findings.tables!, shares }
  } finally {
    learner.dispose()
  }
}

describe('the agreement of clusters with labels', () => {
  it('is complete where the embedding is the class itself', async () => {
    const { labels } = await corpus.test.read(Int32Array.from({ length: 40 }, (_, i) => i))
    const { scores } = await measure({}, () => knowing(labels!))
    expect(scores).toMatchObject({ clusters: 4, accuracy: 1, adjustedRand: 1 })
    expect(scores.nmi).toBeCloseTo(1, 10)
    expect(scores.nmiArithmetic).toBeCloseTo(1, 10)
    expect(scores.untrained).toBeLessThan(1)
  })

  it('tells the accuracy only with as many clusters as classes, and the untrained net beside', async () => {
    const before = tf.memory().numTensors
    const { scores, tables, shares } = await measure({ k: 7, split: 'train', whiten: true })
    expect(scores).not.toHaveProperty('accuracy')
    expect(scores.clusters).toBe(7)
    expect(tables[0]!.columns).toEqual(['representation', 'nmi', 'nmiArithmetic', 'adjustedRand'])
    expect(tables[0]!.rows.map(([name]) => name)).toEqual(['trained', 'untrained'])
    expect(tables[0]!.rows[1]![1]).toBe(scores.untrained)
    expect(shares.at(-1)).toBe(1)
    expect([...shares].sort((a, b) => a - b)).toEqual(shares)
    expect(tf.memory().numTensors).toBe(before)
  })

  it('gives the same numbers from the same dice', async () => {
    expect((await measure({})).scores).toEqual((await measure({})).scores)
  })

  it('refuses more clusters than images at the door', () => {
    const check = (k: number | 'classes', split: 'train' | 'test') =>
      clusterAgreement.check!(defaultsOf(clusterAgreement.parameters, { k, split }) as never, {
        size: 60,
        testSize: 40,
        classes: 4,
        batchSize: 8,
      }).map(({ detail }) => detail)
    expect(check(61, 'train')).toEqual(['is 61; there are 60 training images, so it should be at most 60'])
    expect(check(41, 'test')).toEqual(['is 41; there are 40 test images, so it should be at most 40'])
    expect([...check(60, 'train'), ...check('classes', 'test')]).toEqual([])
  })
})
