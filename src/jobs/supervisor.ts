import type { EngineChoice } from '../engine/choice.ts'
import type { Logger, StopReason } from '../experiments/context.ts'
import type { Load } from '../experiments/placement.ts'
import type { Failure } from '../experiments/run.ts'
import type { Fence, Ledger, Outcome, Run } from '../store/ledger.ts'
import type { GpuState } from '../store/rows.ts'
import type { Waiting } from '../store/workers.ts'
import { type Span, type Tracing, untraced } from '../tracing.ts'
import { Admission, type AdmissionOptions } from './admission.ts'
import { type Child, type Ending, startChild } from './child-process.ts'
import { crowdedDelay, crowdedFailure, crowdedReason, crowdOf } from './crowded.ts'
import { crashFailure, memoryCure, memoryFailure, mostLosses, retryDelay, vanishedFailure } from './failures.ts'
import type { GpuUsage } from './gpu-watch.ts'
import type { ChildConfig } from './messages.ts'
import { patiently } from './patience.ts'
import type { Queue } from './queue.ts'

export interface SupervisorOptions extends AdmissionOptions {
  workerId: string
  ledger: Ledger
  queue: Queue
  config: Omit<ChildConfig, 'objectsPatienceSeconds'>
  /** What the worker found to work; without it each child chooses for itself. */
  choice?: EngineChoice
  /** Measures the GPU that its runs compute on, where it can be measured. */
  lookAtGpu?: (() => Promise<GpuUsage>) | undefined
  environment: NodeJS.ProcessEnv
  /** Nothing is traced without. */
  tracing?: Tracing
  /** How long a child that was asked to stop may take to its next step boundary and checkpoint. */
  graceSeconds?: number
  /** As long as the database is waited for: a run would lose more than that by beginning again. Default 120. */
  objectsPatienceSeconds?: number
}

/** A run that is performed here, from the moment its job is delivered. */
interface Live {
  attempt: number
  /** Once it is clear that this worker takes it. */
  load?: Load
  span?: Span
  /** While it is at work. */
  child?: Child | undefined
  /** Most others that were at work at once while it was. */
  beside: number
  reason?: StopReason
  killer?: NodeJS.Timeout
}

/** What becomes of a run whose attempt is over; undefined where another attempt writes that. */
interface Verdict {
  outcome: Outcome | undefined
  /** Seconds before a next attempt. */
  delay?: number
  /** Whether the next one here has the GPU for itself. */
  alone?: true
}

const released: Outcome = { state: 'queued', outcome: 'released' }

/** What being stopped for a reason makes of a run. */
const stopped: Record<StopReason, Outcome | undefined> = {
  cancelled: { state: 'cancelled' },
  paused: { state: 'paused' },
  'shutting-down': released,
  superseded: undefined,
}

function childConfig({ config, choice, objectsPatienceSeconds = 120 }: SupervisorOptions): ChildConfig {
  const {
    home,
    databaseUrl,
    s3,
    secret,
    publicUrl,
    datasetFolders,
    engine,
    gpu,
    enginePlaces,
    engineThreads,
    tracing,
  } = config
  const settings = { gpu, enginePlaces, engineThreads }
  const chosen = { engine: choice?.engine.name ?? engine, ...settings, passedOver: choice?.rejected }
  return { home, databaseUrl, s3, secret, publicUrl, datasetFolders, tracing, objectsPatienceSeconds, ...chosen }
}

function failed(failure: Failure): Verdict {
  return { outcome: { state: 'failed', failure } }
}

function named(log: Logger, name: string): Logger {
  return {
    info: (text) => log.info(`${name}: ${text}`),
    warn: (text) => log.warn(`${name}: ${text}`),
    error: (text) => log.error(`${name}: ${text}`),
  }
}

/** Performs runs, each in a child process, and writes what became of them. */
export class Supervisor {
  private readonly options: SupervisorOptions
  private readonly live = new Map<string, Live>()
  private readonly admission: Admission
  private readonly halt = new AbortController()

  constructor(options: SupervisorOptions) {
    this.options = options
    this.admission = new Admission(options)
  }

  /**
   * Performs the run of a job, if it still waits to be performed; returns when its attempt has ended. A job may be
   * delivered twice, and after an outage jobs come again whose children live: such a job is dropped. That of a run for
   * which this worker lacks something is given back.
   */
  async handle({ runId }: { runId: string }): Promise<'given back' | undefined> {
    const { ledger, workerId, log } = this.options
    if (this.halt.signal.aborted || this.live.has(runId)) return
    const place: Live = { attempt: 0, beside: 0 }
    this.live.set(runId, place)
    try {
      if (!(await this.suits(runId, place))) return 'given back'
      const begun = await this.patiently(() => ledger.begin(runId, workerId))
      if (!begun) return
      place.attempt = begun.attempt
      place.span = this.trace(begun.run, begun.attempt)
      await this.settle(begun.run, place, await this.attempt(begun.run, place))
    } catch (error) {
      log.error(`run ${runId}: ${(error as Error).stack}`)
      place.span?.end(error)
      throw error
    } finally {
      clearTimeout(place.killer)
      this.live.delete(runId)
    }
  }

  /** Whether this worker has what a run needs, and has it left. */
  private async suits(runId: string, place: Live): Promise<boolean> {
    if (this.admission.open) return true
    const run = (await this.patiently(() => this.options.ledger.runs([runId]))).get(runId)
    if (run?.state !== 'queued') return true
    if (!this.admission.admits(run, this.others(runId))) return false
    place.load = this.admission.load(run)
    return true
  }

  private others(runId?: string): Load[] {
    return [...this.live].flatMap(([id, { load }]) => (load && id !== runId ? [load] : []))
  }

  /** Of runs that wait, those that this worker has room for now, at most as many as it could begin. */
  couldTake<R extends Waiting>(waiting: readonly R[], concurrency: number): R[] {
    const others = waiting.filter(({ id }) => !this.live.has(id))
    return this.admission.couldTake(others, this.others(), concurrency - this.live.size)
  }

  /** Takes in how the GPU is, and lets the runs at work know. */
  measured(usage: GpuUsage): void {
    this.admission.measured(usage)
    for (const { child } of this.live.values()) child?.tell({ type: 'gpu', usage })
  }

  /** The GPU, for those who look at this worker. */
  gpu(): GpuState {
    return this.admission.gpu(this.others())
  }

  /** Asks the child of a run to stop at the next step boundary; nothing where the run is not performed here. */
  stop(runId: string, reason: StopReason): void {
    const place = this.live.get(runId)
    if (!place || place.reason) return
    place.reason = reason
    if (place.child) this.press(place, place.child, reason)
  }

  /** What is performed here now; attempt 0 is about to begin. */
  running(): Fence[] {
    return [...this.live].map(([runId, { attempt }]) => ({ runId, attempt }))
  }

  /** Takes no more runs, stops the children and releases their runs; returns when all children have ended. */
  async shutdown(): Promise<void> {
    this.halt.abort()
    for (const runId of this.live.keys()) this.stop(runId, 'shutting-down')
    await Promise.all([...this.live.values()].map((place) => place.child?.ended))
  }

  private patiently<T>(work: () => Promise<T>): Promise<T> {
    return patiently(work, this.options.log, this.halt.signal)
  }

  private trace({ id, traceparent, queuedAt }: Run, attempt: number): Span {
    const waited = (Date.now() - queuedAt.getTime()) / 1000
    const attributes = { 'gestalt.run.id': id, 'gestalt.attempt': attempt, 'gestalt.queue.wait': waited }
    return (this.options.tracing ?? untraced).begin('attempt', traceparent, { kind: 'consumer', attributes })
  }

  private press(place: Live, child: Child, reason: StopReason): void {
    child.tell({ type: 'stop', reason })
    place.killer = setTimeout(() => child.kill(), (this.options.graceSeconds ?? 20) * 1000)
  }

  /** Each of the runs at work may take of the GPU what another needs. */
  private countNeighbours(): void {
    const atWork = [...this.live.values()].filter(({ child }) => child)
    for (const place of atWork) place.beside = Math.max(place.beside, atWork.length - 1)
  }

  private async attempt(run: Run, place: Live): Promise<Verdict> {
    const { id: runId, definition, needs } = run
    const { ledger, environment, log } = this.options
    if (place.reason) return { outcome: stopped[place.reason] }
    const losses = await this.patiently(() => ledger.losses(runId))
    if (losses >= mostLosses) return failed(vanishedFailure(losses))
    const { attempt } = place
    const { traceparent } = place.span ?? {}
    const config = childConfig(this.options)
    const gpu = needs.gpu === true || this.options.offer?.gpu === true
    const proven = losses === 0 ? this.options.choice : undefined
    const task = { type: 'perform', runId, attempt, definition, config, gpu, proven, traceparent } as const
    const surroundings = { environment, log: named(log, `run ${runId} attempt ${attempt}`) }
    const child = startChild(task, surroundings, ({ type }) => {
      if (type === 'on-gpu') this.admission.gpuServed()
    })
    log.info(`run ${runId}: attempt ${attempt} started in process ${child.pid}`)
    place.child = child
    this.countNeighbours()
    if (place.reason) this.press(place, child, place.reason)
    const ending = await child.ended
    place.child = undefined
    if (!ending.said) log.warn(`run ${runId}: process ${child.pid} was lost (${ending.signal ?? ending.code})`)
    if (!ending.said && ending.signal === 'SIGKILL' && !place.reason)
      log.warn(`run ${runId}: if nobody killed it, the system did for want of memory: ${memoryCure}`)
    return this.judge(run, place, ending)
  }

  private async judge(run: Run, place: Live, ending: Ending): Promise<Verdict> {
    const { said } = ending
    const { id: runId } = run
    const { reason } = place
    if (said?.type === 'succeeded') return { outcome: { state: 'succeeded' } }
    if (said?.type === 'superseded') return { outcome: undefined }
    if (said?.type === 'stopped') return { outcome: stopped[said.reason] }
    if (said?.type === 'lacks-gpu') return this.withoutGpu(runId, said.reason, reason)
    if (said?.type === 'failed' && !said.again)
      return said.gpuFull ? this.withoutRoom(run, place, said.failure) : failed(said.failure)
    if (reason) return { outcome: stopped[reason] }
    const memory = said ? undefined : memoryFailure(ending)
    if (memory) return memory.gpuFull ? this.withoutRoom(run, place, memory.failure) : failed(memory.failure)
    return this.retry(runId, ending)
  }

  /** For another worker, or for this one once its GPU serves again: it is never computed on the processor instead. */
  private withoutGpu(runId: string, fault: string, reason: StopReason | undefined): Verdict {
    const seconds = this.admission.gpuFailed(fault)
    this.options.log.warn(
      `run ${runId} is to compute on a GPU, and none does here now: ${fault}; it is left to others, and for ${seconds} s no run is taken here`,
    )
    return { outcome: reason ? stopped[reason] : released }
  }

  /** It may fail again: others get that run first. */
  private lostGpu(runId: string, fault: string): void {
    if (!this.options.offer?.gpu) return
    const seconds = this.admission.gpuFailed(fault)
    this.options.log.warn(`run ${runId}: ${fault}; for ${seconds} s no run is taken here`)
  }

  /** The GPU had no room. Where others had a part of it that is no fault of the run: within bounds it is tried again. */
  private async withoutRoom({ id: runId }: Run, place: Live, failure: Failure): Promise<Verdict> {
    if (!this.options.offer?.gpu) return failed(failure)
    const crowd = crowdOf(place.beside, place.beside > 0 ? {} : await this.lookAlone(place))
    if (!crowd) return failed(failure)
    if (place.reason) return { outcome: stopped[place.reason] }
    const losses = (await this.patiently(() => this.options.ledger.losses(runId))) + 1
    if (losses >= mostLosses) return failed(crowdedFailure(failure, crowd, losses))
    const delay = crowdedDelay(crowd, losses)
    const reason = crowdedReason(crowd, delay)
    this.options.log.warn(`run ${runId}: ${reason}: ${failure.message}`)
    return { outcome: { state: 'queued', outcome: 'lost', reason }, delay, alone: true }
  }

  /** How the GPU is while none of our runs computes there; empty where that cannot be known. */
  private async lookAlone(place: Live): Promise<GpuUsage> {
    place.load = { ...place.load, alone: true } // so that none is taken meanwhile
    const usage = await this.options.lookAtGpu?.()
    const alone = ![...this.live.values()].some(({ child }) => child)
    return alone && usage ? usage : {}
  }

  /** The attempt ended without an answer that would come again: another one follows, within bounds. */
  private async retry(runId: string, ending: Ending): Promise<Verdict> {
    if (ending.said?.type === 'failed' && ending.said.gpuLost) this.lostGpu(runId, ending.said.failure.message)
    const losses = (await this.patiently(() => this.options.ledger.losses(runId))) + 1
    const unavailable = ending.said?.type === 'failed' ? ending.said.failure : undefined
    if (losses >= mostLosses) return failed(unavailable ?? crashFailure(ending, losses))
    const delay = retryDelay(losses, unavailable ? 'unavailable' : 'crash')
    return { outcome: { state: 'queued', outcome: 'lost' }, delay }
  }

  private async settle(run: Run, { attempt, span }: Live, { outcome, delay, alone }: Verdict): Promise<void> {
    const { ledger, queue, log } = this.options
    const fence = { runId: run.id, attempt }
    span?.set({ 'gestalt.outcome': outcome ? ('outcome' in outcome ? outcome.outcome : outcome.state) : 'superseded' })
    span?.end(outcome?.state === 'failed' ? outcome.failure.message : undefined)
    if (!outcome || !(await this.patiently(() => ledger.end(fence, outcome))))
      return log.warn(`run ${run.id}: attempt ${attempt} was superseded`)
    log.info(`run ${run.id}: attempt ${attempt} ended: ${'outcome' in outcome ? outcome.outcome : outcome.state}`)
    if (outcome.state !== 'queued') return this.admission.ended(run.id)
    if (alone) this.admission.foundNoRoom(run, delay ?? 0)
    await queue.enqueue({ ...fence, priority: run.priority, delay })
  }
}
