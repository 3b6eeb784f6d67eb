import { InvalidDefinition } from '../../errors.ts'
import type { Page } from '../../store/ledger.ts'
import { limits } from './limits.ts'

export interface PageArguments {
  first?: number | null
  after?: string | null
}

/** The part of a list's arguments that every list has, judged. */
export function readPageArguments({ first, after }: PageArguments): { first: number; after: string | undefined } {
  const wanted = first ?? 20
  if (wanted < 1 || wanted > limits.page)
    throw new InvalidDefinition(
      [{ pointer: '/first', detail: `is ${wanted}; ask for 1 to ${limits.page}, and for more with after` }],
      'the query',
    )
  return { first: wanted, after: after ?? undefined }
}

/** Compiled queries do not call functions they find in place of values, so this resolver does. */
export const connectionFields = { totalCount: ({ count }: { count: () => Promise<number> }) => count() }

/** A page as a Relay connection; `count` is only called when the total is asked for. */
export function toConnection<Row>(page: Page<Row>, after: string | undefined, count: () => Promise<number>) {
  const { rows, hasNextPage, endCursor } = page
  const [head] = rows
  return {
    edges: rows.map((node) => ({ cursor: page.cursor(node), node })),
    nodes: rows,
    pageInfo: {
      hasNextPage,
      hasPreviousPage: after !== undefined,
      startCursor: head === undefined ? null : page.cursor(head),
      endCursor,
    },
    count,
  }
}
