import { Type } from 'typebox'
import { NotFound } from '../errors.ts'
import type { From } from '../experiments/from.ts'
import { runStates } from '../experiments/run.ts'
import { isId } from '../store/id.ts'
import type { Experiment, Run } from '../store/ledger.ts'
import type { Parts } from './parts.ts'

/** How REST shows what the ledger keeps; times are ISO 8601 in UTC, sizes bytes. */
const time = (description: string) => Type.String({ format: 'date-time', description })
const orNull = (schema: ReturnType<typeof Type.String> | ReturnType<typeof Type.Unknown>) =>
  Type.Union([schema, Type.Null()])
const id = (description: string) => Type.String({ format: 'uuid', description })

export const idParameters = Type.Object({ id: Type.String({ description: 'A UUID, as lists and answers give it.' }) })

export const experimentSchema = Type.Object({
  id: id('Of the experiment.'),
  name: Type.String(),
  tags: Type.Array(Type.String()),
  notes: Type.String(),
  priority: Type.Integer({ description: 'Higher is sooner.' }),
  definition: Type.Unknown({ description: 'With every default written out.' }),
  plan: Type.Unknown({ description: 'What it was expected to take.' }),
  createdAt: time('When it was accepted.'),
})

export const runSchema = Type.Object({
  id: id('Of the run.'),
  experimentId: id('Of its experiment.'),
  name: Type.String(),
  state: Type.Enum([...runStates]),
  priority: Type.Integer({ description: 'Higher is sooner.' }),
  attempt: Type.Integer({ description: 'The number of the newest attempt; 0 before the first.' }),
  version: Type.Integer({ description: 'Grows with every change.' }),
  cancelRequested: Type.Boolean(),
  definition: Type.Unknown(),
  from: Type.Unknown({ description: 'Where its first weights come from, by digest; null where they were drawn.' }),
  progress: Type.Unknown({ description: 'Stage, epoch, step, loss, rates and time left; null before the start.' }),
  failure: Type.Unknown({ description: 'Code, message and cure; null unless it failed.' }),
  createdAt: time('When it was accepted.'),
  startedAt: orNull(time('When its first attempt began.')),
  finishedAt: orNull(time('When it ended.')),
})

export function experimentResource(row: Experiment) {
  const { id, name, tags, notes, priority, definition, plan, createdAt } = row
  return { id, name, tags, notes, priority, definition, plan, createdAt }
}

export function runResource(row: Run) {
  const { id, experimentId, name, state, priority, attempt, version, cancelRequested } = row
  const { definition, progress, failure, createdAt, startedAt, finishedAt } = row
  const head = { id, experimentId, name, state, priority, attempt, version, cancelRequested }
  const from = (definition as { from?: From } | null)?.from ?? null
  return { ...head, definition, from, progress, failure, createdAt, startedAt, finishedAt }
}

/** JSON has no word for numbers that are not finite, so the value is null and the text says which it is. */
export function numberResource(value: number): { value: number | null; text: string } {
  return { value: Number.isFinite(value) ? value : null, text: String(value) }
}

/** The row of that id, or NotFound: what is not an id at all names no row either. */
async function found<Row>(what: string, id: string, rows: (ids: string[]) => Promise<Map<string, Row>>): Promise<Row> {
  const row = isId(id) ? (await rows([id.toLowerCase()])).get(id.toLowerCase()) : undefined
  if (row !== undefined) return row
  throw new NotFound(`there is no ${what} '${id.slice(0, 100)}'`, `GET /v1/${what}s lists those there are`)
}

export function findExperiment({ ledger }: Parts, id: string): Promise<Experiment> {
  return found('experiment', id, (ids) => ledger.experiments(ids))
}

export function findRun({ ledger }: Parts, id: string): Promise<Run> {
  return found('run', id, (ids) => ledger.runs(ids))
}
