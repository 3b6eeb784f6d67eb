import type { Database } from '../../src/store/database.ts'
import { openLedger, type RunFilter, type RunQuery } from '../../src/store/ledger.ts'
import { median, milliseconds, repeated, rounded } from './figures.ts'

const orders = ['createdAt', 'name', 'finishedAt', 'priority'] as const
const filters: Record<string, RunFilter> = {
  none: {},
  state: { state: 'failed' },
  'state with no run': { state: 'paused' },
  states: { state: ['queued', 'running'] },
  name: { name: 'LED-49' },
  'name of no run': { name: 'absent' },
  tag: { tag: 'tag-7' },
  'tag of no run': { tag: 'absent' },
  method: { method: 'npid' },
  dataset: { dataset: 'shapes' },
  created: { createdAfter: new Date(Date.now() - 20 * 86_400_000), createdBefore: new Date(Date.now() - 86_400_000) },
}

/** Milliseconds of a page of 50 runs under every filter and order, first and after 20 pages, and of each count. */
export async function lists(database: Database, rounds: number) {
  const ledger = openLedger(database)
  const timed = async (what: string, work: () => Promise<unknown>) => ({
    what,
    milliseconds: rounded(median(await repeated(rounds, () => milliseconds(work)))),
  })
  const found: { what: string; milliseconds: number }[] = []
  for (const [name, filter] of Object.entries(filters)) {
    for (const by of orders)
      for (const direction of ['asc', 'desc'] as const) {
        const query: RunQuery = { filter, order: { by, direction }, first: 50 }
        const what = `${name}, by ${by} ${direction}`
        found.push(await timed(what, () => ledger.listRuns(query)))
        let after: string | undefined
        for (let deep = 0; deep < 20; deep++) {
          const { endCursor, hasNextPage } = await ledger.listRuns({ ...query, after })
          if (!hasNextPage || !endCursor) break
          after = endCursor
        }
        if (after) found.push(await timed(`${what}, deep`, () => ledger.listRuns({ ...query, after })))
      }
    found.push(await timed(`count, ${name}`, () => ledger.countRuns(filter)))
  }
  found.sort((a, b) => b.milliseconds - a.milliseconds)
  return { median: rounded(median(found.map((one) => one.milliseconds))), slowest: found.slice(0, 5) }
}
