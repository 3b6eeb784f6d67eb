import { gibibytes } from '../errors.ts'
import { driverBytes, hasNoGpu, type Needs, type Offer, whyUnfit } from './placement.ts'

/** A worker that is there, as one that waits sees it. */
export interface Seen {
  id?: string
  host?: string
  offer: Partial<Offer>
  concurrency: number
  runIds: readonly string[]
  /** What its GPU is. */
  gpuName?: string | null
  /** Bytes of its GPU that it could give a further run, as it said last. */
  gpuFreeBytes?: number | null
}

const soon = 'it is about to be taken'

/** Different reasons that are told; a lab may have many workers. */
const mostReasons = 8

/** Why a worker does not take a run that needs a GPU at this moment; undefined where it could. */
function whyNotNow(needs: Partial<Needs>, { offer, runIds, concurrency, ...worker }: Seen): string | undefined {
  const reasons = whyUnfit(needs, offer)
  if (reasons.length > 0) return reasons.join('; ')
  const name = worker.gpuName ?? 'its GPU'
  if (runIds.length >= concurrency) return `${name}: ${runIds.length} of ${concurrency} slots busy`
  const { gpuFreeBytes: free } = worker
  const wanted = needs.gpuMemory ?? (runIds.length > 0 ? (offer.gpuMemory ?? 0) / (offer.gpuSlots ?? 1) : 0)
  const kept = runIds.length === 0 ? driverBytes(offer.gpuMemory ?? 0) : 0
  if (free == null || free + kept >= Math.floor(wanted)) return undefined
  return `${name}: ${gibibytes(free)} of ${gibibytes(offer.gpuMemory ?? 0)} free`
}

/** Workers that lack the same, told in one: 'lab1 and 2 more (it has no GPU)'. */
function describe(reason: string, hosts: readonly string[]): string {
  const [first = '', second] = hosts
  const others = hosts.length === 2 ? second : `${hosts.length - 1} more`
  return `${hosts.length > 1 ? `${first} and ${others}` : first} (${reason})`
}

function whyWaitingForGpu(needs: Partial<Needs>, workers: readonly Seen[]): string {
  const hostsByReason = new Map<string, string[]>()
  for (const worker of workers) {
    const reason = whyNotNow(needs, worker)
    if (reason === undefined) return soon
    hostsByReason.set(reason, [...(hostsByReason.get(reason) ?? []), worker.host ?? 'one'])
  }
  const gpu = needs.gpuMemory === undefined ? 'a GPU' : `a GPU of ${gibibytes(needs.gpuMemory)} free`
  const waits = `it waits for a worker with ${gpu}`
  const lacking = hostsByReason.get(hasNoGpu)?.length ?? 0
  if (lacking > 1 && lacking === workers.length) return `${waits}; none of the ${lacking} workers here has one`
  const described = [...hostsByReason].map(([reason, hosts]) => describe(reason, hosts))
  const more = described.length > mostReasons ? ', and others' : ''
  return `${waits}; the workers here: ${described.slice(0, mostReasons).join(', ')}${more}`
}

/**
 * Why a run that is queued has not begun, for a person. `last`: its newest attempt, whose worker may have given it back
 * with a reason, and does not take it as others do.
 */
export function whyWaiting(
  needs: Partial<Needs>,
  workers: readonly Seen[],
  last?: { workerId: string | null; reason: string | null },
): string {
  const others = last?.reason ? workers.filter(({ id }) => id !== last.workerId) : workers
  const why = whyNotBegun(needs, others)
  return others.length === workers.length || why === soon ? why : last!.reason!
}

function whyNotBegun(needs: Partial<Needs>, workers: readonly Seen[]): string {
  if (workers.length === 0)
    return `no worker is there: start one with 'gestalt worker'${needs.gpu ? ' on a machine with a GPU' : ''}`
  if (needs.gpu) return whyWaitingForGpu(needs, workers)
  const fitting = workers.filter(({ offer }) => whyUnfit(needs, offer).length === 0)
  if (fitting.length === 0) {
    const reasons = [...new Set(workers.flatMap(({ offer }) => whyUnfit(needs, offer)))]
    const all =
      workers.length === 1 ? 'the only worker cannot take it' : `none of ${workers.length} workers can take it`
    return `${all}: ${reasons.join('; ')}`
  }
  const busy = fitting.filter(({ runIds, concurrency }) => runIds.length >= concurrency)
  if (busy.length < fitting.length) return soon
  return fitting.length === 1
    ? 'the worker that can take it is busy'
    : `all ${fitting.length} workers that can take it are busy`
}
