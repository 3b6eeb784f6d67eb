import { createHash } from 'node:crypto'
import type pg from 'pg'
import { Damaged, NotFound } from '../errors.ts'
import type { Checkpoint } from '../models/checkpoint.ts'
import { persistently } from './fence.ts'
import { newId } from './id.ts'
import { readAll } from './objects.ts'
import type { CheckpointRow } from './rows.ts'
import { decodeSafetensors, encodeSafetensors } from './safetensors.ts'
import { discard, folderOf, type RunFiles, storeThenRow } from './stored-files.ts'
import { count, measured } from './tallies.ts'

/** The newest ones that are kept beside the final one. */
const kept = 2

type Row = Pick<CheckpointRow, 'id' | 'attempt' | 'step' | 'key' | 'sha256'>

/** Checks the bytes against their row, then every number of the format. */
async function load({ objects }: RunFiles, { key, step, sha256 }: Row): Promise<Checkpoint> {
  const file = await readAll(await objects.get(key))
  const what = `the checkpoint of step ${step}`
  if (createHash('sha256').update(file).digest('hex') !== sha256)
    throw new Damaged(`${what} is not what was stored`, 'an earlier one is used')
  const { tensors, meta } = decodeSafetensors(file, what)
  const { step: stored, ...rest } = meta
  if (stored !== String(step)) throw new Damaged(`${what} says it is of step ${stored}`, 'an earlier one is used')
  return { step, tensors, meta: rest }
}

/** Objects of earlier attempts that never got their row, or whose row is gone. */
async function sweep(files: RunFiles, rows: readonly Row[]): Promise<void> {
  const known = new Set(rows.map(({ key }) => key))
  const folder = `${folderOf(files.fence, 'checkpoints')}/`
  const stray: string[] = []
  for await (const { key } of files.objects.list(folder)) {
    const attempt = Number(/-(\d+)-[^/]*$/.exec(key)?.[1])
    if (attempt < files.fence.attempt && !known.has(key)) stray.push(key)
  }
  await discard(files, stray)
}

/**
 * The newest checkpoint that verifies, after the log has been told of those that do not. Notes in the attempt where it
 * goes on from.
 */
export async function latestCheckpoint(files: RunFiles): Promise<Checkpoint | undefined> {
  const { pool, fence, patience, log } = files
  const { rows } = await persistently(patience, () =>
    pool.query<Row>(
      'SELECT id, attempt, step, key, sha256 FROM checkpoints WHERE run_id = $1 ORDER BY attempt DESC, step DESC',
      [fence.runId],
    ),
  )
  await sweep(files, rows)
  let found: Checkpoint | undefined
  for (const row of rows) {
    try {
      found = await load(files, row)
      break
    } catch (error) {
      if (!(error instanceof Damaged || error instanceof NotFound)) throw error
      log.warn(`passed over a checkpoint: ${error.message}`)
    }
  }
  await files.write((client) =>
    client.query('UPDATE attempts SET resumed_from = $3 WHERE run_id = $1 AND number = $2', [
      fence.runId,
      fence.attempt,
      found?.step ?? 0,
    ]),
  )
  return found
}

/**
 * Removes the rows of all but the newest, the final one and those that other runs start from. They are locked first,
 * so that no run can start from one that is about to go; one that is being taken as a start now is left for next time.
 */
async function prune(client: pg.ClientBase, runId: string): Promise<{ key: string }[]> {
  const old = await client.query<{ id: string }>(
    `SELECT id FROM checkpoints WHERE run_id = $1 AND NOT final AND id NOT IN (
       SELECT id FROM checkpoints WHERE run_id = $1 ORDER BY attempt DESC, step DESC LIMIT $2
     ) FOR UPDATE SKIP LOCKED`,
    [runId, kept],
  )
  const { rows } = await client.query<{ key: string }>(
    `DELETE FROM checkpoints WHERE id = ANY ($1::uuid[])
       AND NOT EXISTS (SELECT FROM starts WHERE checkpoint_id = checkpoints.id) RETURNING key`,
    [old.rows.map(({ id }) => id)],
  )
  return rows
}

/** Durable when it resolves; then only the newest two, the final one and those that other runs start from are left. */
export async function saveCheckpoint(files: RunFiles, checkpoint: Checkpoint, final: boolean): Promise<void> {
  const { runId, attempt } = files.fence
  const { step, tensors, meta } = checkpoint
  const began = performance.now()
  const key = `${folderOf(files.fence, 'checkpoints')}/${String(step).padStart(9, '0')}-${attempt}-${newId()}.safetensors`
  const bytes = encodeSafetensors(tensors, { ...meta, step: String(step) })
  const type = 'application/octet-stream'
  const unused = await storeThenRow(files, key, asAsync(bytes), type, async (client, { size, sha256 }) => {
    const place = [runId, step, attempt]
    const old = await client.query<{ key: string }>(
      'SELECT key FROM checkpoints WHERE run_id = $1 AND step = $2 AND attempt = $3',
      place,
    )
    await client.query(
      `INSERT INTO checkpoints AS old (id, run_id, step, attempt, final, key, size, sha256)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
       ON CONFLICT (run_id, step, attempt) DO UPDATE SET final = old.final OR excluded.final, key = excluded.key,
         size = excluded.size, sha256 = excluded.sha256, created_at = now()`,
      [newId(), ...place, final, key, size, sha256],
    )
    const seconds = (performance.now() - began) / 1000
    await count(client, [measured('checkpoint-bytes', size), measured('checkpoint-duration-seconds', seconds)])
    return [...old.rows, ...(await prune(client, runId))].map((row) => row.key).filter((other) => other !== key)
  })
  await discard(files, unused)
}

async function* asAsync(pieces: Iterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  yield* pieces
}
