import type pg from 'pg'

/** What an idempotency key stands for. The same table as that of experiments: a key is one request, whatever it asked. */
export interface Idempotency {
  key: string
  fingerprint: string
}

/** The id of the set that an earlier request with this key has added, within a day. */
export async function claimKey(
  pool: pg.Pool,
  { key, fingerprint }: Idempotency,
): Promise<string | 'mismatch' | undefined> {
  const { rows } = await pool.query<{ fingerprint: string; id: string }>(
    `SELECT fingerprint, experiment_id AS id FROM idempotency_keys
     WHERE key = $1 AND created_at >= now() - interval '24 hours'`,
    [key],
  )
  const [row] = rows
  if (!row) return undefined
  return row.fingerprint === fingerprint ? row.id : 'mismatch'
}

/** In the transaction that makes the set visible. */
export async function keepKey(client: pg.ClientBase, { key, fingerprint }: Idempotency, setId: string): Promise<void> {
  await client.query(
    `INSERT INTO idempotency_keys (key, fingerprint, experiment_id) VALUES ($1, $2, $3)
     ON CONFLICT (key) DO UPDATE SET fingerprint = excluded.fingerprint, experiment_id = excluded.experiment_id,
       created_at = now()`,
    [key, fingerprint, setId],
  )
}
