import { extname } from 'node:path'
import type pg from 'pg'
import { Unavailable } from '../errors.ts'
import type { Logger } from '../experiments/context.ts'
import type { Patience } from './fence.ts'
import { newId } from './id.ts'
import type { ObjectStore, StoredObject } from './objects.ts'
import type { Fence } from './rows.ts'

/** What the files of one attempt are kept with. */
export interface RunFiles {
  pool: pg.Pool
  objects: ObjectStore
  fence: Fence
  patience: Patience
  log: Logger
  /** Writes rows on behalf of the attempt as `fenced` does, patiently; listeners hear of it soon. */
  write<T>(work: (client: pg.PoolClient) => Promise<T>): Promise<T>
}

/** Where the checkpoints and artifacts of a run lie in the object store. */
export function folderOf({ runId }: Fence, kind: 'checkpoints' | 'artifacts'): string {
  return `runs/${runId}/${kind}`
}

/** Removes objects that no row names any more; one that stays costs room, not truth. */
export async function discard({ objects, log }: Pick<RunFiles, 'objects' | 'log'>, keys: readonly string[]) {
  for (const key of keys)
    await objects.remove(key).catch((error: Error) => log.warn(`${key} could not be removed: ${error.message}`))
}

/** Stores first and writes the row second. Without its row the object goes again, unless the row may be there. */
export async function storeThenRow<T>(
  files: RunFiles,
  key: string,
  bytes: AsyncIterable<Uint8Array> | Uint8Array,
  type: string,
  row: (client: pg.PoolClient, stored: StoredObject) => Promise<T>,
): Promise<T> {
  const stored = await files.objects.put(key, bytes, { type })
  try {
    return await files.write((client) => row(client, stored))
  } catch (error) {
    if (!(error instanceof Unavailable)) await discard(files, [key])
    throw error
  }
}

/** Keeps a file of the run under a name, replacing an earlier one of that name; returns the id of the artifact. */
export async function putArtifact(
  files: RunFiles,
  name: string,
  type: string,
  bytes: AsyncIterable<Uint8Array> | Uint8Array,
): Promise<string> {
  const { runId, attempt } = files.fence
  const extension = /^\.[A-Za-z0-9]{1,20}$/.test(extname(name)) ? extname(name) : ''
  const key = `${folderOf(files.fence, 'artifacts')}/${newId()}${extension}`
  const { id, replaced } = await storeThenRow(files, key, bytes, type, async (client, { size, sha256 }) => {
    const old = await client.query<{ key: string }>('SELECT key FROM artifacts WHERE run_id = $1 AND name = $2', [
      runId,
      name,
    ])
    const { rows } = await client.query<{ id: string }>(
      `INSERT INTO artifacts (id, run_id, attempt, name, type, key, size, sha256)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
       ON CONFLICT (run_id, name) DO UPDATE SET attempt = excluded.attempt, type = excluded.type, key = excluded.key,
         size = excluded.size, sha256 = excluded.sha256, created_at = now()
       RETURNING id`,
      [newId(), runId, attempt, name, type, key, size, sha256],
    )
    return { id: rows[0]!.id, replaced: old.rows.map((row) => row.key).filter((other) => other !== key) }
  })
  await discard(files, replaced)
  return id
}
