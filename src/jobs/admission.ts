import type { Logger } from '../experiments/context.ts'
import {
  gpuLeft,
  type Load,
  type Needs,
  type Offer,
  whyNoRoom,
  whyUnfit,
  whyUnreadable,
} from '../experiments/placement.ts'
import type { GpuState } from '../store/rows.ts'
import { gpuPause } from './failures.ts'
import type { GpuUsage } from './gpu-watch.ts'

/** A run as far as it is judged here. */
type Wanting = { id: string; priority: number; needs: Partial<Needs> }

/** What is at work here, as far as it takes room. */
type Live = readonly Load[]

export interface AdmissionOptions {
  /** What this worker has; without it every run is taken. */
  offer?: Offer
  /** Of this software. */
  version?: string
  log: Logger
}

/** Runs of which is known that they were left to others. */
const mostRemembered = 1000

/**
 * For how long runs may be preferred to one that would have had its turn, because they are smaller and find room where
 * it does not.
 */
const overtakingSeconds = 600

/** Which runs a worker takes: it has what they need, and has it left. */
export class Admission {
  private readonly options: AdmissionOptions
  /** Why runs were left to others: said once. */
  private readonly declined = new Map<string, string>()
  /** Runs that this version cannot read: it does not call for them. */
  private readonly unreadable = new Set<string>()
  private usage: GpuUsage = {}
  /** Why the GPU did not serve, how often in a row, and until when no run is taken: all of them compute on it. */
  private fault: { reason: string; times: number; until: number } | undefined
  /** Runs that found no room on the GPU, which others had a part of, and until when each is not tried again. */
  private readonly crowded = new Map<string, number>()
  /** The run whose turn it is, and which has no room here beside what is at work. */
  private squeezed: { run: Wanting; since: number } | undefined

  constructor(options: AdmissionOptions) {
    this.options = options
  }

  /** Whether every run is taken. */
  get open(): boolean {
    return this.options.offer === undefined
  }

  /** Whether a run is taken; where it is not, the log says why, once. */
  admits(run: Wanting & { definition: unknown }, live: Live): boolean {
    const { version = '', log } = this.options
    const offer = this.offerNow()
    if (!offer) return true
    const unreadable = whyUnreadable(run.definition, run.needs, version)
    const unfit = [...whyUnfit(run.needs, offer), ...(unreadable ? [unreadable] : [])].join('; ')
    const reason = unfit || this.whyFull(run, offer, live)
    if (!reason) {
      this.declined.delete(run.id)
      if (this.squeezed?.run.id === run.id) this.squeezed = undefined
      return true
    }
    // What is left changes all the time.
    const kind = reason.replace(/\d+\.\d/g, '')
    if (this.declined.get(run.id) !== kind) log.info(`run ${run.id} is left to another worker: ${reason}`)
    if (this.declined.size >= mostRemembered) this.declined.clear()
    if (this.unreadable.size >= mostRemembered) this.unreadable.clear()
    if (unreadable) this.unreadable.add(run.id)
    this.declined.set(run.id, kind)
    return false
  }

  /** Of runs that wait, in their order, those that there is room for now, at most as many as could begin. */
  couldTake<R extends Wanting>(waiting: readonly R[], live: Live, free: number): R[] {
    const offer = this.offerNow()
    if (!offer || free <= 0) return []
    const fitting = waiting.filter(({ id, needs }) => this.isDue(id) && whyUnfit(needs, offer).length === 0)
    const first = fitting.find((run) => this.isSqueezed(run, offer, live))
    if (first?.id !== this.squeezed?.run.id) this.squeezed = first && { run: first, since: Date.now() }
    const welcome = fitting.filter((run) => !this.whyFull(run, offer, live))
    const [next] = welcome
    // Whoever came with it would take its place.
    if (next && this.crowded.has(next.id)) return [next]
    return welcome.filter(({ id }) => !this.crowded.has(id)).slice(0, free)
  }

  /** Whether a run that waits may begin here now, as far as it goes by what happened before. */
  private isDue(runId: string): boolean {
    return !this.unreadable.has(runId) && (this.crowded.get(runId) ?? 0) <= Date.now()
  }

  /** A run as it counts here. */
  load({ id, needs }: Pick<Wanting, 'id' | 'needs'>): Load {
    return this.crowded.has(id) ? { ...needs, alone: true } : needs
  }

  /**
   * A run found no room on the GPU beside others: it is taken again where it is alone, and its turn comes in so many
   * seconds.
   */
  foundNoRoom(run: Wanting, seconds: number): void {
    const [oldest] = this.crowded.keys()
    if (oldest !== undefined && this.crowded.size >= mostRemembered) this.crowded.delete(oldest)
    this.crowded.set(run.id, Date.now() + seconds * 1000)
    this.squeezed ??= { run, since: Date.now() }
  }

  /** A run has come to an end here. */
  ended(runId: string): void {
    this.crowded.delete(runId)
  }

  measured(usage: GpuUsage): void {
    this.usage = usage
  }

  /** The GPU, for those who look at this worker: a fault stands until a run finds that it serves again. */
  gpu(live: Live): GpuState {
    const { utilisation, usedBytes, freeBytes } = this.usage
    const offer = this.offerNow()
    const left = offer && gpuLeft(offer, live, freeBytes)
    const measured = { gpuUsedBytes: usedBytes ?? null, gpuUtilisation: utilisation ?? null }
    return { ...measured, gpuFreeBytes: left ?? null, gpuFault: this.fault?.reason ?? null }
  }

  /** A run found that the GPU does not serve, or lost it: none is taken for so many seconds. */
  gpuFailed(reason: string): number {
    const times = (this.fault?.times ?? 0) + 1
    const seconds = gpuPause(times)
    this.fault = { reason, times, until: Date.now() + seconds * 1000 }
    return seconds
  }

  gpuServed(): void {
    this.fault = undefined
  }

  /** Without the GPU for a while after that did not serve. */
  private offerNow(): Offer | undefined {
    const { offer } = this.options
    if (!offer || !this.fault || Date.now() >= this.fault.until) return offer
    return { ...offer, gpu: false, gpuFault: this.fault.reason }
  }

  /** Whether a run has no room beside what is at work, and would have it alone, as far as other programs leave it. */
  private isSqueezed(run: Wanting, offer: Offer, live: Live): boolean {
    const { freeBytes } = this.usage
    const needs = this.load(run)
    const ours = (gpuLeft(offer, []) ?? 0) - (gpuLeft(offer, live) ?? 0)
    const alone = freeBytes === undefined ? undefined : freeBytes + ours
    return !!whyNoRoom(needs, offer, live, freeBytes) && !whyNoRoom(needs, offer, [], alone)
  }

  /** Why there is no room for a run; one that is overtaken for too long has the room kept for it. */
  private whyFull(run: Wanting, offer: Offer, live: Live): string | undefined {
    const { id, priority } = run
    const noRoom = whyNoRoom(this.load(run), offer, live, this.usage.freeBytes)
    const { squeezed } = this
    if (noRoom || !squeezed || squeezed.run.id === id || priority > squeezed.run.priority) return noRoom
    if (Date.now() - squeezed.since < overtakingSeconds * 1000) return undefined
    return `room is kept for run ${squeezed.run.id}, which has waited for it long enough`
  }
}
