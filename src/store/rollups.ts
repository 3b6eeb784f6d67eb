import type pg from 'pg'

/** What writing and reading metrics needs of a pool or of a connection within a transaction. */
export type Queryable = Pick<pg.ClientBase, 'query'>

/** A rollup of level l covers 2^(bits * l) = 32^l steps. */
export const bits = 5
export const levels = [1, 2, 3, 4] as const
