import { setTimeout as sleep } from 'node:timers/promises'

/** Repeats `check` until it does not throw, at most `milliseconds`; then throws its last error. Returns its value. */
export async function eventually<T>(check: () => T | Promise<T>, milliseconds = 10_000): Promise<T> {
  const end = Date.now() + milliseconds
  for (;;) {
    try {
      return await check()
    } catch (error) {
      if (Date.now() > end) throw error
      await sleep(25)
    }
  }
}
