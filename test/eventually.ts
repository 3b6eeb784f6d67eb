import { setTimeout as sleep } from 'node:timers/promises'

/**
 * Repeats `check` until it does not throw, at most `milliseconds`; then throws its last error, or at once an error with
 * `final: true`. Returns the value of `check`.
 */
export async function eventually<T>(check: () => T | Promise<T>, milliseconds = 10_000): Promise<T> {
  const end = Date.now() + milliseconds
  for (;;) {
    try {
      return await check()
    } catch (error) {
      if (Date.now() > end || (error as { final?: boolean }).final) throw error
      await sleep(25)
    }
  }
}
