import type { Curve } from '../store/metrics.ts'

type Point = Curve['points'][number]

/** Times as ISO 8601 in UTC; the text of a second is made once for the points within it, which mostly follow each other. */
function timeWriter(): (time: Date) => string {
  let second = Number.NaN
  let text = ''
  return (time) => {
    const milliseconds = time.getTime()
    const rest = ((milliseconds % 1000) + 1000) % 1000
    if (milliseconds - rest !== second) {
      second = milliseconds - rest
      text = new Date(second).toISOString().slice(0, -4)
    }
    return `${text}${rest < 100 ? (rest < 10 ? `00${rest}` : `0${rest}`) : rest}Z`
  }
}

/**
 * Curves of a run as the JSON of its route. A point is four short texts, and a curve thousands of points: put together
 * here they cost half of what the general serializer takes. JSON has no word for numbers that are not finite: their value
 * is null, and `text` says which they are.
 */
export function curvesToJson(runId: string, curves: readonly Curve[]): string {
  const writeTime = timeWriter()
  const pointToJson = ({ step, value, time }: Point) => {
    const text = String(value)
    return `{"step":${step},"value":${Number.isFinite(value) ? text : 'null'},"text":"${text}","time":"${writeTime(time)}"}`
  }
  const shown = curves.map(
    ({ name, sampled, points }) =>
      `{"name":${JSON.stringify(name)},"sampled":${sampled},"points":[${points.map(pointToJson).join(',')}]}`,
  )
  return `{"runId":${JSON.stringify(runId)},"curves":[${shown.join(',')}]}`
}
