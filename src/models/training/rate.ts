/** Steps over which the rate shown to people is averaged, and between two reports of it as a metric. */
export const rateSteps = 20

/** Images a second, and the share of the time waited for batches, over the last steps. */
export function measureRate(batchSize: number) {
  const times = [performance.now()]
  const waits: number[] = []
  return {
    /** The clock starts anew: what went by was no training. */
    restart() {
      times.splice(0, times.length, performance.now())
      waits.length = 0
    },
    async waitFor<Result>(work: Promise<Result>): Promise<Result> {
      const began = performance.now()
      const result = await work
      waits.push(performance.now() - began)
      return result
    },
    tick() {
      times.push(performance.now())
      if (times.length > rateSteps + 1) times.shift()
      if (waits.length > rateSteps) waits.shift()
    },
    waitShare(): number {
      const all = times.at(-1)! - times[0]!
      return all > 0 ? Math.min(1, waits.reduce((sum, wait) => sum + wait, 0) / all) : 0
    },
    imagesPerSecond(): number | null {
      const seconds = (times.at(-1)! - times[0]!) / 1000
      return seconds > 0 ? ((times.length - 1) * batchSize) / seconds : null
    },
  }
}
