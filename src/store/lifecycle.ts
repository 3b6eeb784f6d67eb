import type pg from 'pg'
import { Conflict, NotFound } from '../errors.ts'
import { type Failure, isFinished, moves } from '../experiments/run.ts'
import { type EventRow, record } from './events.ts'
import { isId } from './id.ts'
import { channels, notifyRun } from './listen.ts'
import { transaction } from './pool.ts'
import { type Fence, type Run, runColumns } from './rows.ts'
import { count, measured } from './tallies.ts'

/** How an attempt ended, and what becomes of its run. */
export type Outcome =
  | { state: 'succeeded' | 'cancelled' | 'paused' }
  | { state: 'failed'; failure: Failure }
  /** `reason`: why it is given back, which the run's log and the attempt tell. */
  | { state: 'queued'; outcome: 'released' | 'lost'; reason?: string }

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

async function endAttempt(client: pg.ClientBase, fence: Fence, outcome: string, reason?: string): Promise<void> {
  const { rows } = await client.query<{ seconds: number }>(
    `UPDATE attempts SET ended_at = now(), outcome = $3::attempt_outcome, reason = $4 WHERE run_id = $1 AND number = $2
     RETURNING extract(epoch FROM now() - started_at)::float8 AS seconds`,
    [fence.runId, fence.attempt, outcome, reason ?? null],
  )
  for (const { seconds } of rows)
    await count(client, [{ name: 'jobs-completed', label: outcome }, measured('job-duration-seconds', seconds)])
}

/** Behind what the attempt said itself, in the run's own log. */
async function sayLast(client: pg.ClientBase, { runId, attempt }: Fence, text: string): Promise<void> {
  await client.query(
    `INSERT INTO run_log (run_id, attempt, number, time, level, text)
     SELECT $1, $2, coalesce(max(number), 0) + 1, now(), 'warn', $3 FROM run_log WHERE run_id = $1 AND attempt = $2`,
    [runId, attempt, text],
  )
}

/** An attempt has begun: how long its run waited, and why it is not the first. */
async function countBegin(client: pg.ClientBase, run: Run, next: Run): Promise<void> {
  const { rows } = await client.query<{ seconds: number; reason: string | null }>(
    `SELECT extract(epoch FROM now() - $3::timestamptz)::float8 AS seconds,
       (SELECT outcome FROM attempts WHERE run_id = $1 AND number = $2) AS reason`,
    [run.id, run.attempt, next.queuedAt],
  )
  const { seconds, reason } = rows[0]!
  await count(client, [
    ...(run.state === 'queued' ? [measured('job-queue-wait-seconds', seconds)] : []),
    ...(reason === null ? [] : [{ name: 'job-retries', label: reason } as const]),
  ])
}

/** Whether the current attempt of a run was begun by this worker. */
async function isOf(client: pg.ClientBase, run: Run, workerId: string): Promise<boolean> {
  const { rows } = await client.query<{ workerId: string | null }>(
    'SELECT worker_id AS "workerId" FROM attempts WHERE run_id = $1 AND number = $2',
    [run.id, run.attempt],
  )
  return rows[0]?.workerId === workerId
}

/**
 * Begins the next attempt of a run that is queued, or that this very worker began and knows nothing of: from here on
 * every write of that earlier attempt is refused. Undefined where there is nothing to do: finished, paused, unknown, or
 * performed elsewhere (whether that worker is lost is for the reconciler to say, by its heartbeats).
 */
export function begin(
  pool: pg.Pool,
  runId: string,
  workerId: string,
): Promise<{ run: Run; attempt: number } | undefined> {
  return transaction(pool, async (client) => {
    const run = await hold(client, runId)
    if (run?.state !== 'queued' && run?.state !== 'running') return undefined
    if (run.state === 'running' && !(await isOf(client, run, workerId))) return undefined
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
    await countBegin(client, run, next)
    return { run: next, attempt: next.attempt }
  })
}

/** Ends an attempt; false where a later one has taken the run over, or the run is no longer running. */
export function end(pool: pg.Pool, fence: Fence, outcome: Outcome): Promise<boolean> {
  return transaction(pool, async (client) => {
    const run = await hold(client, fence.runId)
    if (run?.state !== 'running' || run.attempt !== fence.attempt) return false
    const how = outcome.state === 'queued' ? outcome.outcome : outcome.state
    const reason = outcome.state === 'queued' ? outcome.reason : undefined
    await endAttempt(client, fence, how, reason)
    if (reason !== undefined) await sayLast(client, fence, reason)
    // Who asked for a cancel need not wait for another attempt to see it.
    const state = outcome.state === 'queued' && run.cancelRequested ? 'cancelled' : outcome.state
    const failure = outcome.state === 'failed' ? outcome.failure : undefined
    const data = { attempt: fence.attempt, outcome: how, failure, reason }
    await move(client, run, { state, failure }, { kind: `run-${state}`, data })
    if (state === 'queued') await count(client, [{ name: 'jobs-enqueued' }])
    return true
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
