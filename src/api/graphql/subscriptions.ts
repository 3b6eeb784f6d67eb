import { isFinished } from '../../experiments/run.ts'
import type { Curve } from '../../store/metrics.ts'
import type { News, Reading } from '../changes.ts'
import { findRun } from '../resources.ts'
import type { GraphQLParts } from './context.ts'
import { type CurveArguments, curveObject, readCurveArguments } from './curves.ts'
import type { CurveOptions } from './loaders.ts'
import type { Resolve, Resolvers } from './schema.ts'

/** Reads what was added to the curves of a run since the reading before; the first reading gives all so far. */
function readAppended({ loaders }: GraphQLParts, runId: string, options: CurveOptions) {
  const told = new Map<string, number>() // the last step of each curve
  let reached: number | undefined
  return async (): Promise<Reading<Curve[]>> => {
    // The state first: a run that is seen as finished has all its points.
    const run = await loaders.run(runId, undefined)
    const from = reached ?? options.from
    const curves = (await loaders.curves(runId, from === undefined ? options : { ...options, from })) ?? []
    // Points come in the order of their steps, but those of one step may come in two batches.
    const fresh = curves.flatMap((curve) => {
      const points = curve.points.filter(({ step }) => step > (told.get(curve.name) ?? -1))
      return points.length > 0 ? [{ ...curve, points }] : []
    })
    const isFirst = reached === undefined
    for (const { name, points } of fresh) told.set(name, points.at(-1)!.step)
    reached = Math.max(reached ?? 0, ...told.values())
    return { value: fresh.length > 0 || isFirst ? fresh : undefined, last: !run || isFinished(run.state) }
  }
}

/** An error among the news is the field's error; the operation ends after it, and the socket stays. */
function told<T>(show: (value: T) => unknown): Resolve {
  return (news: News<T>) => {
    if ('error' in news) throw news.error
    return show(news.value)
  }
}

export const subscriptions: Resolvers[string] = {
  runUpdated: {
    async subscribe(_root: unknown, { id }: { id: string }, parts: GraphQLParts) {
      const { id: runId } = await findRun(parts, id)
      return parts.changes.follow(runId, async () => {
        const run = await parts.loaders.run(runId, undefined)
        return { value: run, last: !run || isFinished(run.state) }
      })
    },
    resolve: told((run) => run),
  },
  metricsAppended: {
    async subscribe(_root: unknown, asked: CurveArguments & { runId: string }, parts: GraphQLParts) {
      const { id: runId } = await findRun(parts, asked.runId)
      return parts.changes.follow(runId, readAppended(parts, runId, readCurveArguments(asked)))
    },
    resolve: told((curves: Curve[]) => curves.map(curveObject)),
  },
}
