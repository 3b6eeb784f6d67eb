/** What the backend has done since it began, or since this was last reset. */
export interface RecordingStats {
  /** Graphs run, and how many of them by programs. */
  runs: number
  programRuns: number
  /** Graphs compiled, since their structure had not been seen before or not for long. */
  compiles: number
  /** Graphs that are kept compiled now. */
  sessions: number
  /** Calls of kernels that the engine does not have, by kernel; tfjs computes them on its cpu backend. */
  fallbacks: Record<string, number>
  runMilliseconds: number
  compileMilliseconds: number
  /** For recording and recognising graphs. */
  traceMilliseconds: number
}

/** The same, less what is counted where it is kept. */
type Counts = Omit<RecordingStats, 'sessions'>

export const noCounts = (): Counts => ({
  runs: 0,
  programRuns: 0,
  compiles: 0,
  fallbacks: {},
  runMilliseconds: 0,
  compileMilliseconds: 0,
  traceMilliseconds: 0,
})
