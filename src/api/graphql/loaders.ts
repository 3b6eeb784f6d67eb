import { GestaltError } from '../../errors.ts'
import { readEachCurves } from '../../store/metrics.ts'
import type { Parts } from '../parts.ts'
import { batch } from './batch.ts'

/** Which part of which curves. */
export interface CurveOptions {
  names?: readonly string[]
  from?: number
  to?: number
  maxPoints: number
}

/** Where the archive of one run is lost, the other runs of a list have their curves. */
function openCurves({ database, objects }: Parts) {
  const load = (ids: string[], options: CurveOptions) => readEachCurves(database.pool, ids, options, objects)
  const each = batch(load)
  return async (id: string, options: CurveOptions) => {
    const curves = await each(id, options)
    if (curves instanceof GestaltError) throw curves
    return curves
  }
}

/** One statement a field, for however many runs it is asked of. */
export function openLoaders(parts: Parts) {
  const { ledger } = parts
  return {
    experiment: batch((ids: string[], _: undefined) => ledger.experiments(ids)),
    /** Workers that are there, under one key. */
    workers: batch(async (keys: string[], _: undefined) => {
      const online = (await ledger.workers()).filter(({ state }) => state === 'online')
      return new Map(keys.map((key) => [key, online]))
    }),
    run: batch((ids: string[], _: undefined) => ledger.runs(ids)),
    runsOfExperiment: batch((ids: string[], _: undefined) => ledger.runsOfExperiments(ids)),
    attempts: batch((ids: string[], _: undefined) => ledger.attempts(ids)),
    checkpoints: batch((ids: string[], _: undefined) => ledger.checkpoints(ids)),
    checkpoint: batch((ids: string[], _: undefined) => ledger.checkpointsNamed(ids)),
    artifacts: batch((ids: string[], _: undefined) => ledger.artifacts(ids)),
    findings: batch((ids: string[], _: undefined) => ledger.findings(ids)),
    embeddings: batch((ids: string[], _: undefined) => ledger.embeddings(ids)),
    log: batch((ids: string[], last: number) => ledger.log(ids, last)),
    samples: batch((ids: string[], last: number) => ledger.samples(ids, last)),
    curves: openCurves(parts),
  }
}

export type Loaders = ReturnType<typeof openLoaders>
