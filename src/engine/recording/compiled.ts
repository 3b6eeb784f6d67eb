import type { Compiled } from './computer.ts'

/** Compiled graphs by structure; those not used for longest are closed when there are more than `limit`. */
export class CompiledGraphs {
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
    const [oldest, last] = this.byKey.entries().next().value!
    this.byKey.delete(oldest)
    last.close()
  }

  close(): void {
    for (const compiled of this.byKey.values()) compiled.close()
    this.byKey.clear()
  }
}
