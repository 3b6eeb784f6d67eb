import type { Program } from './programs.ts'
import type { Session } from './runtime.ts'

/** A graph as a session: which leaves it is fed under which names, and the name of each root's result. */
export interface CompiledSession {
  session: Session
  /** By leaf; undefined where the graph does not need it. */
  feeds: (string | undefined)[]
  names: string[]
  outputs: string[]
  readonly kind: 'session'
  close(): void
}

/** A compiled graph. */
export type Compiled = Program | CompiledSession

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
    const [oldest, compiled_] = this.byKey.entries().next().value!
    this.byKey.delete(oldest)
    compiled_.close()
  }

  close(): void {
    for (const compiled of this.byKey.values()) compiled.close()
    this.byKey.clear()
  }
}
