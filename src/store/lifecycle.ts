import type pg from 'pg'
import { Conflict, NotFound } from '../errors.ts'
import { type Failure, isFinished, moves } from '../experiments/run.ts'
import { isId, newId } from './id.ts'
import { channels, notifyRun } from './listen.ts'
import { transaction } from './pool.ts'
import { type Fence, type Run, runColumns } from './rows.ts'

/** What is asked of the ledger when an experiment comes in. One run that follows the definition where none is named. */
export interface Submission {
  name: string
  tags: readonly string[]
  notes: string
  priority: number
  definition: unknown
  plan: unknown
  runs?: readonly { name: string; definition: unknown }[]
}

/** `mismatch`: the key was used within a day for something else, and nothing was accepted. */
export type Acceptance =
  | { experimentId: string; runIds: string[]; replayed: boolean; mismatch?: undefined }
  | { mismatch: true }

/** How an attempt ended, and what becomes of its run. */
export type Outcome =
  | { state: 'succeeded' | 'cancelled' | 'paused' }
  | { state: 'failed'; failure: Failure }
  | { state: 'queued'; outcome: 'released' | 'lost' }

interface EventRow {
  kind: string
  experimentId?: string
  runId?: string
  data?: unknown
}

async function record(client: pg.ClientBase, { kind, experimentId, runId, data }: EventRow): Promise<void> {
  await client.query('INSERT INTO events (kind, experiment_id, run_id, data) VALUES ($1, $2, $3, $4)', [
    kind,
    experimentId ?? null,
    runId ?? null,
    JSON.stringify(data ?? {}),
  ])
}

/** The row, held until the transaction ends: all moves of one run happen one after the other. */
async function hold(client: pg.ClientBase, runId: string): Promise<Run | undefined> {
  if (!isId(runId)) return undefined
  const { rows } = await client.query<Run>(`SELECT ${runColumns} FROM runs WHERE id = $1 FOR UPDATE`, [runId])
  return rows[0]
}

interface Change {
  state: Run['state']
  failure?: Failure
  /** Begins a new attempt. */
  begins?: boolean
}

/** Moves a held run, writes the event and tells the listeners. */
async function move(client: pg.ClientBase, run: Run, change: Change, event: Omit<EventRow, 'runId'>): Promise<Run> {
  const lawful = moves[run.state].includes(change.state) || (change.begins && run.state === 'running')
  if (!lawful) throw new Conflict(`run ${run.id} is ${run.state} and cannot become ${change.state}`, 'read it again')
  const { rows } = await client.query<Run>(
    `UPDATE runs SET state = $2::run_state, failure = $3, version = version + 1, attempt = attempt + $4,
       queued_at = CASE WHEN $2::run_state = 'queued' THEN now() ELSE queued_at END,
       started_at = CASE WHEN $2::run_state = 'running' THEN coalesce(started_at, now()) ELSE started_at END,
       finished_at = CASE WHEN $5::boolean THEN now() END
     WHERE id = $1 RETURNING ${runColumns}`,
    [
      run.id,
      change.state,
      change.failure ? JSON.stringify(change.failure) : null,
      change.begins ? 1 : 0,
      isFinished(change.state),
    ],
  )
  await record(client, { ...event, experimentId: run.experimentId, runId: run.id })
  await notifyRun(client, rows[0]!)
  return rows[0]!
}

async function endAttempt(client: pg.ClientBase, fence: Fence, outcome: string): Promise<void> {
  await client.query(
    'UPDATE attempts SET ended_at = now(), outcome = $3::attempt_outcome WHERE run_id = $1 AND number = $2',
    [fence.runId, fence.attempt, outcome],
  )
}

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

async function insert(client: pg.ClientBase, experimentId: string, submission: Submission): Promise<string[]> {
  const { name, tags, notes, priority, definition, plan } = submission
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
      `INSERT INTO runs (id, experiment_id, name, priority, method, dataset, definition)
       VALUES ($1, $2, $3, $4, $5, $6, $7)`,
      [
        id,
        experimentId,
        run.name,
        priority,
        nameOf(run.definition, 'method'),
        nameOf(run.definition, 'dataset'),
        JSON.stringify(run.definition),
      ],
    )
    await record(client, { kind: 'run-queued', experimentId, runId: id })
    await notifyRun(client, { id, version: 0 })
  }
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

/**
 * Begins the next attempt of a run that is queued, or that is running on somebody who is taken to be lost: from here on
 * every write of that earlier attempt is refused. Undefined where there is nothing to do: finished, paused, unknown.
 */
export function begin(
  pool: pg.Pool,
  runId: string,
  workerId: string,
): Promise<{ run: Run; attempt: number } | undefined> {
  return transaction(pool, async (client) => {
    const run = await hold(client, runId)
    if (run?.state !== 'queued' && run?.state !== 'running') return undefined
    if (run.state === 'running') await endAttempt(client, { runId, attempt: run.attempt }, 'lost')
    if (run.cancelRequested) {
      await move(client, run, { state: 'cancelled' }, { kind: 'run-cancelled', data: { attempt: run.attempt } })
      return undefined
    }
    const data = { attempt: run.attempt + 1, workerId, from: run.state }
    const next = await move(client, run, { state: 'running', begins: true }, { kind: 'run-started', data })
    await client.query('INSERT INTO attempts (run_id, number, worker_id) VALUES ($1, $2, $3)', [
      runId,
      next.attempt,
      workerId,
    ])
    return { run: next, attempt: next.attempt }
  })
}

/** Ends an attempt; false where a later one has taken the run over, or the run is no longer running. */
export function end(pool: pg.Pool, fence: Fence, outcome: Outcome): Promise<boolean> {
  return transaction(pool, async (client) => {
    const run = await hold(client, fence.runId)
    if (run?.state !== 'running' || run.attempt !== fence.attempt) return false
    const how = outcome.state === 'queued' ? outcome.outcome : outcome.state
    await endAttempt(client, fence, how)
    // Who asked for a cancel need not wait for another attempt to see it.
    const state = outcome.state === 'queued' && run.cancelRequested ? 'cancelled' : outcome.state
    const failure = outcome.state === 'failed' ? outcome.failure : undefined
    const data = { attempt: fence.attempt, outcome: how, failure }
    await move(client, run, { state, failure }, { kind: `run-${state}`, data })
    return true
  })
}

/** Takes a paused run up again. */
export function resume(pool: pg.Pool, runId: string): Promise<Run> {
  return transaction(pool, async (client) => {
    const run = await hold(client, runId)
    if (!run) throw new NotFound(`there is no run ${runId}`, 'GET /v1/experiments lists what there is')
    if (run.state !== 'paused')
      throw new Conflict(`run ${runId} is ${run.state}`, 'only a paused run can be taken up again')
    return move(client, run, { state: 'queued' }, { kind: 'run-queued' })
  })
}

/** Cancels what waits at once, and asks who performs a running one to stop at its next step boundary. */
export function requestCancel(pool: pg.Pool, runId: string): Promise<Run> {
  return transaction(pool, async (client) => {
    const run = await hold(client, runId)
    if (!run) throw new NotFound(`there is no run ${runId}`, 'GET /v1/experiments lists what there is')
    if (isFinished(run.state))
      throw new Conflict(
        `run ${runId} has already ${run.state === 'cancelled' ? 'been cancelled' : run.state}`,
        'only a queued, running or paused run can be cancelled',
      )
    if (run.state !== 'running') return move(client, run, { state: 'cancelled' }, { kind: 'run-cancelled' })
    await client.query('SELECT pg_notify($1, $2)', [channels.control, JSON.stringify({ runId, action: 'cancel' })])
    if (run.cancelRequested) return run
    const { rows } = await client.query<Run>(
      `UPDATE runs SET cancel_requested = true, version = version + 1 WHERE id = $1 RETURNING ${runColumns}`,
      [runId],
    )
    await record(client, { kind: 'cancel-requested', experimentId: run.experimentId, runId })
    await notifyRun(client, rows[0]!)
    return rows[0]!
  })
}
