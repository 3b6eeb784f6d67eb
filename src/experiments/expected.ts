import { type Static, Type } from 'typebox'
import type { Fault } from '../errors.ts'

/** Numbers are written as decimals: 0.85 is as far from 0.84 as 0.01 says. */
const rounding = 1e-9

const evaluated = '^[^/]+/[^/]+$'

/** Numbers that an experiment is held against: those of a paper, or of earlier runs of the same definition. */
export const expectedSchema = Type.Array(
  Type.Object(
    {
      of: Type.String({
        minLength: 3,
        maxLength: 200,
        pattern: evaluated,
        description:
          "What is expected: '<evaluation>/<score>', or 'metrics/<name>' for the mean of a curve over the last epoch.",
      }),
      value: Type.Number({ description: 'What it should come to.' }),
      tolerance: Type.Optional(
        Type.Number({ minimum: 0, description: 'How far off it may be, either way; it is shown only, where absent.' }),
      ),
      source: Type.String({
        minLength: 1,
        maxLength: 500,
        description: 'Where the number is from: paper and table, or the command that measured it.',
      }),
    },
    { additionalProperties: false },
  ),
  { maxItems: 64, default: [], description: 'Numbers to hold the results against; they change nothing in the run.' },
)

export type Expected = Static<typeof expectedSchema>[number]

/** An expectation beside what was measured: null where that is not known. `met` is null where nothing can be said. */
export interface Comparison extends Expected {
  measured: number | null
  met: boolean | null
}

/** The name of the curve that an expectation is of, where it is of one. */
export function curveOf({ of }: Pick<Expected, 'of'>): string | undefined {
  return of.startsWith('metrics/') ? of.slice('metrics/'.length) : undefined
}

/**
 * Refuses what is to be judged by an evaluation that is not asked for. What is shown only may be of any: papers report
 * more than one definition measures.
 */
export function checkExpected(expected: readonly Expected[], evaluations: readonly { name: string }[]): Fault[] {
  const there = ['metrics', ...evaluations.map(({ name }) => name)]
  return expected.flatMap(({ of, tolerance }, i) => {
    if (tolerance === undefined) return []
    const [kind] = of.split('/')
    const detail = `is of '${kind}'; this definition has: ${there.join(', ')}`
    return there.includes(kind!) ? [] : [{ pointer: `/expected/${i}/of`, detail }]
  })
}

/**
 * Each expectation beside the score of the first evaluation of its name, or the mean of the curve's points. `curves`
 * hold the points of the last epoch.
 */
export function compareExpected(
  expected: readonly Expected[],
  findings: readonly { evaluation: string; scores: Readonly<Record<string, number>> }[],
  curves: readonly { name: string; points: readonly { value: number }[] }[],
): Comparison[] {
  const mean = (name: string) => {
    const points = curves.find((curve) => curve.name === name)?.points ?? []
    return points.length > 0 ? points.reduce((sum, { value }) => sum + value, 0) / points.length : null
  }
  const score = (of: string) => {
    const slash = of.indexOf('/')
    const found = findings.find(({ evaluation }) => evaluation === of.slice(0, slash))
    return found?.scores[of.slice(slash + 1)] ?? null
  }
  return expected.map((each) => {
    const curve = curveOf(each)
    const found = curve === undefined ? score(each.of) : mean(curve)
    const measured = Number.isFinite(found) ? found : null
    const known = measured !== null && each.tolerance !== undefined
    return {
      ...each,
      measured,
      met: known ? Math.abs(measured - each.value) <= each.tolerance! + rounding * Math.abs(each.value) : null,
    }
  })
}
