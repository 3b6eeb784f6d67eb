import { gibibytes } from '../errors.ts'
import { driverBytes } from '../experiments/placement.ts'
import type { Failure } from '../experiments/run.ts'
import { gpuPause, retryDelay } from './failures.ts'
import type { GpuUsage } from './gpu-watch.ts'

/** Who else had a part of a GPU on which a run found no room. */
export interface Crowd {
  /** Most of our runs that were at work there at once, beside it. */
  beside: number
  /** Of the card's memory, where it was alone among ours: all, and what other programs leave. */
  card?: { all: number; free: number }
}

/** Others leave some of every card to nobody: a desktop, a driver. Below this share of it they are not to blame. */
const sharesThatMatter = 0.1

/**
 * Who else had a part of the GPU; undefined where nobody had one that matters, or nobody knows. `usage` is of a moment at
 * which none of our runs was at work there.
 */
export function crowdOf(beside: number, { usedBytes, freeBytes }: GpuUsage): Crowd | undefined {
  if (beside > 0) return { beside }
  if (usedBytes === undefined || freeBytes === undefined) return undefined
  const all = usedBytes + freeBytes
  if (usedBytes - driverBytes(all) <= sharesThatMatter * all) return undefined
  return { beside, card: { all, free: freeBytes } }
}

const runs = (n: number) => `${n} other run${n === 1 ? '' : 's'}`

/** Seconds before another attempt. Programs that are not ours may stay for long; other workers may have more room. */
export function crowdedDelay({ card }: Crowd, losses: number): number {
  return card ? gpuPause(losses) : retryDelay(losses, 'crash')
}

/** Why an attempt is given back, for the run's owner. */
export function crowdedReason({ beside, card }: Crowd, delay: number): string {
  if (!card) return `it found no room on the GPU beside ${runs(beside)}; it is taken again once it is alone there`
  const left = `of whose ${gibibytes(card.all)} other programs left ${gibibytes(card.free)} free`
  return `it found no room on the GPU, ${left}; it is tried again in ${delay} s`
}

/** What becomes of a run that found no room `losses` times in a row, the last time in such a crowd. */
export function crowdedFailure({ code, message, cure }: Failure, { beside, card }: Crowd, losses: number): Failure {
  const times = `${losses} times in a row without a newer checkpoint`
  if (!card) return { code, message: `${message}; it was beside ${runs(beside)}, the last of ${times}`, cure }
  const free = `of the card's ${gibibytes(card.all)}, ${gibibytes(card.free)} were free, for other programs had the rest`
  return {
    ...{ code, message: `${message}; ${free}, the last of ${times}` },
    cure: `end the other programs on that GPU, or compute on another one; or ${cure}`,
  }
}
