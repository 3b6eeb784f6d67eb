import type pg from 'pg'

/** Something that happened, as it is written beside the change itself. */
export interface EventRow {
  kind: string
  experimentId?: string
  runId?: string
  data?: unknown
}

/** Appends to the log of events, in the transaction of the change. */
export async function record(client: pg.ClientBase, { kind, experimentId, runId, data }: EventRow): Promise<void> {
  await client.query('INSERT INTO events (kind, experiment_id, run_id, data) VALUES ($1, $2, $3, $4)', [
    kind,
    experimentId ?? null,
    runId ?? null,
    JSON.stringify(data ?? {}),
  ])
}
