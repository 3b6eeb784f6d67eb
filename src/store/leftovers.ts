import type pg from 'pg'

/** What says nothing any more, so that these tables do not grow for ever. */
const leftovers = [
  // A key stands for its experiment for a day.
  "DELETE FROM idempotency_keys WHERE created_at < now() - interval '1 day'",
  // Workers are listed for a day; a run of one that is gone counts as abandoned, row or no row.
  "DELETE FROM workers WHERE greatest(heartbeat_at, stopped_at) < now() - interval '7 days'",
] as const

/** Removes it; returns how many rows that were. */
export async function removeLeftovers(pool: pg.Pool): Promise<number> {
  let removed = 0
  for (const statement of leftovers) removed += (await pool.query(statement)).rowCount ?? 0
  return removed
}
