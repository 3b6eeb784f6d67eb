import { describe, expect, it } from 'vitest'
import { parseDefinition } from '../../src/experiments/definition.ts'
import { checkExpected, compareExpected } from '../../src/experiments/expected.ts'
import { trainingFingerprint } from '../../src/experiments/fingerprint.ts'

const source = 'a paper, table 1'
const findings = [
  { evaluation: 'nearest-neighbours', scores: { accuracy: 0.85 } },
  { evaluation: 'nearest-neighbours', scores: { accuracy: 0.1 } },
]
const curves = [
  { name: 'loss', points: [{ value: 1 }, { value: 3 }] },
  { name: 'broken', points: [{ value: 1 }, { value: Number.NaN }] },
]

describe('what a definition expects', () => {
  it('is held against the first evaluation of its name, and against the mean of a curve', () => {
    const compared = compareExpected(
      [
        { of: 'nearest-neighbours/accuracy', value: 0.84, tolerance: 0.01, source },
        { of: 'nearest-neighbours/accuracy', value: 0.8, tolerance: 0.01, source },
        { of: 'metrics/loss', value: 2.5, tolerance: 0.5, source },
        { of: 'metrics/loss', value: 2.5, source },
      ],
      findings,
      curves,
    )
    expect(compared.map(({ measured, met }) => [measured, met])).toEqual([
      [0.85, true],
      [0.85, false],
      [2, true],
      [2, null],
    ])
  })

  it('is not known where there is no such score, and then neither met nor missed', () => {
    const unknown = ['nearest-neighbours/other', 'classification/top1', 'metrics/nmi', 'metrics/broken']
    const compared = compareExpected(
      unknown.map((of) => ({ of, value: 1, tolerance: 9, source })),
      findings,
      curves,
    )
    expect(compared.map(({ measured, met }) => [measured, met])).toEqual(unknown.map(() => [null, null]))
  })

  it('is refused where it is judged by an evaluation that is not asked for, but may be shown', () => {
    const expected = ['metrics/loss', 'nearest-neighbours/accuracy', 'nearest-neighbors/accuracy'].map((of) => ({
      of,
      value: 1,
      tolerance: 1,
      source,
    }))
    expect(checkExpected([{ of: 'linear-probe/conv3', value: 0.4, source }], [])).toEqual([])
    expect(checkExpected(expected, [{ name: 'nearest-neighbours' }])).toEqual([
      {
        pointer: '/expected/2/of',
        detail: "is of 'nearest-neighbors'; this definition has: metrics, nearest-neighbours",
      },
    ])
  })

  it('changes nothing of the training', () => {
    const plain = {
      version: 1,
      name: 'a',
      dataset: { name: 'shapes' },
      net: { name: 'small' },
      method: { name: 'npid' },
      training: {},
    }
    const expected = [{ of: 'metrics/loss', value: 1, source }]
    expect(trainingFingerprint(parseDefinition({ ...plain, expected }))).toBe(
      trainingFingerprint(parseDefinition(plain)),
    )
  })
})
