import { inject } from 'vitest'

/** A Redis to test with: REDIS_TEST_URL, or the one test/global.ts started. Undefined where there is neither: skip. */
export function redisUrl(): string | undefined {
  return process.env.REDIS_TEST_URL ?? (inject('redisUrl') || undefined)
}
