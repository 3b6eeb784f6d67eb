/** The place of the first that is no number (NaN or infinite); -1 where all are numbers. */
export function firstLost(values: ArrayLike<number>): number {
  for (let i = 0; i < values.length; i++) if (!Number.isFinite(values[i])) return i
  return -1
}
