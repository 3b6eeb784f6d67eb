import { expect, it } from 'vitest'
import { curvesToJson } from '../../src/api/curve-json.ts'

it('writes every number and time as JSON would, and says what is not finite', () => {
  const values = [0, -0, 1, -2.5, 1e-320, 1e21, 1.7976931348623157e308, Number.NaN, Infinity, -Infinity, 0.1 + 0.2]
  const times = [0, 5, 999, 1000, -1, -1000, -1234, 1.7e12 + 42, 1.7e12 + 420, 8.64e15, -8.64e15]
  const points = values.map((value, i) => ({ step: 7 * i, value, time: new Date(times[i]!) }))
  const written = JSON.parse(curvesToJson('run', [{ name: 'a "b"\n\u2028', sampled: true, points }])) as unknown
  const shown = points.map(({ step, value, time }) => ({
    ...{ step, value: Number.isFinite(value) ? value + 0 : null, text: String(value), time: time.toISOString() },
  }))
  expect(written).toEqual({ runId: 'run', curves: [{ name: 'a "b"\n\u2028', sampled: true, points: shown }] })
  expect(JSON.parse(curvesToJson('run', []))).toEqual({ runId: 'run', curves: [] })
})
