import type { Session } from './runtime.ts'

/** A compiled graph: which leaves it is fed under which names, and the name of each root's result. */
export interface Compiled {
  session: Session
  /** By leaf; undefined where the graph does not need it. */
  feeds: (string | undefined)[]
  names: string[]
  outputs: string[]
}

/** Compiled graphs by structure; those not used for longest are closed when there are more than `limit`. */
export class Sessions {
  private readonly byKey = new Map<string, Compiled>()
  private readonly limit: number

  constructor(limit: number) {
    this.limit = limit
  }

  get count(): number {
    return this.byKey.size
  }

  find(key: string): Compiled | undefined {
    const found = this.byKey.get(key)
    if (found) {
      this.byKey.delete(key)
      this.byKey.set(key, found)
    }
    return found
  }

  keep(key: string, compiled: Compiled): void {
    this.byKey.set(key, compiled)
    if (this.byKey.size <= this.limit) return
    const [oldest, { session }] = this.byKey.entries().next().value!
    this.byKey.delete(oldest)
    session.close()
  }

  close(): void {
    for (const { session } of this.byKey.values()) session.close()
    this.byKey.clear()
  }
}
