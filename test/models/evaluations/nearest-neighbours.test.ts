import { beforeAll, describe, expect, it } from 'vitest'
import type { Corpus, Dataset } from '../../../src/data/dataset.ts'
import { toUnit } from '../../../src/data/pixels.ts'
import { chooseEngine } from '../../../src/engine/choose.ts'
import { rollDice } from '../../../src/models/dice.ts'
import { encodeAll } from '../../../src/models/encoding.ts'
import { nearestNeighbours } from '../../../src/models/evaluations/nearest-neighbours.ts'
import { npid } from '../../../src/models/methods/npid.ts'
import { tf } from '../../../src/tf.ts'
import { buildTiny, tinyCorpus } from '../tiny.ts'

let corpus: Corpus

beforeAll(async () => {
  await chooseEngine('auto')
  corpus = await tinyCorpus(60, 24)
})

const build = (seed: number) => buildTiny(npid, { dimension: 8 }, corpus, seed).learner

async function measure(k: number[], stop = new AbortController().signal, images = corpus, floors = true) {
  const learner = build(1)
  const shares: number[] = []
  try {
    const findings = await nearestNeighbours.measure(
      { learner, untrained: () => build(2), corpus: images },
      { k, temperature: 0.1, floors },
      rollDice(1),
      { onProgress: (share) => void shares.push(share), stop },
    )
    return { findings, shares }
  } finally {
    learner.dispose()
  }
}

async function readAll(dataset: Dataset) {
  const pixels = await dataset.read(Int32Array.from({ length: dataset.size }, (_, i) => i))
  return { rows: toUnit(pixels.data), labels: pixels.labels! }
}

/** Weighted kNN by sorting, in a few lines. */
function reference(train: Float32Array, test: Float32Array, width: number, k: number, labels: Int32Array[]): number {
  const row = (data: Float32Array, i: number) => data.subarray(i * width, (i + 1) * width)
  let right = 0
  for (let q = 0; q < test.length / width; q++) {
    const cosines = Array.from({ length: train.length / width }, (_, i) => {
      const [a, b] = [row(test, q), row(train, i)]
      const dot = a.reduce((sum, value, c) => sum + value * b[c]!, 0)
      return { label: labels[0]![i]!, s: dot / (Math.hypot(...a) * Math.hypot(...b)) }
    })
    const votes = [0, 0, 0, 0]
    for (const { label, s } of cosines.sort((a, b) => b.s - a.s).slice(0, k)) votes[label]! += Math.exp(s / 0.1)
    if (votes.indexOf(Math.max(...votes)) === labels[1]![q]) right++
  }
  return right / (test.length / width)
}

describe('the evaluation by nearest neighbours', () => {
  it('finds the accuracies that sorting all cosines finds', async () => {
    const { findings } = await measure([1, 5])
    const learner = build(1)
    const [train, test] = [await readAll(corpus.train), await readAll(corpus.test)]
    const labels = [train.labels, test.labels]
    const [a, b] = [await encodeAll(learner, corpus.train, ['embed']), await encodeAll(learner, corpus.test, ['embed'])]
    learner.dispose()
    const expected = (k: number) => reference(a.embed!, b.embed!, 8, k, labels)
    expect(findings.scores['accuracy@1']).toBe(expected(1))
    expect(findings.scores['accuracy@5']).toBe(expected(5))
    expect(findings.scores.best).toBe(Math.max(expected(1), expected(5)))
    const [header, ...rows] = [findings.tables![0]!.columns, ...findings.tables![0]!.rows]
    expect(header).toEqual(['representation', 'k = 1', 'k = 5'])
    expect(rows[1]).toEqual([
      'raw pixels',
      reference(train.rows, test.rows, 144, 1, labels),
      reference(train.rows, test.rows, 144, 5, labels),
    ])
  })

  it('counts k = 200 where it is asked for, the largest k otherwise, and the higher floor of each kind', async () => {
    const { findings } = await measure([5, 1000, 200])
    const { scores, tables } = findings
    expect(tables![0]!.columns).toEqual(['representation', 'k = 5', 'k = 200', 'k = 1000'])
    expect(scores.accuracy).toBe(scores['accuracy@200'])
    const rows = tables![0]!.rows
    const highest = (start: string, columns: number[]) =>
      Math.max(
        ...rows.filter(([name]) => String(name).startsWith(start)).flatMap((row) => columns.map((c) => Number(row[c]))),
      )
    expect(scores.rawPixels).toBe(highest('raw pixels', [2]))
    expect(scores.rawPixelsBest).toBe(highest('raw pixels', [1, 2, 3]))
    expect(scores.untrained).toBe(highest('untrained', [2]))
    expect(scores.untrainedBest).toBe(highest('untrained', [1, 2, 3]))
    expect(rows.filter(([name]) => String(name).startsWith('untrained')).length).toBeGreaterThan(2)
    const largest = await measure([5, 7])
    expect(largest.findings.scores.accuracy).toBe(largest.findings.scores['accuracy@7'])
  })

  it('finds the same without floors, which are left out then', async () => {
    const whole = await measure([1, 5])
    const { findings, shares } = await measure([1, 5], undefined, corpus, false)
    expect(Object.keys(findings.scores).filter((name) => /raw|untrained/.test(name))).toEqual([])
    expect(whole.findings.scores).toMatchObject(findings.scores)
    expect(findings.tables![0]!.rows).toEqual(whole.findings.tables![0]!.rows.slice(0, 1))
    expect(shares.at(-1)).toBeCloseTo(1, 6)
  })

  it('takes more neighbours than there are images for all of them', async () => {
    const { findings } = await measure([60, 100_000])
    expect(findings.scores['accuracy@100000']).toBe(findings.scores['accuracy@60'])
  })

  it('asks no image without a label, neither how to vote nor what it is', async () => {
    const labelled = { train: (index: number) => index % 3 !== 0, test: (index: number) => index % 2 === 0 }
    const hide = (dataset: Dataset): Dataset => ({
      ...dataset,
      read: async (indices) => {
        const pixels = await dataset.read(indices)
        const keeps = labelled[dataset.split]
        return { ...pixels, labels: pixels.labels!.map((label, i) => (keeps(indices[i]!) ? label : -1)) }
      },
    })
    const keep = (dataset: Dataset): Dataset => {
      const places = Array.from({ length: dataset.size }, (_, i) => i).filter(labelled[dataset.split])
      return {
        ...dataset,
        size: places.length,
        read: (indices) => dataset.read(Array.from(indices, (i) => places[i]!)),
      }
    }
    const stop = new AbortController().signal
    const hidden = await measure([1, 5, 100], stop, { train: hide(corpus.train), test: hide(corpus.test) })
    const kept = await measure([1, 5, 100], stop, { train: keep(corpus.train), test: keep(corpus.test) })
    const own = ({ findings }: typeof kept) =>
      Object.entries(findings.scores).filter(([name]) => name.startsWith('accuracy') || name === 'best')
    expect(own(hidden)).toEqual(own(kept))
  })

  it('tells its progress from 0 to 1, stops when it is asked to, and leaves no tensor', async () => {
    const before = tf.memory().numTensors
    const { shares } = await measure([1])
    expect(shares).toEqual([...shares].sort((a, b) => a - b))
    expect(shares.at(-1)).toBeCloseTo(1, 6)
    await expect(measure([1], AbortSignal.abort(new Error('enough')))).rejects.toThrow('enough')
    expect(tf.memory().numTensors).toBe(before)
  })
})
