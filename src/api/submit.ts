import { createHash } from 'node:crypto'
import { Conflict, InvalidDefinition } from '../errors.ts'
import { parseDefinition } from '../experiments/definition.ts'
import { needsOf } from '../experiments/placement.ts'
import { assertRunnable, type Plan, planExperiment } from '../experiments/plan.ts'
import { openOrigins } from '../store/origins.ts'
import type { Span } from '../tracing.ts'
import { Refused } from './failures.ts'
import type { Log, Parts } from './parts.ts'

export interface Accepted {
  experimentId: string
  runIds: readonly string[]
  plan: Plan
  /** An earlier request with this key and definition was accepted; nothing was added. */
  replayed: boolean
}

/** The definition judged as every door judges it: faults of form first, then pairs that cannot be. */
export async function judgeDefinition(parts: Parts, value: unknown): Promise<Plan> {
  const { database, objects, bytes } = parts
  return planExperiment(parseDefinition(value), bytes, openOrigins({ pool: database.pool, objects }))
}

/** The same for any order of keys, so that a request sent again by another program is the same request. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, part: unknown) =>
    part !== null && typeof part === 'object' && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  )
}

const inFlight = new Set<string>()

function checkKey(key: string): void {
  if (/^[\x21-\x7e]{1,255}$/.test(key)) return
  const detail = 'is not 1 to 255 visible ASCII characters'
  throw new InvalidDefinition([{ pointer: '/idempotency-key', detail }], 'the request')
}

/** One request a key at a time in this process; another process waits for the row of the first. */
async function alone<T>(key: string | undefined, work: () => Promise<T>): Promise<T> {
  if (key === undefined) return work()
  checkKey(key)
  if (inFlight.has(key))
    throw new Conflict(`a request with the key '${key}' is still at work`, 'wait for its answer, or use a new key')
  inFlight.add(key)
  try {
    return await work()
  } finally {
    inFlight.delete(key)
  }
}

/** The queue only hears of what is committed; what it misses, the reconciler brings. */
function enqueue(parts: Parts, runIds: readonly string[], priority: number, log: Log, span: Span | undefined): void {
  const all = runIds.map((runId) =>
    parts.queue.enqueue({ runId, attempt: 0, priority }).catch((error: unknown) => {
      log.warn({ err: error, runId }, 'the queue did not take a run; the reconciler will bring it')
    }),
  )
  void Promise.all(all).then(() => span?.end())
}

/**
 * Accepts an experiment: returns when it is durable. Throws InvalidDefinition with every fault, Refused (422) where
 * the idempotency key was used for something else.
 */
export async function submitExperiment(
  parts: Parts,
  value: unknown,
  options: { key: string | undefined; log: Log; span?: Span | undefined },
): Promise<Accepted> {
  return alone(options.key, async () => {
    const plan = await judgeDefinition(parts, value)
    assertRunnable(plan.definition)
    const { definition, ...expected } = plan
    const { name, tags, notes, priority, from } = definition
    // As it was written: what it starts from may have a newer checkpoint when the request is sent again.
    const fingerprint = createHash('sha256')
      .update(canonical(parseDefinition(value)))
      .digest('hex')
    const key = options.key === undefined ? undefined : { key: options.key, fingerprint }
    // Attempts are parts of it, however often the run is taken up again.
    const span = options.span?.begin('enqueue runs', { kind: 'producer' })
    const { traceparent } = span ?? {}
    const needs = { ...needsOf(definition, plan.memoryBytes), software: parts.version }
    const submission = { name, tags, notes, priority, definition, plan: expected, needs, from, traceparent }
    const accepted = await parts.ledger.accept(submission, key).catch((error: unknown) => {
      span?.end(error)
      throw error
    })
    if ('mismatch' in accepted || accepted.replayed) span?.end()
    if ('mismatch' in accepted)
      throw new Refused(
        422,
        'key-reused',
        `the key '${options.key}' was used for another definition`,
        'send the same definition again, or use a new key',
      )
    const { experimentId, runIds, replayed } = accepted
    if (!replayed) enqueue(parts, runIds, priority, options.log, span)
    return { experimentId, runIds, plan, replayed }
  })
}
