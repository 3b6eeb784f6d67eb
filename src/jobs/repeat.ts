/** Does `work` at once and then again `seconds` after each end, until closed; `onError` is told of failures. */
export function repeat(
  seconds: number,
  work: () => Promise<void>,
  onError: (error: unknown) => void,
): { close(): Promise<void> } {
  let closed = false
  let timer: NodeJS.Timeout | undefined
  let now = turn()

  async function turn(): Promise<void> {
    try {
      await work()
    } catch (error) {
      if (!closed) onError(error)
    }
    if (!closed)
      timer = setTimeout(() => {
        now = turn()
      }, seconds * 1000)
  }

  return {
    /** Returns when the turn under way is over. */
    async close() {
      closed = true
      clearTimeout(timer)
      await now
    },
  }
}
