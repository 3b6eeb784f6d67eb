import type pg from 'pg'
import { Conflict } from '../errors.ts'
import type { From } from '../experiments/from.ts'
import type { Needs } from '../experiments/placement.ts'
import { record } from './events.ts'
import { newId } from './id.ts'
import { holdSet } from './image-sets.ts'
import { notifyRun } from './listen.ts'
import { transaction } from './pool.ts'
import { count } from './tallies.ts'

/** What is asked of the ledger when an experiment comes in. One run that follows the definition where none is named. */
export interface Submission {
  name: string
  tags: readonly string[]
  notes: string
  priority: number
  definition: unknown
  plan: unknown
  /** What its runs need of a worker. */
  needs?: Partial<Needs>
  /** What its runs start from. */
  from?: Pick<From, 'checkpoint' | 'weights'> | undefined
  runs?: readonly { name: string; definition: unknown }[]
  /** Where the runs stand in a trace. */
  traceparent?: string | undefined
}

/** `mismatch`: the key was used within a day for something else, and nothing was accepted. */
export type Acceptance =
  | { experimentId: string; runIds: string[]; replayed: boolean; mismatch?: undefined }
  | { mismatch: true }

/** The experiment that an idempotency key stands for; undefined when the key is ours from now on. */
async function claimKey(client: pg.ClientBase, key: string, fingerprint: string, experimentId: string) {
  // A second request with the same key waits here until the first has committed.
  const { rowCount } = await client.query(
    `INSERT INTO idempotency_keys AS old (key, fingerprint, experiment_id) VALUES ($1, $2, $3)
     ON CONFLICT (key) DO UPDATE SET fingerprint = excluded.fingerprint, experiment_id = excluded.experiment_id,
       created_at = now() WHERE old.created_at < now() - interval '24 hours'`,
    [key, fingerprint, experimentId],
  )
  if (rowCount) return undefined
  const { rows } = await client.query<{ fingerprint: string; experimentId: string }>(
    'SELECT fingerprint, experiment_id AS "experimentId" FROM idempotency_keys WHERE key = $1',
    [key],
  )
  return rows[0]
}

function nameOf(definition: unknown, part: 'method' | 'dataset'): string | null {
  const name = (definition as Record<string, { name?: unknown } | undefined> | null)?.[part]?.name
  return typeof name === 'string' ? name : null
}

/** From here on the source cannot be removed. Throws Conflict where it has just been. */
async function holdStart(
  client: pg.ClientBase,
  runId: string,
  { checkpoint, weights }: NonNullable<Submission['from']>,
): Promise<void> {
  const { rowCount } = await client.query(
    `INSERT INTO starts (run_id, checkpoint_id, weights_id)
     SELECT $1, checkpoints.id, weights.id FROM (SELECT) AS one
       LEFT JOIN (SELECT id FROM checkpoints WHERE id = $2 FOR SHARE) AS checkpoints ON true
       LEFT JOIN (SELECT id FROM weights WHERE name = $3 FOR SHARE) AS weights ON true
     WHERE num_nonnulls(checkpoints.id, weights.id) = 1`,
    [runId, checkpoint ?? null, weights ?? null],
  )
  if (rowCount === 0)
    throw new Conflict(
      `${checkpoint ? `checkpoint ${checkpoint}` : `weights '${weights}'`} was removed while the run was accepted`,
      'name another checkpoint or other weights',
    )
}

async function insert(client: pg.ClientBase, experimentId: string, submission: Submission): Promise<string[]> {
  const { name, tags, notes, priority, definition, plan, needs = {} } = submission
  await holdSet(client, definition)
  await client.query(
    `INSERT INTO experiments (id, name, tags, notes, priority, method, dataset, definition, plan)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
    [
      experimentId,
      name,
      tags,
      notes,
      priority,
      nameOf(definition, 'method'),
      nameOf(definition, 'dataset'),
      JSON.stringify(definition),
      JSON.stringify(plan),
    ],
  )
  await record(client, { kind: 'experiment-accepted', experimentId, data: { name } })
  const runIds: string[] = []
  for (const run of submission.runs ?? [{ name, definition }]) {
    const id = newId()
    runIds.push(id)
    await client.query(
      `INSERT INTO runs (id, experiment_id, name, priority, method, dataset, definition, needs, traceparent)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
      [
        id,
        experimentId,
        run.name,
        priority,
        nameOf(run.definition, 'method'),
        nameOf(run.definition, 'dataset'),
        JSON.stringify(run.definition),
        JSON.stringify(needs),
        submission.traceparent ?? null,
      ],
    )
    if (submission.from) await holdStart(client, id, submission.from)
    await record(client, { kind: 'run-queued', experimentId, runId: id })
    await notifyRun(client, { id, version: 0 })
  }
  await count(client, [{ name: 'jobs-enqueued', count: runIds.length }])
  return runIds
}

/** Keeps an experiment with its runs, all or nothing; with a key, a repeated request is answered as the first one. */
export function accept(
  pool: pg.Pool,
  submission: Submission,
  idempotency?: { key: string; fingerprint: string },
): Promise<Acceptance> {
  return transaction(pool, async (client): Promise<Acceptance> => {
    const experimentId = newId()
    if (idempotency) {
      const earlier = await claimKey(client, idempotency.key, idempotency.fingerprint, experimentId)
      if (earlier && earlier.fingerprint !== idempotency.fingerprint) return { mismatch: true }
      if (earlier) {
        const { rows } = await client.query<{ id: string }>(
          'SELECT id FROM runs WHERE experiment_id = $1 ORDER BY created_at, id',
          [earlier.experimentId],
        )
        return { experimentId: earlier.experimentId, runIds: rows.map(({ id }) => id), replayed: true }
      }
    }
    return { experimentId, runIds: await insert(client, experimentId, submission), replayed: false }
  })
}
