import type { Config } from '../config.ts'
import type { Logger, StopReason } from '../experiments/context.ts'
import type { Failure } from '../experiments/run.ts'
import type { Fence, Ledger, Run } from '../store/ledger.ts'
import { type Child, type Ending, startChild } from './child-process.ts'
import { crashFailure, mostLosses, retryDelay, vanishedFailure } from './failures.ts'
import { patiently } from './patience.ts'
import type { Queue } from './queue.ts'

export interface SupervisorOptions {
  workerId: string
  ledger: Ledger
  queue: Queue
  /** Handed to the children. */
  config: Config
  environment: NodeJS.ProcessEnv
  log: Logger
  /** How long a child that was asked to stop may take to its next step boundary and checkpoint. */
  graceSeconds?: number
}

export interface Supervisor {
  /** Performs the run of a job, if it still waits to be performed; returns when its attempt has ended. */
  handle(job: { runId: string }): Promise<void>
  /** Asks the child of a run to stop at the next step boundary; nothing where the run is not performed here. */
  stop(runId: string, reason: StopReason): void
  /** What is performed here now. */
  running(): Fence[]
  /** Takes no more runs, stops the children and releases their runs; returns when all have ended. */
  shutdown(): Promise<void>
}

/** A run that is performed here, from the moment its job is delivered. */
interface Live {
  attempt: number
  child?: Child
  reason?: StopReason
  killer?: NodeJS.Timeout
}

type Outcome = Parameters<Ledger['end']>[1]

/** What being stopped for a reason makes of a run; another attempt writes the state of one that is superseded. */
const stopped: Record<StopReason, Outcome | undefined> = {
  cancelled: { state: 'cancelled' },
  paused: { state: 'paused' },
  'shutting-down': { state: 'queued', outcome: 'released' },
  superseded: undefined,
}

export function startSupervisor(options: SupervisorOptions): Supervisor {
  const { workerId, ledger, queue, config, environment, log, graceSeconds = 20 } = options
  const live = new Map<string, Live>()
  const halt = new AbortController()
  const written = <T>(work: () => Promise<T>) => patiently(work, log, halt.signal)

  function stop(runId: string, reason: StopReason): void {
    const place = live.get(runId)
    if (!place || place.reason) return
    place.reason = reason
    if (place.child) press(place, place.child, reason)
  }

  function press(place: Live, child: Child, reason: StopReason): void {
    child.tell({ type: 'stop', reason })
    place.killer = setTimeout(() => child.kill(), graceSeconds * 1000)
  }

  /** The attempt ended without an answer that would come again: another one follows, within bounds. */
  async function retry(runId: string, ending: Ending): Promise<{ outcome: Outcome; delay: number }> {
    const losses = (await written(() => ledger.losses(runId))) + 1
    const unavailable = ending.said?.type === 'failed' ? ending.said.failure : undefined
    if (losses >= mostLosses)
      return { outcome: { state: 'failed', failure: unavailable ?? crashFailure(ending, losses) }, delay: 0 }
    const delay = retryDelay(losses, unavailable ? 'unavailable' : 'crash')
    return { outcome: { state: 'queued', outcome: 'lost' }, delay }
  }

  async function judge(runId: string, place: Live, ending: Ending): Promise<{ outcome?: Outcome; delay: number }> {
    const { said } = ending
    if (said?.type === 'succeeded') return { outcome: { state: 'succeeded' }, delay: 0 }
    if (said?.type === 'superseded') return { delay: 0 }
    if (said?.type === 'failed' && !said.again) return { outcome: failed(said.failure), delay: 0 }
    if (said?.type === 'stopped') return { outcome: stopped[said.reason], delay: 0 }
    if (place.reason) return { outcome: stopped[place.reason], delay: 0 }
    return retry(runId, ending)
  }

  async function settle(run: Run, place: Live, outcome: Outcome | undefined, delay = 0): Promise<void> {
    const fence = { runId: run.id, attempt: place.attempt }
    if (!outcome || !(await written(() => ledger.end(fence, outcome))))
      return log.warn(`run ${run.id}: attempt ${place.attempt} was superseded`)
    log.info(`run ${run.id}: attempt ${place.attempt} ended: ${'outcome' in outcome ? outcome.outcome : outcome.state}`)
    if (outcome.state === 'queued') await queue.enqueue({ ...fence, priority: run.priority, delay })
  }

  async function performHere(run: Run, place: Live): Promise<void> {
    if (place.reason) return settle(run, place, stopped[place.reason])
    const losses = await written(() => ledger.losses(run.id))
    if (losses >= mostLosses) return settle(run, place, failed(vanishedFailure(losses)))
    const { id: runId, definition } = run
    const task = { type: 'perform', runId, attempt: place.attempt, definition, config } as const
    const child = startChild(task, environment, named(log, `run ${runId} attempt ${place.attempt}`))
    log.info(`run ${runId}: attempt ${place.attempt} started in process ${child.pid}`)
    place.child = child
    if (place.reason) press(place, child, place.reason)
    const ending = await child.ended
    clearTimeout(place.killer)
    if (!ending.said) log.warn(`run ${runId}: process ${child.pid} was lost (${ending.signal ?? ending.code})`)
    const { outcome, delay } = await judge(runId, place, ending)
    await settle(run, place, outcome, delay)
  }

  /**
   * A job may be delivered twice, and after an outage jobs come again whose children live. Whether a running attempt
   * is lost is for the reconciler to say, by its worker's heartbeats; so such a job is dropped here.
   */
  async function waits(runId: string): Promise<boolean> {
    const run = (await written(() => ledger.runs([runId]))).get(runId)
    return run?.state === 'queued'
  }

  return {
    async handle({ runId }) {
      if (halt.signal.aborted || live.has(runId)) return
      const place: Live = { attempt: 0 }
      live.set(runId, place)
      try {
        if (!(await waits(runId))) return
        const begun = await written(() => ledger.begin(runId, workerId))
        if (!begun) return
        place.attempt = begun.attempt
        await performHere(begun.run, place)
      } catch (error) {
        log.error(`run ${runId}: ${(error as Error).stack}`)
        throw error
      } finally {
        live.delete(runId)
      }
    },
    stop,
    running: () => [...live].map(([runId, { attempt }]) => ({ runId, attempt })),
    async shutdown() {
      halt.abort()
      for (const runId of live.keys()) stop(runId, 'shutting-down')
      await Promise.all([...live.values()].map((place) => place.child?.ended))
    },
  }
}

function failed(failure: Failure): Outcome {
  return { state: 'failed', failure }
}

function named(log: Logger, name: string): Logger {
  return {
    info: (text) => log.info(`${name}: ${text}`),
    warn: (text) => log.warn(`${name}: ${text}`),
    error: (text) => log.error(`${name}: ${text}`),
  }
}
