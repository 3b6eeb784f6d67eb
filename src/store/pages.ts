import { InvalidDefinition } from '../errors.ts'
import type { RunState } from '../experiments/run.ts'
import { isId } from './id.ts'

export interface RunFilter {
  state?: RunState | readonly RunState[]
  /** Part of the name, capitals and small letters alike. */
  name?: string
  /** Of its experiment. */
  tag?: string
  experimentId?: string
  method?: string
  dataset?: string
  createdAfter?: Date
  createdBefore?: Date
}

export type ExperimentFilter = Omit<RunFilter, 'experimentId'>

export interface PageQuery<By extends string, Filter> {
  filter?: Filter
  order?: { by: By; direction: 'asc' | 'desc' }
  /** Rows at most. */
  first: number
  /** The `endCursor` of the page before. */
  after?: string
}

export type RunQuery = PageQuery<'createdAt' | 'name' | 'finishedAt' | 'priority', RunFilter>
export type ExperimentQuery = PageQuery<'createdAt' | 'name' | 'priority', ExperimentFilter>

export interface Page<T> {
  rows: T[]
  endCursor: string | null
  hasNextPage: boolean
  /** The cursor of a row of this page. */
  cursor(row: T): string
}

type Order = { by: string; direction: 'asc' | 'desc' }
type Key = [by: string, direction: string, value: string | number | null, id: string]

const newestFirst: Order = { by: 'createdAt', direction: 'desc' }

function encode(order: Order, row: Record<string, unknown>): string {
  const value = row[order.by]
  const key: Key = [
    order.by,
    order.direction,
    value instanceof Date ? value.toISOString() : (value as Key[2]),
    `${row.id}`,
  ]
  return Buffer.from(JSON.stringify(key)).toString('base64url')
}

// The year 0 is one that Postgres does not know.
const instant = /^(?!0000)\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/

/** Whether a value is one that the column of an order can hold: whoever sends a cursor may have made it. */
function fits(by: string, value: unknown): boolean {
  if (by === 'name') return typeof value === 'string' && !value.includes('\0')
  if (by === 'priority') return Number.isInteger(value) && Math.abs(value as number) < 2 ** 31
  if (by === 'finishedAt' && value === null) return true
  return typeof value === 'string' && instant.test(value) && !Number.isNaN(Date.parse(value))
}

function isKey(order: Order, key: unknown): key is Key {
  if (!Array.isArray(key) || key.length !== 4) return false
  const [by, direction, value, id] = key as unknown[]
  return by === order.by && direction === order.direction && fits(order.by, value) && typeof id === 'string' && isId(id)
}

function decode(order: Order, cursor: string): Key {
  try {
    const key: unknown = JSON.parse(Buffer.from(cursor, 'base64url').toString())
    if (isKey(order, key)) return key
  } catch {}
  throw new InvalidDefinition(
    [{ pointer: '/after', detail: 'is not a cursor of this list in this order; take the endCursor of its page' }],
    'the query',
  )
}

/**
 * Rows behind a key. The times of unfinished runs are null and come last when ascending, first when descending. The
 * bound beside the alternatives says nothing new, but an index scan can start at it.
 */
function behind([by, direction, value, id]: Key): object {
  const after = direction === 'asc' ? 'gt' : 'lt'
  const ties = { [by]: value, id: { [after]: id } }
  if (value === null) return direction === 'asc' ? ties : { OR: [ties, { [by]: { not: null } }] }
  const later = { [by]: { [after]: value } }
  if (by === 'finishedAt' && direction === 'asc') return { OR: [ties, later, { [by]: null }] }
  return { AND: [{ [by]: { [`${after}e`]: value } }, { OR: [ties, later] }] }
}

/** Reads one page by its keys, so that a page deep in the list costs as much as the first. */
export async function readPage<T extends { id: string }>(
  query: PageQuery<string, unknown>,
  where: object,
  find: (args: { where: object; orderBy: object[]; take: number }) => Promise<T[]>,
): Promise<Page<T>> {
  const order = query.order ?? newestFirst
  const { by, direction } = order
  const sort = by === 'finishedAt' ? { sort: direction, nulls: direction === 'asc' ? 'last' : 'first' } : direction
  const clauses = query.after === undefined ? [where] : [where, behind(decode(order, query.after))]
  const found = await find({
    where: { AND: clauses },
    orderBy: [{ [by]: sort }, { id: direction }],
    take: query.first + 1,
  })
  const rows = found.slice(0, query.first)
  const cursor = (row: T) => encode(order, row as Record<string, unknown>)
  const last = rows.at(-1)
  return { rows, endCursor: last ? cursor(last) : null, hasNextPage: found.length > rows.length, cursor }
}

/** `%`, `_` and `\` mean themselves. */
function contains(text: string): object {
  return { contains: text.replace(/[\\%_]/g, '\\$&'), mode: 'insensitive' }
}

function created({ createdAfter, createdBefore }: RunFilter): object {
  return createdAfter || createdBefore ? { createdAt: { gt: createdAfter, lt: createdBefore } } : {}
}

function inStates(state: RunFilter['state']): object {
  return { state: typeof state === 'string' ? state : { in: [...(state ?? [])] } }
}

export function runWhere(filter: RunFilter = {}): object {
  const { state, name, tag, experimentId, method, dataset } = filter
  return {
    ...(state === undefined ? {} : inStates(state)),
    ...(name === undefined ? {} : { name: contains(name) }),
    ...(tag === undefined ? {} : { experiment: { tags: { has: tag } } }),
    ...(experimentId === undefined ? {} : { experimentId: { in: [experimentId].filter(isId) } }),
    method,
    dataset,
    ...created(filter),
  }
}

export function experimentWhere(filter: ExperimentFilter = {}): object {
  const { state, name, tag, method, dataset } = filter
  return {
    ...(state === undefined ? {} : { runs: { some: inStates(state) } }),
    ...(name === undefined ? {} : { name: contains(name) }),
    ...(tag === undefined ? {} : { tags: { has: tag } }),
    method,
    dataset,
    ...created(filter),
  }
}
