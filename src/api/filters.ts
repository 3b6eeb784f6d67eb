import { type Fault, InvalidDefinition } from '../errors.ts'
import type { RunState } from '../experiments/run.ts'
import { isId } from '../store/id.ts'
import type { RunFilter } from '../store/ledger.ts'

/** The conditions of a list as a caller gives them. */
export interface AskedFilter {
  state?: readonly RunState[] | null
  name?: string | null
  tag?: string | null
  experimentId?: string | null
  method?: string | null
  dataset?: string | null
  createdAfter?: string | Date | null
  createdBefore?: string | Date | null
}

const instants = ['createdAfter', 'createdBefore'] as const
/** Whether Postgres can compare with it: it knows no year 0, and ISO 8601 none of five digits. */
const isInstant = (date: Date) => date.getUTCFullYear() >= 1 && date.getUTCFullYear() <= 9999

const words = ['name', 'tag', 'method', 'dataset'] as const

/** Null is no condition. Throws InvalidDefinition for what the database could not compare with. */
export function readFilter(asked: AskedFilter): RunFilter {
  const faults: Fault[] = []
  const filter: RunFilter = {}
  if (asked.state) filter.state = asked.state
  for (const name of words) {
    const value = asked[name]
    if (value?.includes('\0')) faults.push({ pointer: `/${name}`, detail: 'has a character (NUL) that no name has' })
    if (typeof value === 'string') filter[name] = value
  }
  for (const name of instants) {
    const value = asked[name]
    if (value === undefined || value === null) continue
    const date = value instanceof Date ? value : new Date(/^\d{4}-\d\d-\d\d/.test(value) ? value : Number.NaN)
    if (!isInstant(date)) {
      const given = typeof value === 'string' ? value : value.toISOString()
      faults.push({ pointer: `/${name}`, detail: `'${given}' is not an instant; write it as 2026-01-31T12:00:00Z` })
    }
    filter[name] = date
  }
  const { experimentId } = asked
  if (typeof experimentId === 'string') filter.experimentId = experimentId
  if (typeof experimentId === 'string' && !isId(experimentId))
    faults.push({ pointer: '/experimentId', detail: `'${experimentId}' is not an id; ids are UUIDs` })
  if (faults.length > 0) throw new InvalidDefinition(faults, 'the filter')
  return filter
}
