/** Turns of the event loop that pass at once after something was asked of the device: what comes soon comes at once. */
const quickTurns = 16
/** Of the time since then, what one turn may take; and the longest, in milliseconds. */
const [share, longest] = [1 / 8, 1]

/**
 * Lets this thread rest while the device works. Dawn looks at every turn of the event loop whether something is done and
 * lets no turn wait, so that a thread which waits for a GPU would take a whole core: a core that the shader compiler,
 * a software device or another run has better use for.
 */
export class Rest {
  private readonly cell = new Int32Array(new SharedArrayBuffer(4))
  private waiting = 0
  private turns = 0
  private since = 0
  private running = false

  /** The same promise: until it is settled the thread rests in turns in which it has nothing to do. */
  until<T>(told: Promise<T>): Promise<T> {
    this.waiting++
    this.begin()
    const done = () => {
      this.waiting--
      this.begin()
    }
    told.then(done, done)
    if (!this.running) {
      this.running = true
      setImmediate(() => this.turn())
    }
    return told
  }

  private begin(): void {
    this.turns = 0
    this.since = performance.now()
  }

  private turn(): void {
    if (this.waiting === 0) {
      this.running = false
      return
    }
    if (++this.turns > quickTurns)
      Atomics.wait(this.cell, 0, 0, Math.min(longest, share * (performance.now() - this.since)))
    setImmediate(() => this.turn())
  }
}
