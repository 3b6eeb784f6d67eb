import { setTimeout as sleep } from 'node:timers/promises'
import { isPassing } from './s3-faults.ts'

/** How long an object store may be away, and slow, before it is given up. */
export interface Persistence {
  /** From a failure on, what failed is tried again for so long; 0: never. */
  patienceSeconds: number
  /** A connection on which nothing moves for so long is given up. */
  silenceSeconds: number
  /** Before the first time; each further pause is twice as long, up to 5 s. */
  pauseSeconds: number
  /** Told of each failure that is waited out. */
  onWait?: (error: Error) => void
}

const longestPause = 5

/** Counts the failures of one undertaking. */
export class Tries {
  private readonly persistence: Persistence
  private since: number | undefined
  private pause = 0

  constructor(persistence: Persistence) {
    this.persistence = persistence
  }

  /** Waits before another try; throws the error where there shall be none. */
  async failed(error: unknown): Promise<void> {
    const { patienceSeconds, pauseSeconds, onWait } = this.persistence
    this.since ??= Date.now()
    this.pause = Math.min(this.pause * 2 || pauseSeconds, longestPause)
    if (!isPassing(error) || Date.now() + this.pause * 1000 > this.since + patienceSeconds * 1000) throw error
    onWait?.(error as Error)
    // Many that wait for one store come back one after the other.
    await sleep(this.pause * 1000 * (0.5 + Math.random() / 2))
  }

  /** What was achieved meanwhile makes the next failure the first again. */
  succeeded(): void {
    this.since = undefined
    this.pause = 0
  }
}

/** Does what may safely be done twice until it works, within bounds. */
export async function again<T>(persistence: Persistence, work: () => Promise<T>): Promise<T> {
  const tries = new Tries(persistence)
  for (;;)
    try {
      return await work()
    } catch (error) {
      await tries.failed(error)
    }
}
